/**
 * What the cases of filter_cases.ts work on. The service's tables are those of fixture.ts, the frames those with other sources; the tables of the filters are in
 * a second file, FIXTURE.filters, which both sides read.
 *
 * That file, int32 little-endian: [magic, 1: filters and balancer, 0: parser alone; words of rules, of their index, of its sources, of its destinations, of
 * the set's slots, of its records; seed and mask of the set; 0 …], then these parts.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { parseConfig } from '../../src/control/config/index.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { IpSet } from '../../src/control/sets/index.js';
import { fold, sumBytes } from '../../src/dataplane/packet/checksum.js';
import { formatWords } from '../../src/shared/addr.js';
import type { Tables } from '../../src/shared/layout.js';
import { SetClockWord, type SetTable } from '../../src/shared/sets/index.js';
import type { FilterCase } from './filter_cases.js';
import { FRAME_BYTES, MAGIC, benchFrames, benchTables, writeFixture } from './fixture.js';

export const FILTER_HEADER_WORDS = 16;

/** Of the frames: source n is this address + n. */
const FIRST_SOURCE = 0x0a010000;
/** Where no flow comes from: 172.0.0.0 and on. */
const OTHER_SOURCE = 0xac000000;
/** Words of an IPv4 entry's record in a set. */
const SET_RECORD_WORDS = 4;

/** What rules in front of the last ask for: half fail at the port, a quarter at the source, a quarter at the protocol. */
const others = [
  (i: number) => `protocol: udp, src: 10.0.0.0/8, dport: ${10_000 + i}`,
  (i: number) => `protocol: udp, src: 203.${i >> 8}.${i & 255}.0/24`,
  (i: number) => `family: 4, dport: ${10_000 + i}-${20_000 + i}`,
  (i: number) => `protocol: tcp, dport: ${i + 1}`,
];

function rulesYaml(count: number, lastDrops: boolean): string {
  const rules = Array.from({ length: count }, (_, i) => {
    const isLast = i === count - 1 && lastDrops;
    const match = isLast ? 'protocol: udp, src: 10.0.0.0/8, dport: 443' : others[i % others.length](i);
    return `  - { name: rule-${i}, match: { ${match} }, action: drop }`;
  });
  return `interfaces: [{ name: net0 }]\nservices: []\nrules:\n${rules.join('\n')}`;
}

/** Flows that a source has: all sources are in the set where it drops, and there are as many as it has room for. */
function flowsOfSource({ setEntries, flows, ends }: FilterCase): number {
  return ends === 'set' ? Math.ceil(flows / setEntries) : 1;
}

/** UDP frames as those of `benchFrames`, but for their sources. */
export function filterFrames(bench: FilterCase): Uint8Array {
  const bytes = benchFrames(bench.flows);
  const view = new DataView(bytes.buffer);
  const each = flowsOfSource(bench);
  for (let n = 0; n < bench.flows; n++) {
    const at = n * FRAME_BYTES;
    view.setInt32(at + 26, (FIRST_SOURCE + Math.floor(n / each)) | 0);
    view.setUint16(at + 24, 0);
    view.setUint16(at + 24, ~fold(sumBytes(view, at + 14, 20)) & 0xffff);
  }
  return bytes;
}

/** A set of so many addresses: those of all sources, or of none, and others. */
function makeSet(bench: FilterCase): IpSet {
  const { setEntries, flows, ends } = bench;
  const set = new IpSet({ name: 'bench', type: 'hash:ip', maxelem: setEntries }, { seconds: () => 0 });
  const settle = set.startBulk();
  const add = (address: number): void => void set.add(formatWords(4, [address | 0, 0, 0, 0]), {}, true);
  if (ends === 'set') {
    const sources = Math.ceil(flows / flowsOfSource(bench));
    for (let n = 0; n < sources; n++) add(FIRST_SOURCE + n);
  }
  // In an order that no prefetcher follows.
  for (let i = 0; set.count < setEntries; i++) add(OTHER_SOURCE + (Math.imul(i, 0x9e3779b1) >>> 9));
  settle();
  return set;
}

const words = (buffer: SharedArrayBuffer | null): Int32Array => new Int32Array(buffer ?? new SharedArrayBuffer(0));

/** Writes both files. */
export function writeFilterFixture(path: string, bench: FilterCase): void {
  const { flows, flowSlots, rules, setEntries, ends } = bench;
  writeFixture(path, { flows, flowSlots });
  const fixture = openSync(path, 'r+');
  const frames = filterFrames(bench);
  const framesAt = readFileSync(path).length - frames.length;
  for (let done = 0; done < frames.length;)
    done += writeSync(fixture, frames, done, frames.length - done, framesAt + done);
  closeSync(fixture);

  const parts: Int32Array[] = Array.from({ length: 6 }, () => new Int32Array(0));
  const set = [0, 0];
  if (rules > 0) {
    const config = parseConfig(rulesYaml(rules, ends === 'rule'));
    const tables = new RuleShelf().build(config.rules, (name) => Number(name.slice('rule-'.length)));
    const index = tables.ruleIndex!;
    parts.splice(0, 4, ...[tables.rules, index.words, index.src4, index.dst4].map(words));
  }
  if (setEntries > 0) {
    const { ipv4 } = makeSet(bench).buffers;
    parts[4] = words(ipv4!.slots);
    // Entries are numbered from 1 on in the order in which they came.
    parts[5] = words(ipv4!.records).subarray(0, SET_RECORD_WORDS * (setEntries + 1));
    set.splice(0, 2, ipv4!.seed, ipv4!.mask[0]);
  }
  const header = new Int32Array(FILTER_HEADER_WORDS);
  header.set([MAGIC, ends === 'parser' ? 0 : 1, ...parts.map((part) => part.length), ...set]);
  const file = openSync(`${path}.filters`, 'w');
  for (const part of [header, ...parts]) {
    const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    for (let done = 0; done < bytes.length;) done += writeSync(file, bytes, done);
  }
  closeSync(file);
}

/** What FIXTURE.filters holds. */
export interface Filters {
  /** False: packets are parsed, and no more. */
  whole: boolean;
  /** As a worker adopts them, with the service of `benchTables`. */
  tables: Tables;
  /** Of the set, where there is one: packets found in it, and their bytes. */
  matches: Float64Array;
}

/** Throws when the file is none of these. */
export function readFilters(path: string): Filters {
  const bytes = readFileSync(`${path}.filters`);
  const file = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  if (file[0] !== MAGIC) throw new Error('those are no filters');
  let at = FILTER_HEADER_WORDS;
  const [rules, ruleIndex, src4, dst4, slots, records] = Array.from(file.subarray(2, 8), (length) => {
    const part = new SharedArrayBuffer(length * 4);
    new Int32Array(part).set(file.subarray(at, at + length));
    at += length;
    return part;
  });
  const tables: Tables = { ...benchTables(), ruleStamp: -1 };
  tables.filters = [...tables.filters.filter(({ kind }) => kind !== 'rules'), { kind: 'rules' }];
  const given = (part: SharedArrayBuffer): SharedArrayBuffer | null => (part.byteLength > 0 ? part : null);
  if (rules.byteLength > 0) {
    tables.rules = rules;
    tables.ruleIndex = { words: ruleIndex, src4: given(src4), src6: null, dst4: given(dst4), dst6: null };
  }
  const matches = new SharedArrayBuffer(16);
  if (slots.byteLength > 0) {
    const [seed, mask] = file.subarray(8, 10);
    const ipv4 = { records, slots, arena: null, roots: null, mask: [mask, 0, 0, 0], seed };
    const table: SetTable = {
      name: 'bench',
      buffers: { version: 1, type: 'hash:ip', ipv4, ipv6: null },
      counters: [null],
      matches: [matches],
    };
    const setClock = new SharedArrayBuffer(4 * SetClockWord.SIZE);
    Object.assign(tables, { sets: [table], setDrops: [{ set: 0, sides: 0 }], setAllows: [], setClock });
  }
  return { whole: file[1] !== 0, tables, matches: new Float64Array(matches) };
}

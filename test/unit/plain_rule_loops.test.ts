/** The loops that find, on the short way, which record a packet may match: each by itself, against the index. */
import { describe, expect, it } from 'vitest';
import { RuleIndex, Touched } from '../../src/dataplane/filter/rule_index.js';
import { Heading } from '../../src/dataplane/plain_heading.js';
import type { PlainHeaders } from '../../src/dataplane/plain_headers.js';
import { FindingCount, rowFinder, wordMeeter, type RuleFinding } from '../../src/dataplane/plain_rule_loops.js';
import { PortKey, ProtocolKey, RuleIndexHeader } from '../../src/shared/layout.js';
import { buildLpm } from '../../src/shared/lpm.js';
import { Lpm, lookupLpm4, NO_MATCH } from '../../src/shared/lpm_lookup.js';
import { BURSTS, chooser, emptyHeaders, pick, put, SEED, SLOTS, type Below } from '../support/plain_packets.js';

function emptyFinding(): RuleFinding {
  const array = () => new Int32Array(SLOTS).fill(0x5a5a5a);
  const [found, summaries, protocols, sports, dports] = Array.from({ length: 5 }, array);
  const [srcs, dsts, open, others] = Array.from({ length: 4 }, array);
  const counts = new Int32Array(FindingCount.SIZE).fill(7);
  return { found, summaries, protocols, sports, dports, srcs, dsts, open, others, counts };
}

/** Runs both loops; returns the positions that are left to the index's own way. */
function findAll(words: ArrayBuffer, src4: Int32Array, dst4: Int32Array, headers: PlainHeaders, count: number) {
  const finding = emptyFinding();
  const copy = { words: new Int32Array(words), halves: new Uint16Array(words), src4, dst4 };
  rowFinder(copy, headers, finding)(count);
  const meet = wordMeeter(copy, finding);
  let rounds = 0;
  for (let open = finding.counts[FindingCount.open]; open > 0 && rounds <= 32; rounds++) open = meet(open);
  const others = finding.others.slice(0, finding.counts[FindingCount.others]);
  return { finding, rounds, others: [...others].sort((a, b) => a - b) };
}

/** A table whose bucket of 16.0.0.0/4 is a run of these first addresses behind 16.0.0.0; what is behind the run would be taken for a part of it. */
function tableOfRun(starts: readonly number[]): Int32Array {
  const table = new Int32Array(Lpm.HEADER + 16 + 2 * 40).fill(Lpm.SIGN);
  table.fill(0, 0, Lpm.HEADER);
  table.fill(Lpm.VALUE_BIT, Lpm.HEADER, Lpm.HEADER + 16);
  const intervals = Lpm.HEADER + 16;
  table[Lpm.width] = 1;
  table[Lpm.rootBits] = 4;
  table[Lpm.intervals] = intervals;
  // Interval 3, so that a run that is taken to be the first shows; -1: an interval without a prefix.
  table[Lpm.HEADER + 1] = (starts.length << Lpm.RUN_SHIFT) | 3;
  [0x10000000, ...starts].forEach((start, k) => {
    table[intervals + 2 * (3 + k)] = start ^ Lpm.SIGN;
    table[intervals + 2 * (3 + k) + 1] = k % 5 === 4 ? NO_MATCH : k;
  });
  return table;
}

describe('the search in a run of intervals', () => {
  const [ROW_WORDS, SRC_ROWS, DST_ROWS, ROW] = [2, 1000, 2000, 3000];

  /** Every row has everything, so what is found is which rows. */
  function wordsOfAll(): Int32Array {
    const words = new Int32Array(4096).fill(1);
    words[RuleIndexHeader.rowWords] = ROW_WORDS;
    words[RuleIndexHeader.protocols] = 64;
    words.fill(ROW, 64, 64 + ProtocolKey.SIZE);
    words[RuleIndexHeader.sourcePorts] = words[RuleIndexHeader.destinationPorts] = 0;
    words[RuleIndexHeader.sourcePortRows] = words[RuleIndexHeader.destinationPortRows] = ROW;
    words[RuleIndexHeader.src4Rows] = SRC_ROWS;
    words[RuleIndexHeader.dst4Rows] = DST_ROWS;
    return words;
  }

  it.each(['src', 'dst'] as const)('of any length finds the interval of any %s', (side) => {
    const none = new Int32Array(8);
    for (let most = 1; most <= 31; most++) {
      for (const first of [0x10000001, 0x10ffff00, 0x1fffffff - most + 1]) {
        const table = tableOfRun(
          Array.from({ length: most }, (_, k) => first + k * (first === 0x10ffff00 ? 0x40000 : 1)),
        );
        const addresses = [0x0fffffff, 0x10000000, 0x1fffffff, 0x20000000, 0, -1, 0x7fffffff, -0x80000000];
        for (let k = 0; k < most; k++) {
          const start = table[table[Lpm.intervals] + 2 * (4 + k)] ^ Lpm.SIGN;
          addresses.push(start - 1, start, start + 1);
        }
        const packets = emptyHeaders();
        addresses.forEach((address, i) => {
          const ends = { src: [1, 0, 0, 0], dst: [1, 0, 0, 0], [side]: [address, 0, 0, 0] };
          put(packets, i, { family: 4, protocol: 17, sport: 1, dport: 2, ...ends });
        });
        const words = wordsOfAll();
        const tables = side === 'src' ? [table, none] : [none, table];
        const { finding } = findAll(
          words.buffer as ArrayBuffer,
          tables[0],
          tables[1],
          packets.headers,
          addresses.length,
        );
        const rowsOf = { src: finding.srcs, dst: finding.dsts }[side];
        const rows = side === 'src' ? SRC_ROWS : DST_ROWS;
        const mine: string[] = [];
        const theirs: string[] = [];
        addresses.forEach((address, i) => {
          const inRun = address >>> 28 === 1;
          // Longer runs than there are steps for are left to the index.
          const row = most > 15 && inRun ? 0x5a5a5a : rows + ROW_WORDS * (lookupLpm4(table, address) + 1);
          mine.push(`${address >>> 0}: ${rowsOf[i]}`);
          theirs.push(`${address >>> 0}: ${row}`);
        });
        expect(mine, `run of ${most} from ${first.toString(16)}`).toEqual(theirs);
      }
    }
  });

  it('leaves nodes to the index', () => {
    const below = chooser(SEED);
    const prefixes = Array.from({ length: 200 }, (_, value) => ({
      words: [0x0a000000 + 4 * value],
      length: 30 + (value & 1),
      value,
    }));
    const table = buildLpm(prefixes, 4);
    const packets = emptyHeaders();
    for (let i = 0; i < SLOTS; i++) {
      const src = [i & 1 ? 0x0a000000 + below(1024) : below(0xffffffff) | 0, 0, 0, 0];
      put(packets, i, { family: 4, protocol: 6, src, dst: [9, 0, 0, 0], sport: 1, dport: 2 });
    }
    const { finding, others } = findAll(
      wordsOfAll().buffer as ArrayBuffer,
      table,
      new Int32Array(8),
      packets.headers,
      SLOTS,
    );
    const expected: number[] = [];
    for (let i = 0; i < SLOTS; i++) {
      const address = packets.headers.src0[i];
      const entry = table[Lpm.HEADER + (address >>> (32 - table[Lpm.rootBits]))];
      if (entry < 0) expected.push(i);
      else
        expect(finding.srcs[i], `seed ${SEED}, ${address}`).toBe(
          SRC_ROWS + ROW_WORDS * (lookupLpm4(table, address) + 1),
        );
    }
    expect(expected.length).toBeGreaterThan(100);
    expect(others.filter((i) => finding.srcs[i] === 0x5a5a5a)).toEqual(expected);
  });
});

describe('words of rows', () => {
  const ROW_WORDS = 33;
  const CLASSES = 6;

  /** An index with rows of chance, over protocols and ports; entries of one record are one in three. */
  function randomIndex(below: Below, density: number): Int32Array<SharedArrayBuffer> {
    const halfWords = (PortKey.SIZE + 1) >> 1;
    const [records, protocols] = [RuleIndexHeader.SIZE, RuleIndexHeader.SIZE + 1024];
    const sources = protocols + ProtocolKey.SIZE;
    const rows = sources + 2 * halfWords;
    const words = new Int32Array(new SharedArrayBuffer(4 * (rows + (3 * CLASSES + 1) * ROW_WORDS)));
    const halves = new Uint16Array(words.buffer);
    const row = (dimension: number, number = 0): number => rows + (dimension * CLASSES + number) * ROW_WORDS;
    words[RuleIndexHeader.summaryWords] = 1;
    words[RuleIndexHeader.rowWords] = ROW_WORDS;
    words[RuleIndexHeader.records] = records;
    words[RuleIndexHeader.protocols] = protocols;
    words[RuleIndexHeader.sourcePorts] = sources;
    words[RuleIndexHeader.destinationPorts] = sources + halfWords;
    words[RuleIndexHeader.sourcePortRows] = row(1);
    words[RuleIndexHeader.destinationPortRows] = row(2);
    words[RuleIndexHeader.all] = words[RuleIndexHeader.src4Rows] = words[RuleIndexHeader.dst4Rows] = row(3);
    for (let entry = 0; entry < 1024; entry++) words[records + entry] = below(3) === 0 ? 5 : entry;
    for (let key = 0; key < ProtocolKey.SIZE; key++) words[protocols + key] = row(0, below(CLASSES));
    for (let port = 0; port < 0x10000; port++) {
      halves[2 * sources + port] = port % CLASSES;
      halves[2 * (sources + halfWords) + port] = (port >> 3) % CLASSES;
    }
    for (let at = rows; at < words.length; at += ROW_WORDS) {
      for (let bit = 0; bit < 1024; bit++) {
        if (at !== row(3) && below(1000) >= density) continue;
        words[at + 1 + (bit >> 5)] |= 1 << (bit & 31);
        words[at] |= 1 << (bit >> 5);
      }
    }
    return words;
  }

  it.each([60, 80, 120, 200])('are looked at all, where %i of 1,000 bits are set', (density) => {
    const below = chooser(SEED + density);
    const seen = { one: 0, none: 0, several: 0, later: 0, last: 0, rounds: 0 };
    for (let round = 0; round < 8; round++) {
      const words = randomIndex(below, density);
      const index = new RuleIndex({ words: words.buffer, src4: null, src6: null, dst4: null, dst6: null });
      const packets = emptyHeaders();
      const count = BURSTS[round & 3];
      for (let i = 0; i < SLOTS; i++) {
        const [sport, dport] = [pick(below, [0, 65535, below(65536)]), pick(below, [0, 65535, below(65536)])];
        put(packets, i, { family: 4, protocol: pick(below, [0, 1, 6, 17, 127]), src: [1], dst: [2], sport, dport });
      }
      const { finding, others, rounds } = findAll(
        words.buffer as unknown as ArrayBuffer,
        new Int32Array(8),
        new Int32Array(8),
        packets.headers,
        count,
      );
      seen.rounds = Math.max(seen.rounds, rounds);
      const expected: number[] = [];
      for (let i = 0; i < count; i++) {
        const { heading, ports } = packets.headers;
        const protocol = heading[i] >>> Heading.PROTOCOL_SHIFT;
        const rows = [
          words[words[RuleIndexHeader.protocols] + ProtocolKey.ipv4 + protocol],
          words[RuleIndexHeader.sourcePortRows] + ((ports[i] >>> 16) % CLASSES) * ROW_WORDS,
          words[RuleIndexHeader.destinationPortRows] + (((ports[i] & 0xffff) >> 3) % CLASSES) * ROW_WORDS,
        ];
        const common = Array.from({ length: ROW_WORDS }, (_, w) => rows.reduce((bits, at) => bits & words[at + w], -1));
        const entries = Array.from({ length: 1024 }, (_, bit) => bit).filter(
          (bit) => (common[1 + (bit >> 5)] >>> (bit & 31)) & 1,
        );
        if (entries.length > 1) {
          expected.push(i);
          seen.several++;
          continue;
        }
        const record = entries.length === 0 ? (Touched.none as number) : words[RuleIndexHeader.SIZE + entries[0]];
        const only = index.only4(protocol, 1, 2, ports[i]);
        const where = `seed ${SEED + density}, round ${round}, packet ${i}`;
        expect([finding.found[i], only], where).toEqual([record, record]);
        seen[record < 0 ? 'none' : 'one']++;
        if (entries.length === 1 && (common[0] & -common[0]) !== 1 << (entries[0] >> 5)) seen.later++;
        if (entries[0] >= 992) seen.last++;
      }
      expect(others, `seed ${SEED + density}, round ${round}`).toEqual(expected);
    }
    expect(seen.none + seen.one + seen.several).toBe(2 * BURSTS.reduce((sum, count) => sum + count));
    expect(seen.rounds).toBeGreaterThan(1);
    if (density === 80) {
      for (const [what, times] of Object.entries(seen))
        expect(times, `${what}, seed ${SEED + density}`).toBeGreaterThan(0);
    }
  });
});

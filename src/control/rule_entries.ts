/**
 * From records to the entries of the rule index: what each asks of the few fields that the index knows. Too wide is allowed, too narrow is not.
 */
import { hasLoop } from '../shared/cbpf/loops.js';
import { necessary, type FamilyFacts } from '../shared/cbpf/facts.js';
import type { Program } from '../shared/cbpf/program.js';
import type { Range } from '../shared/cbpf/ranges.js';
import { intersect, union, type RangeSet } from '../shared/cbpf/range_sets.js';
import { MAX_RULE_ENTRIES, PortKey, ProtocolKey, RuleField, RuleMatch } from '../shared/layout.js';
import { intersectPrefixes, prefixesOf, type IndexPrefix } from './rule_prefixes.js';

/** One way to match a record: all of it must hold. null: any value. */
export interface RuleEntry {
  /** Number of the record, from 0. */
  record: number;
  /** ProtocolKeys. */
  protocols: RangeSet;
  /** PortKeys. */
  sourcePorts: RangeSet | null;
  destinationPorts: RangeSet | null;
  src4: readonly IndexPrefix[] | null;
  src6: readonly IndexPrefix[] | null;
  dst4: readonly IndexPrefix[] | null;
  dst6: readonly IndexPrefix[] | null;
}

const RANGES_MOST = 64;
const ALL: Range = { lo: ProtocolKey.none, hi: ProtocolKey.SIZE - 1 };

/** Next headers that the parser follows (isExtension in dataplane/packet/parse.ts): RFC 8200 and IANA's list, without ESP. */
export const IPV6_EXTENSIONS: RangeSet = [0, 43, 44, 51, 60, 135, 139, 140].map((next) => ({
  lo: ProtocolKey.ipv6 + next,
  hi: ProtocolKey.ipv6 + next,
}));

/** The entries of all records, in order. When they would be more than MAX_RULE_ENTRIES, every record gets one, the union of its ways. */
export function entriesOf(rules: Int32Array, programs: readonly Program[]): RuleEntry[] {
  const ways = programs.map(knownWaysOf);
  const entries: RuleEntry[] = [];
  for (const united of [false, true]) {
    entries.length = 0;
    for (let i = 0; i < rules[0]; i++) {
      const own = entriesOfRecord(rules, i, ways);
      if (!united) entries.push(...own);
      else if (own.length > 0) entries.push(own.reduce(unite));
    }
    if (entries.length <= MAX_RULE_ENTRIES) break;
  }
  return entries;
}

function entriesOfRecord(rules: Int32Array, record: number, ways: readonly (readonly RuleEntry[])[]): RuleEntry[] {
  const at = RuleField.HEADER + record * RuleField.STRIDE;
  const plain = structuredEntry(rules, at, record);
  if ((rules[at + RuleField.fields] & RuleMatch.program) === 0) return [plain];
  const own = ways[rules[at + RuleField.program]].flatMap((way) => (isOther(way) ? [way] : eachIn(plain, way)));
  return own.map((entry) => ({ ...entry, record }));
}

/**
 * What matches the fields of a record and its program. Where there are IPv6 extension headers, fields mean the protocol and ports behind them and programs the
 * bytes behind the fixed header (RuleIndex has two looks at such a packet): there only the program's word on them counts.
 */
function eachIn(plain: RuleEntry, way: RuleEntry): RuleEntry[] {
  const free = plain.sourcePorts === null && plain.destinationPorts === null && plain.protocols[0] === ALL;
  if (free) return [narrow(plain, way)].filter((entry) => entry !== null);
  const anywhere = { protocols: [ALL], sourcePorts: null, destinationPorts: null };
  const extended = way.protocols.flatMap((range) => intersect(IPV6_EXTENSIONS, range));
  return [narrow(plain, way), narrow({ ...plain, ...anywhere }, { ...way, protocols: extended })].filter(
    (entry) => entry !== null,
  );
}

/** What the fields of a record ask for. */
function structuredEntry(rules: Int32Array, at: number, record: number): RuleEntry {
  const fields = rules[at + RuleField.fields];
  const has = (bit: RuleMatch): boolean => (fields & bit) !== 0;
  const range = (bit: RuleMatch, first: number): RangeSet | null =>
    has(bit) ? [{ lo: rules[at + first], hi: rules[at + first + 1] }] : null;
  const prefix = (bit: RuleMatch, first: number, family: 4 | 6): IndexPrefix[] | null => {
    if (!has(bit)) return null;
    if (rules[at + RuleField.family] !== family) return [];
    const words = [...rules.subarray(at + first, at + first + 4)];
    return [{ words, length: lengthOf(rules.subarray(at + first + 4, at + first + 8)) }];
  };
  return {
    record,
    protocols: protocolKeys(fields, rules[at + RuleField.family], rules[at + RuleField.protocol]),
    sourcePorts: range(RuleMatch.sport, RuleField.sportFirst),
    destinationPorts: range(RuleMatch.dport, RuleField.dportFirst),
    src4: prefix(RuleMatch.src, RuleField.src0, 4),
    src6: prefix(RuleMatch.src, RuleField.src0, 6),
    dst4: prefix(RuleMatch.dst, RuleField.dst0, 4),
    dst6: prefix(RuleMatch.dst, RuleField.dst0, 6),
  };
}

/** Bits of a netmask. */
function lengthOf(mask: Int32Array): number {
  return mask.reduce((length, word) => length + (word === -1 ? 32 : Math.clz32(~word)), 0);
}

function protocolKeys(fields: number, family: number, protocol: number): RangeSet {
  if ((fields & RuleMatch.ip) === 0) return [ALL];
  const inFamily = (first: number): Range =>
    (fields & RuleMatch.protocol) !== 0
      ? { lo: first + protocol, hi: first + protocol }
      : { lo: first, hi: first + 255 };
  const wanted = (which: number): boolean => (fields & RuleMatch.family) === 0 || family === which;
  return [...(wanted(4) ? [inFamily(ProtocolKey.ipv4)] : []), ...(wanted(6) ? [inFamily(ProtocolKey.ipv6)] : [])];
}

/** By program: those of a configuration that is read again are the same objects, and to analyse one takes some 50 us. */
const knownWays = new WeakMap<Program, readonly RuleEntry[]>();

function knownWaysOf(program: Program): readonly RuleEntry[] {
  let ways = knownWays.get(program);
  if (ways === undefined) knownWays.set(program, (ways = waysOf(program)));
  return ways;
}

/** The ways of a program, with no record yet. A program with a loop may match whatever it likes. */
function waysOf(program: Program): RuleEntry[] {
  const { ipv4, ipv6, other } = hasLoop(program) ? ANYTHING : necessary(program);
  const ways: RuleEntry[] = [];
  for (const facts of ipv4) add(ways, wayOf(facts, 4));
  for (const facts of ipv6) add(ways, wayOf(facts, 6));
  // Of a frame that is not IP, or is behind a VLAN tag, the index says only that.
  if (other && program.link === 'ethernet')
    ways.push({ ...wayOf(null, 4), protocols: [OTHER], src6: null, dst6: null });
  return ways;
}

const OTHER: Range = { lo: ProtocolKey.none, hi: ProtocolKey.none };

function isOther(way: RuleEntry): boolean {
  return way.protocols.length === 1 && way.protocols[0].hi === (ProtocolKey.none as number);
}

const ANY_WORD: RangeSet = [{ lo: 0, hi: 0xffffffff }];
const ANY_PORT: RangeSet = [{ lo: 0, hi: 0xffff }];
const ANY_PROTOCOL: RangeSet = [{ lo: 0, hi: 0xff }];
const ports = { protocols: ANY_PROTOCOL, sourcePorts: ANY_PORT, destinationPorts: ANY_PORT };
const four = [ANY_WORD, ANY_WORD, ANY_WORD, ANY_WORD];
const ANYTHING: ReturnType<typeof necessary> = {
  ipv4: [{ ...ports, source: [ANY_WORD], destination: [ANY_WORD] }],
  ipv6: [{ ...ports, source: four, destination: four }],
  other: true,
};

function wayOf(facts: FamilyFacts | null, family: 4 | 6): RuleEntry {
  const first = family === 4 ? ProtocolKey.ipv4 : ProtocolKey.ipv6;
  const src = facts && prefixesOf(facts.source);
  const dst = facts && prefixesOf(facts.destination);
  return {
    record: -1,
    protocols: (facts?.protocols ?? []).map(({ lo, hi }) => ({ lo: lo + first, hi: hi + first })),
    sourcePorts: facts && portsOf(facts.sourcePorts),
    destinationPorts: facts && portsOf(facts.destinationPorts),
    src4: family === 4 ? src : [],
    src6: family === 6 ? src : [],
    dst4: family === 4 ? dst : [],
    dst6: family === 6 ? dst : [],
  };
}

/** A program that compares a port reads it, so a packet without those bytes does not match. */
function portsOf(set: RangeSet): RangeSet | null {
  return set.length === 1 && set[0].lo === 0 && set[0].hi >= PortKey.none - 1 ? null : set;
}

/** Adds a way, or widens one that differs only in the protocols: IPv4 and IPv6 with any address, as `udp port 53` makes them. */
function add(ways: RuleEntry[], way: RuleEntry): void {
  const twin = ways.find(
    (known) =>
      sameRanges(known.sourcePorts, way.sourcePorts) &&
      sameRanges(known.destinationPorts, way.destinationPorts) &&
      [known, way].every(anyAddress),
  );
  if (twin === undefined) ways.push(way);
  else Object.assign(twin, unite(twin, way));
}

/** Whether a way of one family (the other's prefixes are []) takes all addresses of it. */
function anyAddress({ src4, src6, dst4, dst6 }: RuleEntry): boolean {
  return (src4 === null && dst4 === null) || (src6 === null && dst6 === null);
}

function sameRanges(one: RangeSet | null, two: RangeSet | null): boolean {
  return JSON.stringify(one) === JSON.stringify(two);
}

/** What matches one or the other, and more. */
function unite(one: RuleEntry, two: RuleEntry): RuleEntry {
  const addresses = (a: readonly IndexPrefix[] | null, b: readonly IndexPrefix[] | null) =>
    a === null || b === null ? null : [...a, ...b];
  const ranges = (a: RangeSet | null, b: RangeSet | null) =>
    a === null || b === null ? null : union(a, b, RANGES_MOST);
  return {
    record: one.record,
    protocols: union(one.protocols, two.protocols, RANGES_MOST),
    sourcePorts: ranges(one.sourcePorts, two.sourcePorts),
    destinationPorts: ranges(one.destinationPorts, two.destinationPorts),
    src4: addresses(one.src4, two.src4),
    src6: addresses(one.src6, two.src6),
    dst4: addresses(one.dst4, two.dst4),
    dst6: addresses(one.dst6, two.dst6),
  };
}

/** What matches both; null: nothing does. */
function narrow(one: RuleEntry, two: RuleEntry): RuleEntry | null {
  const both = (a: RangeSet | null, b: RangeSet | null): RangeSet | null =>
    a === null || b === null ? (a ?? b) : a.flatMap((range) => intersect(b, range));
  const entry: RuleEntry = {
    record: one.record,
    protocols: both(one.protocols, two.protocols)!,
    sourcePorts: both(one.sourcePorts, two.sourcePorts),
    destinationPorts: both(one.destinationPorts, two.destinationPorts),
    src4: intersectPrefixes(one.src4, two.src4),
    src6: intersectPrefixes(one.src6, two.src6),
    dst4: intersectPrefixes(one.dst4, two.dst4),
    dst6: intersectPrefixes(one.dst6, two.dst6),
  };
  const ranges = [entry.protocols, entry.sourcePorts, entry.destinationPorts];
  return ranges.some((set) => set?.length === 0) ? null : entry;
}

/**
 * The same entries in an order in which those that ask for the same fields stand together, and among them those with close values: the bits of a row then
 * are in few words.
 */
export function clustered(entries: readonly RuleEntry[]): RuleEntry[] {
  const keyed = entries.map((entry) => ({ entry, key: clusterKey(entry) }));
  keyed.sort((one, two) => {
    for (let i = 0; i < one.key.length; i++) if (one.key[i] !== two.key[i]) return one.key[i] - two.key[i];
    return 0;
  });
  return keyed.map(({ entry }) => entry);
}

/** Which fields count, then the first value of each, those first that tell most apart. */
function clusterKey(entry: RuleEntry): number[] {
  const { protocols, sourcePorts, destinationPorts, src4, src6, dst4, dst6 } = entry;
  const ranges = [destinationPorts, sourcePorts];
  const addresses = [src4, src6, dst4, dst6];
  const fields = [...ranges, ...addresses].reduce((bits, field, i) => bits | (field === null ? 0 : 1 << i), 0);
  return [
    fields,
    ...addresses.map((list) => (list?.[0] === undefined ? -1 : list[0].words[0] >>> 0)),
    ...ranges.map((set) => set?.[0]?.lo ?? -1),
    protocols[0]?.lo ?? -1,
    entry.record,
  ];
}

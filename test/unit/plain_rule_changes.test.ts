/** Rules on the short way, while they change, against the index and a look at every rule. */
import { describe, expect, it } from 'vitest';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { Touched, type RuleIndex } from '../../src/dataplane/filter/rule_index.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import { Home } from '../../src/dataplane/plain_heading.js';
import type { IndexWords } from '../../src/dataplane/plain_rule_loops.js';
import { PlainRules } from '../../src/dataplane/plain_rules.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import type { PortRange, Prefix, RuleConfig } from '../../src/shared/config.js';
import { CounterBlock, RuleCounter } from '../../src/shared/layout.js';
import {
  BURSTS,
  chooser,
  emptyHeaders,
  HOME,
  pick,
  PLACE,
  put,
  SEED,
  SLOTS,
  type Below,
  type Five,
} from '../support/plain_packets.js';

const V4 = [
  0x0a000000,
  0x0a0000ff,
  0x7fffffff,
  0x80000000 | 0,
  0xc0000201 | 0,
  0xc6336400 | 0,
  0xdfffffff | 0,
  0x01000000,
];
const V6_LAST = [0, 1, 0xff, -1];
/** 17 and 81 differ in the highest bit that a Heading has room for. */
const PROTOCOLS = [1, 6, 17, 81, 127];

function prefix(below: Below, family: 4 | 6, isWide: boolean): Prefix {
  const length =
    family === 4
      ? pick(below, isWide ? [0, 1, 8, below(33)] : [32, 30, 24, below(33)])
      : pick(below, [128, 127, 97, below(129)]);
  const first = below(3) === 0 ? pick(below, V4) : below(0x100000000) | 0;
  return {
    family,
    words: family === 4 ? [first, 0, 0, 0] : [first, 0x0db80000, 0, pick(below, V6_LAST)],
    length,
  } as unknown as Prefix;
}

function range(below: Below): PortRange {
  const [a, b] = [0, 0].map(() => pick(below, [0, 65535, 1, 65534, 53, below(65536)]));
  return below(2) === 0 ? { first: a, last: a } : { first: Math.min(a, b), last: Math.max(a, b) };
}

/** What rules of a round ask for. */
interface Style {
  hasSources: boolean;
  hasPorts: boolean;
  isWide: boolean;
  onlyDrops: boolean;
}

function rulesOf(below: Below, count: number, { hasSources, hasPorts, isWide, onlyDrops }: Style): RuleConfig[] {
  const rules: RuleConfig[] = [];
  for (let n = 0; n < count; n++) {
    const family = below(4) === 0 ? 6 : 4;
    const match: RuleConfig['match'] = {};
    if (hasSources && below(10) > 0) match.src = prefix(below, family, isWide);
    if (below(3) === 0) match.dst = prefix(below, family, isWide);
    if (below(2) === 0) match.protocol = pick(below, PROTOCOLS);
    if (below(8) === 0) match.family = family;
    if (hasPorts && below(2) === 0) match.sport = range(below);
    if (hasPorts && below(2) === 0) match.dport = range(below);
    if (!hasSources || match.src === undefined) match.dport = { first: n * 16, last: n * 16 + below(16) };
    // Some ask for the same, and the first is to win.
    const same = n > 0 && below(12) === 0 ? rules[below(n)].match : match;
    rules.push({ name: String(n), match: same, action: onlyDrops || below(8) > 0 ? 'drop' : 'count' });
  }
  return rules;
}

const one = <T>(value: T | readonly T[] | undefined): T | undefined => value as T | undefined;

function maskOf(length: number, word: number): number {
  const bits = Math.max(0, Math.min(32, length - 32 * word));
  return bits === 0 ? 0 : -1 << (32 - bits);
}

function holds(prefix: Prefix | undefined, words: readonly number[], family: 4 | 6): boolean {
  if (prefix === undefined) return true;
  if (prefix.family !== family) return false;
  return words.every((word, w) => ((word ^ prefix.words[w]) & maskOf(prefix.length, w)) === 0);
}

/** Whether the rule matches, by what its configuration says. */
function matches({ match }: RuleConfig, five: Five): boolean {
  const within = (wanted: PortRange | undefined, port: number) =>
    wanted === undefined || (port >= wanted.first && port <= wanted.last);
  return (
    (match.protocol === undefined || match.protocol === five.protocol) &&
    (match.family === undefined || match.family === five.family) &&
    within(one(match.sport), five.sport) &&
    within(one(match.dport), five.dport) &&
    holds(one(match.src), five.src, five.family) &&
    holds(one(match.dst), five.dst, five.family)
  );
}

/** An address in the prefix, mostly its first or last, or right outside; any where there is none. */
function addressFor(below: Below, family: 4 | 6, wanted: Prefix | undefined): number[] {
  const words = [pick(below, V4), 0x0db80000, 0, pick(below, V6_LAST)];
  if (wanted !== undefined && wanted.family === family) {
    const fill = pick(below, [0, -1, below(0x100000000) | 0]);
    for (let w = 0; w < 4; w++) {
      const mask = maskOf(wanted.length, w);
      words[w] = (wanted.words[w] & mask) | (fill & ~mask);
    }
    if (below(4) === 0) words[family === 4 ? 0 : 3] += fill === 0 ? -1 : 1;
  }
  return family === 4 ? [words[0] | 0, 0, 0, 0] : words.map((word) => word | 0);
}

function portFor(below: Below, wanted: PortRange | undefined): number {
  if (wanted === undefined) return pick(below, [0, 65535, 53, below(65536)]);
  return Math.max(0, Math.min(65535, pick(below, [wanted.first, wanted.last, wanted.first - 1, wanted.last + 1])));
}

function fiveFor(below: Below, { match }: RuleConfig): Five {
  const src = one(match.src);
  const dst = one(match.dst);
  const family = below(10) === 0 ? pick(below, [4, 6] as const) : (match.family ?? src?.family ?? dst?.family ?? 4);
  return {
    family,
    protocol: match.protocol !== undefined && below(8) > 0 ? match.protocol : pick(below, PROTOCOLS),
    src: addressFor(below, family, src),
    dst: addressFor(below, family, dst),
    sport: portFor(below, one(match.sport)),
    dport: portFor(below, one(match.dport)),
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Int32Array): Buffer =>
  Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);

describe('rules on the short way, as they change', () => {
  const counters = new Float64Array(CounterBlock.SIZE);
  const packets = emptyHeaders();
  const fresh = () => new PlainRules(packets.view, packets.headers, counters, SLOTS);
  let plain = fresh();
  const burst = {
    header: new Int32Array(4),
    offset: new Int32Array(SLOTS),
    length: Int32Array.from({ length: SLOTS }, (_, i) => 60 + 7 * i),
    verdict: new Int32Array(SLOTS),
    target: new Int32Array(SLOTS),
  };
  const seen = { judged: 0, stays: 0, left: 0, several: 0, ipv6: 0, later: 0 };

  function adopt(rules: readonly RuleConfig[], dropsAtOnce: boolean): RuleIndex {
    const tables = new RuleShelf().build(rules, (name) => Number(name));
    const set = new RuleSet(tables, [], NO_PARTS, new Float64Array(CounterBlock.SIZE), new Chance(7));
    plain.adopt(set, set.index!, dropsAtOnce);
    const { copy } = plain as unknown as { copy: IndexWords };
    for (const table of ['words', 'src4', 'dst4'] as const) {
      const own = set.index![table];
      expect(Buffer.compare(bytesOf(copy[table].subarray(0, own.length)), bytesOf(own)), table).toBe(0);
    }
    return set.index!;
  }

  /** What is to become of a packet: the rule that drops it, its home as it was, or −1. */
  function fate(
    rules: readonly RuleConfig[],
    index: RuleIndex,
    five: Five,
    i: number,
    drops: boolean,
  ): number | 'stays' | 'left' {
    const isFew = drops && rules.length < 4 && rules.every(({ action }) => action === 'drop');
    const first = rules.findIndex((rule) => matches(rule, five));
    if (isFew) return first < 0 ? 'stays' : first;
    const { view, headers } = packets;
    const record =
      five.family === 4
        ? index.only4(five.protocol, five.src[0], five.dst[0], headers.ports[i])
        : index.only6(view, i * PLACE + 14);
    // Else the index is wrong.
    if (first >= 0 && record !== (Touched.several as number)) expect(record).toBe(first);
    if (record === (Touched.none as number)) return 'stays';
    if (record === (Touched.several as number)) seen.several++;
    if (record < 0 || !drops || rules[record].action !== 'drop') return 'left';
    return first < 0 ? 'stays' : first;
  }

  function judge(
    below: Below,
    rules: readonly RuleConfig[],
    index: RuleIndex,
    count: number,
    drops: boolean,
    where: string,
  ): void {
    const { headers } = packets;
    const fives = Array.from({ length: SLOTS }, () => fiveFor(below, rules[below(rules.length)]));
    const isPlain = fives.map(() => below(12) > 0);
    const withIpv6 = below(3) > 0;
    for (let i = 0; i < SLOTS; i++) {
      while (!withIpv6 && fives[i].family === 6) fives[i] = { ...fives[i], family: 4 };
      put(packets, i, fives[i], isPlain[i] ? HOME : -1);
    }
    headers.hasIpv6 = withIpv6;
    burst.verdict.fill(99);
    counters.fill(0);
    const expected = new Float64Array(CounterBlock.SIZE);
    const theirs: string[] = [];
    const mine: string[] = [];
    let dropped = 0;
    for (let i = 0; i < SLOTS; i++) {
      let home: number = isPlain[i] ? HOME : -1;
      let verdict = 99;
      if (i < count && isPlain[i]) {
        const what = fate(rules, index, fives[i], i, drops);
        if (fives[i].family === 6) seen.ipv6++;
        if (what === 'left') home = -1;
        seen[typeof what === 'number' ? 'judged' : what]++;
        if (typeof what === 'number') {
          if (what > 0 && rules.length < 4) seen.later++;
          [home, verdict] = [Home.judged, Verdict.Drop];
          dropped++;
          const at = CounterBlock.rules + what * RuleCounter.SIZE;
          for (const [one, bytes] of [
            [RuleCounter.packets, RuleCounter.bytes],
            [RuleCounter.acted, RuleCounter.actedBytes],
          ]) {
            expected[at + one]++;
            expected[at + bytes] += burst.length[i];
          }
        }
      }
      theirs.push(`${i}: ${home} ${verdict}`);
    }
    expect(plain.judge(burst, count), where).toBe(dropped);
    for (let i = 0; i < SLOTS; i++) mine.push(`${i}: ${headers.home[i]} ${burst.verdict[i]}`);
    const other = mine.findIndex((line, i) => line !== theirs[i]);
    if (other >= 0) expect(mine[other], `${where}, ${JSON.stringify(fives[other])}`).toBe(theirs[other]);
    expect(Buffer.from(counters.buffer).equals(Buffer.from(expected.buffer)), `counters, ${where}`).toBe(true);
  }

  // Rows of 1,025 entries have two summary words; 4,000 rules outgrow any room that fewer were given, and 5 after them leave their words behind.
  const SIZES = [
    1, 2, 3, 4, 33, 5, 31, 32, 200, 3, 1000, 64, 1023, 1024, 1025, 7, 4000, 5, 300, 2, 1024, 4, 12, 60, 1, 3, 2, 90,
  ];

  it.each(SIZES.map((size, round) => ({ size, round })))(
    'do what a look at each does: $size rules in round $round',
    ({ size, round }) => {
      const seed = SEED + 1000 * round;
      const below = chooser(seed);
      const style = {
        hasSources: round % 5 !== 4,
        hasPorts: round % 3 !== 2,
        isWide: round % 4 === 1,
        onlyDrops: size < 4 ? round !== 9 : round % 4 === 0,
      };
      const rules = rulesOf(below, size, style);
      const drops = round % 11 !== 10;
      const index = adopt(rules, drops);
      const bursts = size > 500 ? 1 : 3;
      for (const count of BURSTS.flatMap((count) => Array<number>(bursts).fill(count))) {
        judge(below, rules, index, count, drops, `SEED=${SEED}, round ${round}: ${size} rules, burst of ${count}`);
      }
    },
    20_000,
  );

  it.each(['src', 'dst'] as const)('outgrow the room for prefixes alone: %s', (side) => {
    plain = fresh();
    const below = chooser(SEED);
    const sets = [
      // Rows by ports take more words than those by hosts.
      (n: number) => ({ sport: { first: 8 * n, last: 8 * n + 5 }, dport: { first: 8 * n, last: 8 * n + 5 } }),
      (n: number) => ({
        [side]: { family: 4, words: [0x0b000000 + 1024 * n, 0, 0, 0], length: 32 } as unknown as Prefix,
      }),
    ];
    const lengths = sets.map((matchOf) => {
      const rules = Array.from({ length: 3000 }, (_, n): RuleConfig => ({
        name: String(n),
        match: matchOf(n),
        action: 'drop',
      }));
      const index = adopt(rules, true);
      judge(below, rules, index, SLOTS, true, `SEED=${SEED}, ${side}`);
      return { words: index.words.length, prefixes: index[`${side}4`].length };
    });
    expect(lengths[1].words).toBeLessThan(2 * lengths[0].words);
    expect(lengths[1].prefixes).toBeGreaterThan(16_384);
  });

  it.each([4, 6] as const)('count for the first of few that match: IPv%i', (family) => {
    const matches = [{ protocol: 17 }, { family }, {}];
    const rules = matches.map((match, n): RuleConfig => ({ name: String(n), match, action: 'drop' }));
    const below = chooser(SEED + family);
    const index = adopt(rules, true);
    // One burst in three has no IPv6.
    for (let n = 0; n < 12; n++) judge(below, rules, index, SLOTS, true, `SEED=${SEED}, IPv${family}`);
  });

  it('met all that there is to meet', () => {
    for (const [what, times] of Object.entries(seen)) expect(times, `${what}, seed ${SEED}`).toBeGreaterThan(20);
  });
});

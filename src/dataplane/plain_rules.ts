/** Rules on the short way: those that drop by addresses, ports and protocol. */
import { RuleCounter, RuleField, RuleIndexHeader } from '../shared/layout.js';
import { Touched, type RuleIndex } from './filter/rule_index.js';
import { INDEX_LEAST, type RuleSet } from './filter/rules.js';
import { Heading, Home } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';
import {
  comparer4,
  dropper4,
  FindingCount,
  rowFinder,
  wordMeeter,
  type IndexWords,
  type RuleFinding,
} from './plain_rule_loops.js';
import { PlainRule, writePlainRules } from './plain_rule_words.js';
import type { Burst } from './port.js';
import { Verdict } from './verdict.js';

type Loops = ReturnType<typeof makeLoops>;

/** Words that arrays have room for at least, so that they need not be others when rules change. */
const LEAST_WORDS = 16_384;

/**
 * What the steps ask of rules, asked of plain packets. The index says which records may match. Where that is one record, and it drops by nothing
 * but fields that are at hand, the packet is compared with it here: it has its verdict and is counted, or is none of the rules' business and stays. All
 * others that a rule may match are left to the steps, which ask again, and count.
 *
 * The loops are made for arrays that stay when the rules change: see PlainHeaders. Only rules for which there is no room in them have other arrays.
 */
export class PlainRules {
  private index: RuleIndex | null = null;
  /** The first record's words; see PlainRule. */
  private rules = new Int32Array(0);
  private copy: IndexWords = copyFor(0, 0, 0);
  private readonly finding: RuleFinding;
  /** So few records, all of which drop, that it is quicker to compare each; 0: ask the index. */
  private few = 0;
  /** Rows have one summary word, which is what the loops are for. */
  private isShort = false;
  private loops: Loops | null = null;

  constructor(
    private readonly view: DataView,
    private readonly headers: PlainHeaders,
    private readonly counters: Float64Array,
    slots: number,
  ) {
    const array = (): Int32Array => new Int32Array(slots);
    this.finding = {
      found: array(),
      summaries: array(),
      protocols: array(),
      sports: array(),
      dports: array(),
      srcs: array(),
      dsts: array(),
      open: array(),
      others: array(),
      counts: new Int32Array(FindingCount.SIZE),
    };
  }

  /** `dropsAtOnce`: false where something stands before the rules that the short way does not know. `index`: that of the rules. */
  adopt(rules: RuleSet, index: RuleIndex, dropsAtOnce: boolean): void {
    const records = ((rules.words.length - RuleField.HEADER) / RuleField.STRIDE) | 0;
    const { words, src4, dst4 } = index;
    const { copy } = this;
    const fits =
      words.length <= copy.words.length && src4.length <= copy.src4.length && dst4.length <= copy.dst4.length;
    if (this.loops === null || !fits || records * PlainRule.STRIDE > this.rules.length) {
      this.rules = new Int32Array(roomFor(records * PlainRule.STRIDE));
      this.copy = copyFor(roomFor(words.length), roomFor(src4.length), roomFor(dst4.length));
      this.loops = makeLoops(this.copy, this.rules, this.finding, this.headers, this.counters);
    }
    this.copy.words.set(words);
    for (const [to, from] of [
      [this.copy.src4, src4],
      [this.copy.dst4, dst4],
    ]) {
      to[0] = 0;
      to.set(from);
    }
    this.index = index;
    this.isShort = words[RuleIndexHeader.summaryWords] === 1;
    writePlainRules(rules.words, records, dropsAtOnce, this.rules);
    this.few = records < INDEX_LEAST ? records : 0;
    for (let record = 0; record < records; record++) if (!this.drops(record)) this.few = 0;
  }

  /** Judges the packets that have a home. Returns how many were dropped; those have Home.judged, and their verdict. */
  judge(burst: Burst, count: number): number {
    const { index, headers, loops } = this;
    if (loops === null || index === null) return 0;
    let dropped = 0;
    if (this.few > 0) {
      for (let record = 0; record < this.few; record++) {
        dropped += loops.compare4(Math.imul(record, PlainRule.STRIDE), count, burst.length, burst.verdict);
      }
    } else {
      this.find(count, index, loops);
      dropped = loops.drop4(count, burst.length, burst.verdict);
    }
    return headers.hasIpv6 ? dropped + this.drop6(burst, count) : dropped;
  }

  /** Sets `found` of each packet that has a home. */
  private find(count: number, index: RuleIndex, loops: Loops): void {
    const { view } = this;
    const { found, others, counts } = this.finding;
    const { heading, start, home, src0, dst0, ports } = this.headers;
    if (this.isShort) {
      loops.findRows(count);
      for (let open = counts[FindingCount.open]; open > 0;) open = loops.meetWord(open);
    } else {
      let left = 0;
      for (let i = 0; i < count; i++) if (home[i] >= 0) others[left++] = i;
      counts[FindingCount.others] = left;
    }
    const left = counts[FindingCount.others];
    for (let entry = 0; entry < left; entry++) {
      const i = others[entry];
      const head = heading[i];
      found[i] =
        head < 0
          ? index.only6(view, (start[i] + 14) | 0)
          : index.only4(head >>> Heading.PROTOCOL_SHIFT, src0[i], dst0[i], ports[i]);
    }
  }

  private drops(record: number): boolean {
    return this.rules[(Math.imul(record, PlainRule.STRIDE) + PlainRule.drops) | 0] !== 0;
  }

  /** As the loops do for IPv4. */
  private drop6({ length, verdict }: Burst, count: number): number {
    const { home, heading } = this.headers;
    const { found } = this.finding;
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      if (home[i] < 0 || heading[i] >= 0) continue;
      const record = this.few > 0 ? this.firstOf(i) : found[i];
      if (record === (Touched.none as number)) continue;
      if (record < 0 || !this.drops(record)) {
        home[i] = -1;
        continue;
      }
      if (this.few === 0 && !this.matches6(record, i)) continue;
      home[i] = Home.judged;
      verdict[i] = Verdict.Drop;
      dropped++;
      this.count(record, length[i]);
    }
    return dropped;
  }

  /** The first of few records that matches, or Touched.none. */
  private firstOf(i: number): number {
    for (let record = 0; record < this.few; record++) if (this.matches6(record, i)) return record;
    return Touched.none;
  }

  private matches6(record: number, i: number): boolean {
    const { rules } = this;
    const { heading, ports, src0, src1, src2, src3, dst0, dst1, dst2, dst3 } = this.headers;
    const at = Math.imul(record, PlainRule.STRIDE);
    const sport = ports[i] >>> 16;
    const dport = ports[i] & 0xffff;
    const src = (at + PlainRule.src) | 0;
    const dst = (at + PlainRule.dst) | 0;
    return (
      ((heading[i] ^ rules[at + PlainRule.head]) & rules[at + PlainRule.headMask]) === 0 &&
      dport >= rules[at + PlainRule.dportFirst] &&
      dport <= rules[at + PlainRule.dportLast] &&
      sport >= rules[at + PlainRule.sportFirst] &&
      sport <= rules[at + PlainRule.sportLast] &&
      (((src0[i] ^ rules[src]) & rules[src + 4]) |
        ((src1[i] ^ rules[src + 1]) & rules[src + 5]) |
        ((src2[i] ^ rules[src + 2]) & rules[src + 6]) |
        ((src3[i] ^ rules[src + 3]) & rules[src + 7])) ===
        0 &&
      (((dst0[i] ^ rules[dst]) & rules[dst + 4]) |
        ((dst1[i] ^ rules[dst + 1]) & rules[dst + 5]) |
        ((dst2[i] ^ rules[dst + 2]) & rules[dst + 6]) |
        ((dst3[i] ^ rules[dst + 3]) & rules[dst + 7])) ===
        0
    );
  }

  private count(record: number, bytes: number): void {
    const { counters } = this;
    const at = this.rules[(Math.imul(record, PlainRule.STRIDE) + PlainRule.counter) | 0];
    counters[at + RuleCounter.packets]++;
    counters[at + RuleCounter.bytes] += bytes;
    counters[at + RuleCounter.acted]++;
    counters[at + RuleCounter.actedBytes] += bytes;
  }
}

function makeLoops(
  copy: IndexWords,
  rules: Int32Array,
  finding: RuleFinding,
  headers: PlainHeaders,
  counters: Float64Array,
) {
  return {
    findRows: rowFinder(copy, headers, finding),
    meetWord: wordMeeter(copy, finding),
    drop4: dropper4(rules, finding, headers, counters),
    compare4: comparer4(rules, headers, counters),
  };
}

function copyFor(words: number, src4: number, dst4: number): IndexWords {
  const own = new Int32Array(words);
  return {
    words: own,
    halves: new Uint16Array(own.buffer),
    src4: new Int32Array(src4),
    dst4: new Int32Array(dst4),
  };
}

/** Twice as many words as are needed now, a power of two. */
function roomFor(words: number): number {
  return Math.max(LEAST_WORDS, 2 << (32 - Math.clz32(words)));
}

/** Rules on the short way: those that drop by addresses, ports and protocol. */
import { CounterBlock, RuleAction, RuleCounter, RuleField, RuleMatch } from '../shared/layout.js';
import type { RuleIndex } from './filter/rule_index.js';
import { Touched } from './filter/rule_index.js';
import { INDEX_LEAST, type RuleSet } from './filter/rules.js';
import { JUDGED } from './plain_sets.js';
import { Heading, type PlainHeaders } from './plain_headers.js';
import type { Burst } from './port.js';
import { Verdict } from './verdict.js';

/** What a rule may ask for, to be judged here. */
const PLAIN_FIELDS =
  RuleMatch.family | RuleMatch.protocol | RuleMatch.src | RuleMatch.dst | RuleMatch.sport | RuleMatch.dport;

/**
 * What the steps ask of rules, asked of plain packets by their bytes. The index says which records may match. Where that is one record, and it drops by nothing
 * but fields that are at hand, the packet is compared with it here: it has its verdict and is counted, or is none of the rules' business and stays. All
 * others that a rule may match are left to the steps, which ask again, and count.
 */
export class PlainRules {
  private readonly index: RuleIndex;
  private readonly words: Int32Array;
  /** By record: 1 where it drops and asks for PLAIN_FIELDS alone. */
  private readonly drops: Uint8Array;
  /** So few records, all of that kind, that it is quicker to compare each; 0: ask the index. */
  private readonly few: number;
  /** Packets in a row that one record dropped, which are counted together. */
  private runRecord = -1;
  private runPackets = 0;
  private runBytes = 0;

  /** `dropsAtOnce`: false where something stands before the rules that the short way does not know. `index`: that of the rules. */
  constructor(
    private readonly view: DataView,
    rules: RuleSet,
    index: RuleIndex,
    private readonly counters: Float64Array,
    dropsAtOnce: boolean,
  ) {
    this.index = index;
    this.words = rules.words;
    const records = ((this.words.length - RuleField.HEADER) / RuleField.STRIDE) | 0;
    this.drops = Uint8Array.from({ length: records }, (_, record) =>
      dropsAtOnce && isPlain(this.words, recordAt(record)) ? 1 : 0,
    );
    this.few = records < INDEX_LEAST && this.drops.every((drop) => drop === 1) ? records : 0;
  }

  /** Judges the packets that have a home. Returns how many were dropped; those have JUDGED for a home, and their verdict. */
  judge({ offset, length, verdict }: Burst, count: number, { home, heading }: PlainHeaders): number {
    const { view, index, drops, few } = this;
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      if (home[i] < 0) continue;
      const data = offset[i];
      const head = heading[i];
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      // The sign says IPv6.
      let record: number;
      if (few > 0) {
        record = this.firstOf(few, head, protocol, data);
      } else {
        record =
          head < 0
            ? index.only6(view, (data + 14) | 0)
            : index.only4(protocol, view.getInt32(data + 26), view.getInt32(data + 30), view.getInt32(data + 34));
        if (record >= 0 && drops[record] !== 0) {
          if (!this.matches(recordAt(record), head, protocol, data)) continue;
        } else if (record !== (Touched.none as number)) {
          home[i] = -1;
          continue;
        }
      }
      if (record === (Touched.none as number)) continue;
      home[i] = JUDGED;
      verdict[i] = Verdict.Drop;
      dropped++;
      if (record !== this.runRecord) this.countRun(record);
      this.runPackets++;
      this.runBytes = (this.runBytes + length[i]) | 0;
    }
    this.countRun(-1);
    return dropped;
  }

  /** The first of so many records that matches, or Touched.none. */
  private firstOf(count: number, head: number, protocol: number, data: number): number {
    for (let record = 0; record < count; record++) {
      if (this.matches(recordAt(record), head, protocol, data)) return record;
    }
    return Touched.none;
  }

  /** As matchesFields, of a packet with ports whose IP header is at `data` + 14. */
  private matches(at: number, head: number, protocol: number, data: number): boolean {
    return head < 0 ? this.matches6(at, protocol, data) : this.matches4(at, protocol, data);
  }

  private matches4(at: number, protocol: number, data: number): boolean {
    const { words, view } = this;
    if (!this.matchesPorts(at, 4, protocol, view.getInt32(data + 34))) return false;
    const fields = words[at + RuleField.fields];
    if (
      (fields & RuleMatch.src) !== 0 &&
      ((view.getInt32(data + 26) ^ words[at + RuleField.src0]) & words[at + RuleField.srcMask0]) !== 0
    ) {
      return false;
    }
    return (
      (fields & RuleMatch.dst) === 0 ||
      ((view.getInt32(data + 30) ^ words[at + RuleField.dst0]) & words[at + RuleField.dstMask0]) === 0
    );
  }

  private matches6(at: number, protocol: number, data: number): boolean {
    if (!this.matchesPorts(at, 6, protocol, this.view.getInt32(data + 54))) return false;
    const fields = this.words[at + RuleField.fields];
    if ((fields & RuleMatch.src) !== 0 && !this.within6(data + 22, at + RuleField.src0, at + RuleField.srcMask0)) {
      return false;
    }
    return (fields & RuleMatch.dst) === 0 || this.within6(data + 38, at + RuleField.dst0, at + RuleField.dstMask0);
  }

  private matchesPorts(at: number, family: number, protocol: number, ports: number): boolean {
    const words = this.words;
    const fields = words[at + RuleField.fields];
    if ((fields & RuleMatch.family) !== 0 && words[at + RuleField.family] !== family) return false;
    if ((fields & RuleMatch.protocol) !== 0 && words[at + RuleField.protocol] !== protocol) return false;
    const dport = ports & 0xffff;
    if (
      (fields & RuleMatch.dport) !== 0 &&
      (dport < words[at + RuleField.dportFirst] || dport > words[at + RuleField.dportLast])
    ) {
      return false;
    }
    const sport = ports >>> 16;
    return (
      (fields & RuleMatch.sport) === 0 ||
      (sport >= words[at + RuleField.sportFirst] && sport <= words[at + RuleField.sportLast])
    );
  }

  /** `address`: offset of the packet's; `value` and `mask`: word indexes of the rule's. */
  private within6(address: number, value: number, mask: number): boolean {
    const { words, view } = this;
    let different = 0;
    for (let word = 0; word < 4; word++) {
      different |= (view.getInt32(address + (word << 2)) ^ words[value + word]) & words[mask + word];
    }
    return different === 0;
  }

  /** Counts the packets of the last run; the next one is of record `next`. */
  private countRun(next: number): void {
    const { runRecord, runPackets, runBytes, counters } = this;
    this.runRecord = next;
    this.runPackets = this.runBytes = 0;
    if (runRecord < 0) return;
    const id = this.words[recordAt(runRecord) + RuleField.id];
    const at = CounterBlock.rules + Math.imul(id, RuleCounter.SIZE);
    counters[at + RuleCounter.packets] += runPackets;
    counters[at + RuleCounter.bytes] += runBytes;
    counters[at + RuleCounter.acted] += runPackets;
    counters[at + RuleCounter.actedBytes] += runBytes;
  }
}

function recordAt(record: number): number {
  return (RuleField.HEADER + Math.imul(record, RuleField.STRIDE)) | 0;
}

/** Whether a record drops, always and in earnest, by what is in headers of plain packets. */
function isPlain(words: Int32Array, at: number): boolean {
  return (
    (words[at + RuleField.fields] & ~PLAIN_FIELDS) === 0 &&
    words[at + RuleField.action] === RuleAction.drop &&
    words[at + RuleField.flags] === 0 &&
    words[at + RuleField.threshold] === 0
  );
}

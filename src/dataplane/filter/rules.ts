import {
  CounterBlock,
  RuleAction,
  RuleCounter,
  RuleField,
  RuleFlag,
  RuleMatch,
  type Tables,
} from '../../shared/layout.js';
import type { Packet } from '../packet/packet.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';
import type { Chance } from './chance.js';
import type { LoadedProgram } from './programs.js';
import { RuleIndex } from './rule_index.js';
import { matchesFields } from './rule_fields.js';
import type { RuleParts, RuleWatch } from './rule_parts.js';

/** Fewer records than this are looked at one by one: the index would cost more. */
export const INDEX_LEAST = 4;

/**
 * Ordered rules: the first that decides ends the search. Rules that only count, sample or limit let it go on, and so does every rule in
 * shadow mode. A match compares only what the rule names. Rules with ports or TCP flags match only packets that have them, so no
 * later fragment.
 *
 * Which records are looked at, the index says (rule_index.ts); each of these is then compared in full.
 */
export class RuleSet {
  /** null: there are no rules. */
  readonly index: RuleIndex | null;
  /** The tables' records; see RuleField. */
  readonly words: Int32Array;
  private readonly end: number;
  private readonly searches: boolean;
  private readonly runs: Int32Array;
  private readonly watch: RuleWatch | null;
  /** Records to ask, a bit each, and the words of it that are not 0. */
  private readonly pending: Int32Array;
  private readonly pendingWords: Int32Array;
  /** Rule of the record that matched last, for the packet in hand: its other records are not asked. */
  private hitId = -1;

  /** `programs`: by RuleField.program. `indexLeast` is for tests and benches. */
  constructor(
    tables: Pick<Tables, 'rules' | 'ruleIndex' | 'ruleSets'>,
    private readonly programs: readonly LoadedProgram[],
    private readonly parts: RuleParts,
    private readonly counters: Float64Array,
    private readonly chance: Chance,
    indexLeast = INDEX_LEAST,
  ) {
    this.words = new Int32Array(tables.rules);
    const count = this.words.length > 0 ? this.words[0] : 0;
    this.end = RuleField.HEADER + count * RuleField.STRIDE;
    this.index = tables.ruleIndex && new RuleIndex(tables.ruleIndex);
    this.searches = this.index !== null && count >= indexLeast;
    this.pending = new Int32Array((count + 31) >> 5);
    this.pendingWords = new Int32Array((count + 1023) >> 10);
    this.runs = new Int32Array(tables.ruleSets);
    this.watch = parts.watch ?? null;
  }

  get empty(): boolean {
    return this.end === RuleField.HEADER;
  }

  /**
   * What the rules make of a packet: RuleAction.drop, .limit (above a limit: drop it), .challenge or .pass; 0 when none decided. Counts
   * every rule that matched. `nowMs`: monotonic, wrapping int32.
   */
  match(packet: Packet, nowMs: number): number {
    this.hitId = -1;
    if (this.searches) return this.search(packet, nowMs, this.index!);
    for (let at = RuleField.HEADER as number; at < this.end; at += RuleField.STRIDE) {
      const decision = this.ask(at, packet, nowMs);
      if (decision !== 0) return decision;
    }
    return 0;
  }

  /** Asks the records with an entry whose bit is set in all rows of the packet. */
  private search(packet: Packet, nowMs: number, index: RuleIndex): number {
    index.locate(packet);
    const words = index.words;
    const { summaryWords, records, odd, protocol, sport, dport, src, dst } = index;
    let only = -1;
    let several = false;
    for (let s = 0; s < summaryWords; s++) {
      let summary = words[protocol + s] & words[sport + s] & words[dport + s] & words[src + s] & words[dst + s];
      if (odd !== 0) summary |= index.oddWord(s);
      while (summary !== 0) {
        const w = ((s << 5) + 31 - Math.clz32(summary & -summary)) | 0;
        summary &= summary - 1;
        const at = (summaryWords + w) | 0;
        let bits = words[protocol + at] & words[sport + at] & words[dport + at] & words[src + at] & words[dst + at];
        if (odd !== 0) bits |= index.oddWord(at);
        while (bits !== 0) {
          const record = words[(records + (w << 5) + 31 - Math.clz32(bits & -bits)) | 0];
          bits &= bits - 1;
          if (only < 0) {
            only = record;
          } else if (record !== only || several) {
            if (!several) this.pend(only);
            several = true;
            this.pend(record);
          }
        }
      }
    }
    if (several) return this.askPending(packet, nowMs);
    return only < 0 ? 0 : this.ask((RuleField.HEADER + Math.imul(only, RuleField.STRIDE)) | 0, packet, nowMs);
  }

  private pend(record: number): void {
    this.pending[record >> 5] |= 1 << (record & 31);
    this.pendingWords[record >> 10] |= 1 << ((record >> 5) & 31);
  }

  /** Asks the records that are pending, in order, until one decides. Leaves none pending. */
  private askPending(packet: Packet, nowMs: number): number {
    const { pending, pendingWords } = this;
    let decision = 0;
    for (let s = 0; s < pendingWords.length; s++) {
      let summary = pendingWords[s];
      pendingWords[s] = 0;
      while (summary !== 0) {
        const w = ((s << 5) + 31 - Math.clz32(summary & -summary)) | 0;
        summary &= summary - 1;
        let bits = pending[w];
        pending[w] = 0;
        while (bits !== 0 && decision === 0) {
          const record = ((w << 5) + 31 - Math.clz32(bits & -bits)) | 0;
          bits &= bits - 1;
          decision = this.ask((RuleField.HEADER + Math.imul(record, RuleField.STRIDE)) | 0, packet, nowMs);
        }
      }
    }
    return decision;
  }

  /** Compares one record, counts, acts. Returns the decision, 0: none, go on. */
  private ask(at: number, packet: Packet, nowMs: number): number {
    const rules = this.words;
    if (!matchesFields(rules, at, packet)) return 0;
    const id = rules[at + RuleField.id];
    if (id === this.hitId) return 0;
    if (rules[at + RuleField.fields] >= RuleMatch.sets && !this.matchesMore(at, packet)) return 0;
    this.hitId = id;
    const threshold = rules[at + RuleField.threshold];
    if (threshold !== 0 && ((packet.decided & rules[at + RuleField.decided]) !== 0 || !this.chance.below(threshold))) {
      return 0;
    }
    const counters = this.counters;
    const counter = (CounterBlock.rules + Math.imul(id, RuleCounter.SIZE)) | 0;
    const bytes = (packet.dataEnd - packet.data) | 0;
    counters[(counter + RuleCounter.packets) | 0]++;
    counters[(counter + RuleCounter.bytes) | 0] += bytes;
    const action = rules[at + RuleField.action];
    if (this.watch !== null && action !== RuleAction.sample) this.watch.matched(packet, id);
    if (action === RuleAction.count) return 0;
    const enforced = (rules[at + RuleField.flags] & RuleFlag.shadow) === 0;
    if (action !== RuleAction.pass) {
      if (action !== RuleAction.drop && !this.acts(at, action, packet, nowMs, enforced)) return 0;
      counters[(counter + RuleCounter.acted) | 0]++;
      counters[(counter + RuleCounter.actedBytes) | 0] += bytes;
    }
    return enforced && action !== RuleAction.sample ? action : 0;
  }

  /**
   * What is not in the record itself. Sets come last: look-ups in them are counted, and how many there are must not hang on what the index knows of the
   * program.
   */
  private matchesMore(at: number, packet: Packet): boolean {
    const rules = this.words;
    const fields = rules[at + RuleField.fields];
    if ((fields & RuleMatch.program) !== 0 && !this.programMatches(rules[at + RuleField.program], packet)) return false;
    return (
      (fields & RuleMatch.sets) === 0 ||
      this.inSets(rules[at + RuleField.setStart], rules[at + RuleField.setCount], packet)
    );
  }

  private inSets(start: number, count: number, packet: Packet): boolean {
    const runs = this.runs;
    for (let i = 0; i < count; i++) {
      const at = (start + (i << 1)) | 0;
      if (!this.parts.sets[runs[at]].has(packet, runs[at + 1])) return false;
    }
    return true;
  }

  private programMatches(program: number, packet: Packet): boolean {
    const { match, wantsFrame } = this.programs[program];
    if (wantsFrame) {
      const length = (packet.dataEnd - packet.data) | 0;
      return match(packet.view, packet.data, length, length) !== 0;
    }
    return packet.family !== 0 && match(packet.view, packet.l3, packet.l3Length, packet.l3Length) !== 0;
  }

  /** Whether the action concerns this packet; carried out when it is one that leaves the packet be. */
  private acts(at: number, action: number, packet: Packet, nowMs: number, enforced: boolean): boolean {
    const rules = this.words;
    switch (action) {
      case RuleAction.limit:
        // What the kernel has found within the limit it has charged too.
        if ((packet.decided & rules[at + RuleField.decided]) !== 0) return false;
        return this.parts.limits[rules[at + RuleField.limit]].judge(packet, nowMs) !== 0;
      case RuleAction.sample: {
        const sampler = this.parts.samples[rules[at + RuleField.sample]];
        if (!sampler.judge(packet, nowMs)) return false;
        if (enforced) sampler.take(packet, rules[at + RuleField.id]);
        return true;
      }
      case RuleAction.challenge:
        return packet.protocol === IpProtocol.tcp && (packet.tcpFlags & CONTROL) === TcpFlag.syn;
      default:
        return true;
    }
  }
}

const CONTROL = TcpFlag.fin | TcpFlag.syn | TcpFlag.rst | TcpFlag.ack;

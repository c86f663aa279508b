/**
 * Rules as eBPF: what the data plane's chain would drop by a rule is dropped in XDP, and counted as the chain would have counted it. Everything else is
 * left to the chain, which then sees the packet as if nothing had looked at it before. So no packet is counted twice, and a rule that the kernel cannot
 * carry out only costs the drops of packets that match it.
 */
import { MAX_RULES, RuleField } from '../../../shared/layout.js';
import { Label, type Assembler } from '../assembler.js';
import { emitClassic, emitEntry, type Access } from '../from_cbpf.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';
import { emitDecisions, emitUndecided } from './decided.js';
import { emitDestination } from './destination.js';
import { emitReach, Kept, KINDS, least, port, type PacketKind } from './kinds.js';
import { emitKinds } from './plain.js';
import type { Plan, PlannedRecord } from './plan.js';
import { canMatch, emitFields } from './record.js';
import { emitSanity, leavesAll, type SanityBefore } from './sanity.js';
import { emitAsk, emitEntryCounts, emitNoneAsked, emitSetCounts, emitStages, type LookupContext } from './set_lookup.js'; // prettier-ignore
import type { KernelSets } from './set_maps.js';
import { splitOf } from './split.js';
import { emitStateful, type StatefulEnvironment } from './stateful.js';

/**
 * Value of the counters' map (BPF_MAP_TYPE_PERCPU_ARRAY), one a rule number (RuleField.id): uint64s in the order of RuleCounter.
 */
export const COUNTER_BYTES = 32;

/** What the sets that drop before the rules count under, in the same map. */
export const SET_DROPS = MAX_RULES;

/** Instructions of one kind's rules, at most: so are all within the reach of a jump. Rules behind are left to user space. */
const KIND_MOST = 7000;

export interface RulesEnvironment extends StatefulEnvironment {
  readonly access: Access;
  /** Descriptor of the counters' map. */
  readonly counters: number;
  /** Descriptor of vip_map: only packets to a destination in it meet the rules. null: all. */
  readonly vips: number | null;
  /** null: no sanity checks stand before the rules. */
  readonly sanity: SanityBefore | null;
  /** What the plan was made with. */
  readonly sets?: KernelSets | null;
  /** Writes what ends the program for a packet that a rule has dropped, and for one that is left, behind what is said of it in front of the packet. */
  dropped(): void;
  left(): void;
  /** Hears of each rule (RuleField.id) that there was no room for, perhaps several times. */
  cut?(rule: number): void;
}

/** Appends the rules. r1 is the context of XDP. Returns how many of the records are in it, for each of KINDS. */
export function emitRules(asm: Assembler, plan: Plan, environment: RulesEnvironment): number[] {
  const leave = new Label();
  // What is not for user space needs no word to it.
  const host = plan.nonce === 0 ? leave : new Label();
  const drop = new Label();
  const labels = KINDS.map(() => new Label());
  emitEntry(asm);
  if (plan.nonce !== 0) emitUndecided(asm);
  emitKinds(asm, labels, leave);
  const written = KINDS.map((kind, i) => {
    asm.place(labels[i]);
    return emitKind(asm, plan, environment, kind, { leave, host, drop });
  });
  if (drop.firstUse >= 0) {
    asm.place(drop);
    emitCounting(asm, plan, environment.counters);
    if (environment.sets) emitSetCounts(asm, { lookups: plan.lookups, sets: environment.sets });
    environment.dropped();
  }
  asm.place(leave);
  if (plan.nonce !== 0) emitDecisions(asm, plan.nonce);
  asm.place(host);
  environment.left();
  return written;
}

interface Ends {
  readonly leave: Label;
  /** For packets whose destination is the host's. */
  readonly host: Label;
  readonly drop: Label;
}

interface RecordEnds extends Ends {
  /** Behind the last record of the rule; null: it is the next thing anyway. */
  readonly behind: Label | null;
  /** Where a rule draws or meters, once for all of its records. */
  readonly judge: Label;
}

function contextOf({ lookups }: Plan, { sets }: RulesEnvironment): LookupContext {
  return { lookups, sets: sets ?? { counters: -1, zeroNs: 0n } };
}

/** The records from `first` on that are of one rule. */
function groupAt(rules: Int32Array, records: readonly PlannedRecord[], first: number): readonly PlannedRecord[] {
  const ruleOf = ({ at }: PlannedRecord): number => rules[at + RuleField.id];
  const end = records.findIndex((record, i) => i > first && ruleOf(record) !== ruleOf(records[first]));
  return records.slice(first, end < 0 ? records.length : end);
}

function emitKind(asm: Assembler, plan: Plan, environment: RulesEnvironment, kind: PacketKind, ends: Ends): number {
  const { sanity, vips } = environment;
  const context = contextOf(plan, environment);
  const records = plan.records.filter(({ at }) => canMatch(plan.rules, at, kind));
  const drops = plan.drops.length > 0 || records.some(({ step }) => step === 'drop');
  if (!drops || (sanity !== null && leavesAll(kind, sanity))) {
    asm.goto(ends.leave);
    return 0;
  }
  // Entries of sets are counted by a key, which is made of the packet.
  const drop = plan.lookups.some(({ set }) => set.counts) ? new Label() : ends.drop;
  const most = asm.length + KIND_MOST;
  if (vips !== null) emitDestination(asm, kind, vips, ends.host);
  if (sanity !== null) emitSanity(asm, kind, sanity, ends.leave);
  if (plan.marks.length > 0) asm.storeImm(Size.DW, Reg.r10, Kept.marks, 0);
  if (plan.drops.length > 0) asm.storeImm(Size.W, Reg.r10, Kept.rule, SET_DROPS);
  emitNoneAsked(asm, context);
  emitStages(asm, context, plan, kind, ends.leave, drop);
  const written = new Set<PlannedRecord>();
  emitSearch(records);
  if (drop !== ends.drop && drop.firstUse >= 0) {
    asm.place(drop);
    emitReach(asm, least(kind), ends.leave);
    emitEntryCounts(asm, context, kind);
    asm.goto(ends.drop);
  }
  return written.size;

  /** Parts the records by ports, down to lists of a few. */
  function emitSearch(some: readonly PlannedRecord[]): void {
    // With no drop behind it, there is nothing to look for.
    const searched = some.slice(0, some.findLastIndex(({ step }) => step === 'drop') + 1);
    const split = asm.length < most ? splitOf(plan.rules, searched) : null;
    if (split === null) return emitList(searched);
    const high = new Label();
    port(asm, kind, Reg.r1, split.offset);
    asm.jump32(Jump.JGT, Reg.r1, split.at, high);
    emitSearch(split.low);
    asm.place(high);
    emitSearch(split.high);
  }

  function emitList(some: readonly PlannedRecord[]): void {
    for (let first = 0; first < some.length;) {
      const group = groupAt(plan.rules, some, first);
      // Where a packet goes on that a record has marked: it does not meet the rule's other records.
      const behind = new Label();
      const judge = new Label();
      let reached = true;
      for (const [i, record] of group.entries()) {
        if (asm.length > most) {
          for (const { at } of some.slice(first + i)) environment.cut?.(plan.rules[at + RuleField.id]);
          asm.place(behind);
          asm.goto(ends.leave);
          if (judge.firstUse < 0) return;
          asm.place(judge);
          emitJudge(group);
          asm.goto(ends.leave);
          return;
        }
        written.add(record);
        const isLast = i === group.length - 1;
        const there = { ...ends, drop, judge, behind: isLast ? null : behind };
        reached = emitRecord(asm, plan, environment, kind, record, there);
        if (!reached) break;
      }
      if (judge.firstUse >= 0) {
        if (reached) asm.goto(behind);
        asm.place(judge);
        emitJudge(group);
        reached = true;
      }
      asm.place(behind);
      if (!reached && behind.firstUse < 0) return;
      const forgotten = environment.access === 'helpers' && group.some(({ program }) => program !== null);
      if (behind.firstUse >= 0 && forgotten) emitReach(asm, least(kind), ends.leave);
      first += group.length;
    }
    asm.goto(ends.leave);
  }

  /** A rule that draws or meters, for packets that match one of its records. */
  function emitJudge(group: readonly PlannedRecord[]): void {
    const over = new Label();
    const past = new Label();
    const [{ stateful, at }] = group;
    if (group.some(({ program }) => program !== null)) emitReach(asm, least(kind), ends.leave);
    emitStateful(asm, stateful!, kind, environment, { over, leave: ends.leave });
    emitMark(asm, group[0]);
    asm.goto(past);
    asm.place(over);
    asm.storeImm(Size.W, Reg.r10, Kept.rule, plan.rules[at + RuleField.id]);
    asm.goto(drop);
    asm.place(past);
  }
}

/** False when no packet of the kind goes on with what is written next. */
function emitRecord(
  asm: Assembler,
  plan: Plan,
  environment: RulesEnvironment,
  kind: PacketKind,
  record: PlannedRecord,
  ends: RecordEnds,
): boolean {
  const { access } = environment;
  const { rules } = plan;
  const next = new Label();
  const matched = (): void => {
    for (const i of record.lookups) {
      if (!emitAsk(asm, contextOf(plan, environment), i, kind, next, ends.leave)) return;
    }
    emitStep(asm, rules, record, ends);
  };
  emitFields(asm, rules, record.at, kind, next);
  if (record.program !== null) {
    const hit = new Label();
    emitClassic(asm, record.program, {
      access,
      length: 'packet',
      returns: () => asm.goto(hit),
      returnsA: () => {
        asm.jump32(Jump.JNE, Reg.r8, 0, hit);
        asm.goto(next);
      },
      fails: () => asm.goto(next),
    });
    // A program may return nothing but 0.
    if (hit.firstUse >= 0) {
      asm.place(hit);
      if (record.lookups.length > 0 && access === 'helpers') emitReach(asm, least(kind), ends.leave);
      matched();
    }
  } else {
    matched();
  }
  asm.place(next);
  // The classic program has read the packet's bounds anew, and the verifier has forgotten what it knew of them.
  if (record.program !== null && access === 'helpers' && next.firstUse >= 0) emitReach(asm, least(kind), ends.leave);
  return next.firstUse >= 0 || (record.step === 'mark' && ends.behind === null);
}

function emitStep(asm: Assembler, rules: Int32Array, record: PlannedRecord, ends: RecordEnds): void {
  const { leave, drop, behind, judge } = ends;
  const { step, at, stateful } = record;
  if (step === 'leave') return asm.goto(leave);
  if (stateful !== null) return asm.goto(judge);
  if (step === 'drop') {
    asm.storeImm(Size.W, Reg.r10, Kept.rule, rules[at + RuleField.id]);
    return asm.goto(drop);
  }
  emitMark(asm, record);
  if (behind !== null) asm.goto(behind);
}

/** Remembers the packet for the counters of a rule that lets the search go on. */
function emitMark(asm: Assembler, { mark }: PlannedRecord): void {
  if (mark < 0) return;
  asm.load(Size.DW, Reg.r1, Reg.r10, Kept.marks);
  asm.alu64(Alu.OR, Reg.r1, 1 << mark);
  asm.store(Size.DW, Reg.r10, Kept.marks, Reg.r1);
}

/**
 * Counts a packet that is dropped, for the rule that does it and for the marked ones before. A mark is added as the number that it is, not asked
 * about: the verifier would go through every combination of them.
 */
function emitCounting(asm: Assembler, plan: Plan, counters: number): void {
  asm.load(Size.W, Reg.r8, Reg.r10, Kept.frameBytes);
  asm.alu32(Alu.MOV, Reg.r9, 1);
  emitCount(asm, counters, Kept.rule, true);
  plan.marks.forEach(({ rule, acts }, i) => {
    asm.load(Size.DW, Reg.r9, Reg.r10, Kept.marks);
    asm.alu64(Alu.RSH, Reg.r9, i);
    asm.alu64(Alu.AND, Reg.r9, 1);
    asm.load(Size.W, Reg.r8, Reg.r10, Kept.frameBytes);
    asm.alu64X(Alu.MUL, Reg.r8, Reg.r9);
    asm.storeImm(Size.W, Reg.r10, Kept.key, rule);
    emitCount(asm, counters, Kept.key, acts);
  });
}

/** Adds r9 packets and r8 bytes to the counters of the rule at `key` of the stack. */
function emitCount(asm: Assembler, counters: number, key: Kept, acts: boolean): void {
  const absent = new Label();
  asm.loadMap(Reg.r1, counters);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
  asm.alu64(Alu.ADD, Reg.r2, key);
  asm.call(Helper.map_lookup_elem);
  asm.jump64(Jump.JEQ, Reg.r0, 0, absent);
  // packets, bytes, acted, actedBytes; this CPU's own.
  const amounts = acts ? [Reg.r9, Reg.r8, Reg.r9, Reg.r8] : [Reg.r9, Reg.r8];
  amounts.forEach((amount, i) => {
    asm.load(Size.DW, Reg.r1, Reg.r0, i * 8);
    asm.alu64X(Alu.ADD, Reg.r1, amount);
    asm.store(Size.DW, Reg.r0, i * 8, Reg.r1);
  });
  asm.place(absent);
}

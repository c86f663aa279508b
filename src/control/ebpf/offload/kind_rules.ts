/** The rules for one kind of packet. */
import { RuleField } from '../../../shared/layout.js';
import { Label, type Assembler } from '../assembler.js';
import { emitClassic, type Access } from '../from_cbpf.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';
import { emitCopiesAgain, emitFramePointers } from './copies.js';
import { SET_DROPS } from './counting.js';
import { emitDestination } from './destination.js';
import { emitReach, least, port, type PacketKind } from './kinds.js';
import type { Plan, PlannedRecord } from './plan.js';
import { canMatch, emitFields } from './record.js';
import { emitSanity, leavesAll, type SanityBefore } from './sanity.js';
import { emitAsk, emitEntryCounts, emitNoneAsked, emitStages, type LookupContext } from './set_lookup.js';
import type { KernelSets } from './set_maps.js';
import { splitOf } from './split.js';
import { Kept } from './stack.js';
import { emitStateful, type StatefulEnvironment } from './stateful.js';

/** Instructions of one kind's rules, at most: so are all within the reach of a jump. Rules behind are left to user space. */
const KIND_MOST = 7000;

export interface RulesEnvironment extends StatefulEnvironment {
  readonly access: Access;
  /** Descriptor of the counters' map. */
  readonly counters: number;
  /** Descriptor of a map for Copy. */
  readonly copies: number;
  /** Descriptor of vip_map: only packets to a destination in it meet the rules. null: all. */
  readonly vips: number | null;
  /** null: no sanity checks stand before the rules. */
  readonly sanity: SanityBefore | null;
  /** What the plan was made with. */
  readonly sets?: KernelSets | null;
  /** Writes what ends the program for a packet that a rule has dropped, and for one that is left, behind what is said of it in front of the packet. */
  dropped(): void;
  left(): void;
  /** Counts a frame that is not IP and will be dropped; the program goes on behind it. */
  notIp?(): void;
  /** Hears of each rule (RuleField.id) that there was no room for, perhaps several times. */
  cut?(rule: number): void;
}

export interface Ends {
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

/** Whether the kernel can drop packets of the kind. */
export function dropsSome(plan: Plan, { sanity, vips }: RulesEnvironment, kind: PacketKind): boolean {
  // Only addresses are in vip_map.
  if ((kind.family === 0 && vips !== null) || (sanity !== null && leavesAll(kind, sanity))) return false;
  if (kind.family !== 0 && plan.drops.length > 0) return true;
  return plan.records.some(({ at, step }) => step === 'drop' && canMatch(plan.rules, at, kind));
}

/** The rules for packets of a kind that dropsSome. Returns how many of the records there was room for. */
export function emitKind(
  asm: Assembler,
  plan: Plan,
  environment: RulesEnvironment,
  kind: PacketKind,
  ends: Ends,
): number {
  const { sanity, vips } = environment;
  const context = contextOf(plan, environment);
  const records = plan.records.filter(({ at }) => canMatch(plan.rules, at, kind));
  // Entries of sets are counted by a key, which is made of the packet.
  const drop = plan.lookups.some(({ set }) => set.counts) ? new Label() : ends.drop;
  const most = asm.length + KIND_MOST;
  if (vips !== null) emitDestination(asm, kind, vips, ends.host);
  if (sanity !== null) emitSanity(asm, kind, sanity, ends.leave);
  if (plan.marks.length > 0) asm.storeImm(Size.DW, Reg.r10, Kept.marks, 0);
  if (plan.drops.length > 0) asm.storeImm(Size.W, Reg.r10, Kept.rule, SET_DROPS);
  emitNoneAsked(asm, context, kind);
  emitStages(asm, context, plan, kind, ends.leave, drop);
  const written = new Set<PlannedRecord>();
  emitSearch(records);
  if (drop !== ends.drop && drop.firstUse >= 0) {
    asm.place(drop);
    emitHeadersAgain(asm, kind, ends.leave);
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
      const forgotten = forgets(kind, environment) && group.some(({ program }) => program !== null);
      if (behind.firstUse >= 0 && forgotten) emitHeadersAgain(asm, kind, ends.leave);
      first += group.length;
    }
    asm.goto(ends.leave);
  }

  /** A rule that draws or meters, for packets that match one of its records. */
  function emitJudge(group: readonly PlannedRecord[]): void {
    const over = new Label();
    const past = new Label();
    const [{ stateful, at }] = group;
    if (group.some(({ program }) => program !== null)) emitHeadersAgain(asm, kind, ends.leave);
    emitStateful(asm, stateful!, kind, environment, { over, leave: ends.leave });
    emitMark(asm, group[0]);
    asm.goto(past);
    asm.place(over);
    asm.storeImm(Size.W, Reg.r10, Kept.rule, plan.rules[at + RuleField.id]);
    asm.goto(drop);
    asm.place(past);
  }
}

/** Whether a classic program takes the headers of the kind out of the registers, or what the verifier knew of them by reading the packet's bounds anew. */
function forgets(kind: PacketKind, { access }: RulesEnvironment): boolean {
  return !kind.plain || access === 'helpers';
}

function emitHeadersAgain(asm: Assembler, kind: PacketKind, leave: Label): void {
  if (kind.plain) emitReach(asm, least(kind), leave);
  else emitCopiesAgain(asm);
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
    emitStep(asm, rules, kind, record, ends);
  };
  emitFields(asm, rules, record.at, kind, next);
  if (record.program !== null) {
    const hit = new Label();
    if (!kind.plain) emitFramePointers(asm);
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
      if (record.lookups.length > 0 && forgets(kind, environment)) emitHeadersAgain(asm, kind, ends.leave);
      matched();
    }
  } else {
    matched();
  }
  asm.place(next);
  if (record.program !== null && next.firstUse >= 0 && forgets(kind, environment)) {
    emitHeadersAgain(asm, kind, ends.leave);
  }
  return next.firstUse >= 0 || (record.step === 'mark' && ends.behind === null);
}

function emitStep(asm: Assembler, rules: Int32Array, kind: PacketKind, record: PlannedRecord, ends: RecordEnds): void {
  const { leave, drop, behind, judge } = ends;
  const { step, at, stateful } = record;
  // Of frames that are not IP there is no key to a limit, and no length.
  if (step === 'leave' || (kind.family === 0 && stateful?.limit)) return asm.goto(leave);
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

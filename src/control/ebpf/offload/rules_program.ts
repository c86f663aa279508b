/**
 * Rules as eBPF: what the data plane's chain would drop by a rule is dropped in XDP, and counted as the chain would have counted it. Everything else is
 * left to the chain, which then sees the packet as if nothing had looked at it before. So no packet is counted twice, and a rule that the kernel cannot
 * carry out only costs the drops of packets that match it.
 */
import { RuleField } from '../../../shared/layout.js';
import { Label, type Assembler } from '../assembler.js';
import { emitClassic, emitEntry, type Access } from '../from_cbpf.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';
import { emitDestination } from './destination.js';
import { emitReach, Kept, KINDS, least, port, type PacketKind } from './kinds.js';
import { emitKinds } from './plain.js';
import type { Plan, PlannedRecord } from './plan.js';
import { canMatch, emitFields } from './record.js';
import { emitSanity, leavesAll, type SanityBefore } from './sanity.js';
import { splitOf } from './split.js';

/**
 * Value of the counters' map (BPF_MAP_TYPE_PERCPU_ARRAY), one a rule number (RuleField.id): uint64s in the order of RuleCounter.
 */
export const COUNTER_BYTES = 32;

/** Instructions of one kind's rules, at most: so are all within the reach of a jump. Rules behind are left to user space. */
const KIND_MOST = 7000;

export interface RulesEnvironment {
  readonly access: Access;
  /** Descriptor of the counters' map. */
  readonly counters: number;
  /** Descriptor of vip_map: only packets to a destination in it meet the rules. null: all. */
  readonly vips: number | null;
  /** null: no sanity checks stand before the rules. */
  readonly sanity: SanityBefore | null;
  /** Writes what ends the program for a packet that a rule has dropped, and for one that is left. */
  dropped(): void;
  left(): void;
  /** Hears of each rule (RuleField.id) that there was no room for, perhaps several times. */
  cut?(rule: number): void;
}

/** Appends the rules. r1 is the context of XDP. Returns how many of the records are in it, for each of KINDS. */
export function emitRules(asm: Assembler, plan: Plan, environment: RulesEnvironment): number[] {
  const leave = new Label();
  const drop = new Label();
  const labels = KINDS.map(() => new Label());
  emitEntry(asm);
  emitKinds(asm, labels, leave);
  const written = KINDS.map((kind, i) => {
    asm.place(labels[i]);
    return emitKind(asm, plan, environment, kind, { leave, drop });
  });
  if (drop.firstUse >= 0) {
    asm.place(drop);
    emitCounting(asm, plan, environment.counters);
    environment.dropped();
  }
  asm.place(leave);
  environment.left();
  return written;
}

interface Ends {
  readonly leave: Label;
  readonly drop: Label;
}

function emitKind(asm: Assembler, plan: Plan, environment: RulesEnvironment, kind: PacketKind, ends: Ends): number {
  const { sanity, vips } = environment;
  const records = plan.records.filter(({ at }) => canMatch(plan.rules, at, kind));
  if (!records.some(({ step }) => step === 'drop') || (sanity !== null && leavesAll(kind, sanity))) {
    asm.goto(ends.leave);
    return 0;
  }
  const most = asm.length + KIND_MOST;
  if (vips !== null) emitDestination(asm, kind, vips, ends.leave);
  if (sanity !== null) emitSanity(asm, kind, sanity, ends.leave);
  if (plan.marks.length > 0) asm.storeImm(Size.DW, Reg.r10, Kept.marks, 0);
  const written = new Set<PlannedRecord>();
  emitSearch(records);
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
    for (const [i, record] of some.entries()) {
      if (asm.length > most) {
        for (const { at } of some.slice(i)) environment.cut?.(plan.rules[at + RuleField.id]);
        break;
      }
      written.add(record);
      if (!emitRecord(asm, plan, environment, kind, record, ends)) return;
    }
    asm.goto(ends.leave);
  }
}

/** False when no packet of the kind gets past the record. */
function emitRecord(
  asm: Assembler,
  { rules }: Plan,
  { access }: RulesEnvironment,
  kind: PacketKind,
  record: PlannedRecord,
  ends: Ends,
): boolean {
  const next = new Label();
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
      emitStep(asm, rules, record, ends);
    }
  } else {
    emitStep(asm, rules, record, ends);
  }
  asm.place(next);
  // The classic program has read the packet's bounds anew, and the verifier has forgotten what it knew of them.
  if (record.program !== null && access === 'helpers' && next.firstUse >= 0) emitReach(asm, least(kind), ends.leave);
  return next.firstUse >= 0 || record.step === 'mark';
}

function emitStep(asm: Assembler, rules: Int32Array, { step, at, mark }: PlannedRecord, { leave, drop }: Ends): void {
  if (step === 'leave') return asm.goto(leave);
  if (step === 'drop') {
    asm.storeImm(Size.W, Reg.r10, Kept.rule, rules[at + RuleField.id]);
    return asm.goto(drop);
  }
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

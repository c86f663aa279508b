/** Counters of the rules in the kernel. */
import { MAX_RULES } from '../../../shared/layout.js';
import { Label, type Assembler } from '../assembler.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';

import type { Plan } from './plan.js';
import { Kept } from './stack.js';

/**
 * Value of the counters' map (BPF_MAP_TYPE_PERCPU_ARRAY), one a rule number (RuleField.id): uint64s in the order of RuleCounter.
 */
export const COUNTER_BYTES = 32;

/** What the sets that drop before the rules count under, in the same map. */
export const SET_DROPS = MAX_RULES;

/**
 * Counts a packet that is dropped, for the rule that does it and for the marked ones before. A mark is added as the number that it is, not asked
 * about: the verifier would go through every combination of them.
 */
export function emitCounting(asm: Assembler, plan: Plan, counters: number): void {
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

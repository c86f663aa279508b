/**
 * Rules that may be asked once a packet only: those that draw, and those that meter. What the kernel has decided about them and not dropped, it writes
 * in front of the packet (src/shared/kernel_decisions.ts), so that the worker does not draw or charge again.
 */
import { DecisionWord } from '../../../shared/kernel_decisions.js';
import { RuleAction, RuleField, RuleFlag, RuleMatch, type LimitSpec } from '../../../shared/layout.js';
import { Label, type Assembler } from '../assembler.js';
import { Stack } from '../from_cbpf.js';
import { Alu, Helper, Jump, Reg, Size, XdpMd } from '../instruction.js';
import { creditOf } from './limit_credit.js';
import { Decided } from './stack.js';

/** What decides whether a record that matches drops the packet. */
export interface Stateful {
  /** RuleField.decided. */
  readonly bit: number;
  /** RuleField.threshold of a rule that draws; 0: it meters. */
  readonly threshold: number;
  readonly limit: LimitSpec | null;
}

/** What a record says of its rule, for one that drops by chance or above a limit; or why the kernel cannot do it. null: it needs no such thing. */
export function statefulOf(rules: Int32Array, at: number, limits: readonly LimitSpec[]): Stateful | string | null {
  const threshold = rules[at + RuleField.threshold];
  const action = rules[at + RuleField.action];
  const meters = action === (RuleAction.limit as number);
  if (threshold === 0 && !meters) return null;
  const enforced = (rules[at + RuleField.flags] & RuleFlag.shadow) === 0;
  if (meters && threshold !== 0) return 'limits by chance';
  if (meters && !enforced) return 'limits in shadow mode';
  if (action !== (RuleAction.drop as number) && !meters) return 'is hit by chance and does not drop';
  if (!enforced) return 'is hit by chance in shadow mode';
  const bit = rules[at + RuleField.decided];
  if (bit === 0) return 'has too many rules with limits or by chance before it';
  if (!meters) return { bit, threshold, limit: null };
  const limit = limits.at(rules[at + RuleField.limit]);
  if (limit === undefined) return 'limits';
  if (limit.kind === 'hash' && limit.shared.run.rateMatch) return 'judges rates of the interval before';
  if (creditOf(limit) === null) return 'has a limit whose burst takes too long to fill';
  return { bit, threshold: 0, limit };
}

/** Whether no packet matches both records, as far as protocol, ports and prefixes say. */
export function areDisjoint(rules: Int32Array, a: number, b: number): boolean {
  const both = rules[a + RuleField.fields] & rules[b + RuleField.fields];
  const differs = (bit: RuleMatch, field: RuleField): boolean =>
    (both & bit) !== 0 && rules[a + field] !== rules[b + field];
  const apart = (bit: RuleMatch, first: RuleField): boolean =>
    (both & bit) !== 0 && (rules[a + first] > rules[b + first + 1] || rules[b + first] > rules[a + first + 1]);
  const elsewhere = (bit: RuleMatch, first: RuleField): boolean => {
    if ((both & bit) === 0) return false;
    for (let i = 0; i < 4; i++) {
      const mask = rules[a + first + 4 + i] & rules[b + first + 4 + i];
      if (((rules[a + first + i] ^ rules[b + first + i]) & mask) !== 0) return true;
    }
    return false;
  };
  return (
    differs(RuleMatch.family, RuleField.family) ||
    differs(RuleMatch.protocol, RuleField.protocol) ||
    apart(RuleMatch.dport, RuleField.dportFirst) ||
    apart(RuleMatch.sport, RuleField.sportFirst) ||
    elsewhere(RuleMatch.src, RuleField.src0) ||
    elsewhere(RuleMatch.dst, RuleField.dst0)
  );
}

/** Nothing is decided yet. At the start of a program whose plan has stateful records. */
export function emitUndecided(asm: Assembler): void {
  asm.storeImm(Size.W, Reg.r10, Decided.rules, 0);
}

/**
 * Goes to `leave` when nothing can be written in front of the packet: the driver has no metadata, and says so by a data_meta behind the packet's
 * start (xdp_set_data_meta_invalid), or has some of its own there. Uses r1 and r2.
 */
export function emitWritable(asm: Assembler, leave: Label): void {
  const writable = new Label();
  asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
  asm.load(Size.W, Reg.r2, Reg.r1, XdpMd.data);
  asm.load(Size.W, Reg.r1, Reg.r1, XdpMd.data_meta);
  asm.jump64X(Jump.JGT, Reg.r1, Reg.r2, leave);
  asm.alu64(Alu.ADD, Reg.r1, 1);
  asm.jump64X(Jump.JGT, Reg.r1, Reg.r2, writable);
  asm.goto(leave);
  asm.place(writable);
}

/** The packet got past a rule. Uses r1. */
export function emitDecided(asm: Assembler, bit: number): void {
  asm.load(Size.W, Reg.r1, Reg.r10, Decided.rules);
  asm.alu32(Alu.OR, Reg.r1, bit);
  asm.store(Size.W, Reg.r10, Decided.rules, Reg.r1);
}

/**
 * Writes both words in front of the packet, of every packet that is left: the frame of user space that it is copied to may still have those of another,
 * which no worker has read. Uses r0 to r5, and all pointers to the packet are gone.
 */
export function emitDecisions(asm: Assembler, nonce: number): void {
  const none = new Label();
  asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
  asm.alu32(Alu.MOV, Reg.r2, -DecisionWord.BYTES);
  asm.call(Helper.xdp_adjust_meta);
  asm.jump64(Jump.JNE, Reg.r0, 0, none);
  asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
  asm.load(Size.W, Reg.r2, Reg.r1, XdpMd.data);
  asm.load(Size.W, Reg.r1, Reg.r1, XdpMd.data_meta);
  asm.alu64X(Alu.MOV, Reg.r3, Reg.r1);
  asm.alu64(Alu.ADD, Reg.r3, DecisionWord.BYTES);
  asm.jump64X(Jump.JGT, Reg.r3, Reg.r2, none);
  asm.storeImm(Size.W, Reg.r1, DecisionWord.BYTES + DecisionWord.nonce, nonce);
  asm.load(Size.W, Reg.r2, Reg.r10, Decided.rules);
  asm.store(Size.W, Reg.r1, DecisionWord.BYTES + DecisionWord.rules, Reg.r2);
  asm.place(none);
}

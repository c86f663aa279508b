import { RuleField, RuleMatch } from '../../../shared/layout.js';
import type { Assembler, Label } from '../assembler.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';
import { addressesOf, COPIES, Copy, field, port, type PacketKind } from './kinds.js';
import { Kept } from './stack.js';

/** Whether a packet of the kind can match the record at all: what all packets of the kind have in common. */
export function canMatch(rules: Int32Array, at: number, { family, protocol, plain }: PacketKind): boolean {
  const fields = rules[at + RuleField.fields];
  if (family === 0) return (fields & RuleMatch.ip) === 0;
  if ((fields & RuleMatch.family) !== 0 && rules[at + RuleField.family] !== family) return false;
  if ((fields & RuleMatch.tcpFlags) !== 0 && protocol !== 6) return false;
  if ((fields & RuleMatch.protocol) !== 0 && protocol !== null && rules[at + RuleField.protocol] !== protocol)
    return false;
  return !plain || (fields & RuleMatch.fragment) === 0 || rules[at + RuleField.fragment] === 0;
}

/** Compares the fields of a record that canMatch, as src/dataplane/filter/rule_fields.ts does; goes to `next` where one differs. Uses r1. */
export function emitFields(asm: Assembler, rules: Int32Array, at: number, kind: PacketKind, next: Label): void {
  const fields = rules[at + RuleField.fields];
  const between = (first: RuleField, most: number): void =>
    emitBetween(asm, rules[at + first], rules[at + first + 1], most, next);
  if ((fields & RuleMatch.protocol) !== 0 && kind.protocol === null) {
    asm.load(Size.W, Reg.r1, COPIES, Copy.protocol);
    asm.jump32(Jump.JNE, Reg.r1, rules[at + RuleField.protocol], next);
  }
  // NO_PORT is above all ports.
  const portMost = kind.protocol === null ? 0x7fffffff : 0xffff;
  if ((fields & RuleMatch.dport) !== 0) {
    port(asm, kind, Reg.r1, 2);
    between(RuleField.dportFirst, portMost);
  }
  if ((fields & RuleMatch.sport) !== 0) {
    port(asm, kind, Reg.r1, 0);
    between(RuleField.sportFirst, portMost);
  }
  const { src, dst } = addressesOf(kind);
  if ((fields & RuleMatch.src) !== 0) emitAddress(asm, kind, rules, at + RuleField.src0, src, next);
  if ((fields & RuleMatch.dst) !== 0) emitAddress(asm, kind, rules, at + RuleField.dst0, dst, next);
  if ((fields & RuleMatch.tcpFlags) !== 0) {
    field(asm, kind, Reg.r1, Size.B, kind.l4 + 13);
    asm.alu32(Alu.AND, Reg.r1, rules[at + RuleField.tcpMask]);
    asm.jump32(Jump.JNE, Reg.r1, rules[at + RuleField.tcpValue], next);
  }
  if ((fields & RuleMatch.length) !== 0) {
    asm.load(Size.W, Reg.r1, Reg.r10, Kept.l3Bytes);
    between(RuleField.lengthFirst, 0x7fffffff);
  }
  if ((fields & RuleMatch.ttl) !== 0) {
    field(asm, kind, Reg.r1, Size.B, kind.l3 + (kind.family === 4 ? 8 : 7));
    between(RuleField.ttlFirst, 0xff);
  }
  if ((fields & RuleMatch.fragment) !== 0 && !kind.plain) {
    asm.load(Size.W, Reg.r1, COPIES, Copy.fragment);
    asm.jump32(rules[at + RuleField.fragment] !== 0 ? Jump.JEQ : Jump.JNE, Reg.r1, 0, next);
  }
}

/** r1 is from `first` to `last`, of 0 to `most`. */
function emitBetween(asm: Assembler, first: number, last: number, most: number, next: Label): void {
  if (first === last) return asm.jump32(Jump.JNE, Reg.r1, first, next);
  if (first > 0) asm.jump32(Jump.JLT, Reg.r1, first, next);
  if (last < most) asm.jump32(Jump.JGT, Reg.r1, last, next);
}

/** `at`: word index of the first of four words of an address, which four of its mask follow. */
function emitAddress(asm: Assembler, kind: PacketKind, rules: Int32Array, at: number, from: number, next: Label): void {
  for (let i = 0; i < addressesOf(kind).words; i++) {
    const [value, mask] = [rules[at + i], rules[at + 4 + i]];
    if (mask === 0) continue;
    field(asm, kind, Reg.r1, Size.W, from + i * 4);
    if (mask !== -1) asm.alu32(Alu.AND, Reg.r1, mask);
    asm.jump32(Jump.JNE, Reg.r1, value & mask, next);
  }
}

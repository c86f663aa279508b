/** The sanity checks that stand before the rules (src/dataplane/filter/sanity.ts): what they object to is left to user space, which counts it under its reason. */
import { Label, type Assembler } from '../assembler.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';
import { addressesOf, field, port, type PacketKind } from './kinds.js';

/** Sanity checks that stand before the rules, as in the config. */
export interface SanityBefore {
  readonly checks: readonly string[];
  /** Protocols that are allowed; null: all. */
  readonly protocols: readonly number[] | null;
}

/** Checks that plain packets pass by being plain are in it too. */
const KNOWN: ReadonlySet<string> = new Set([
  ...['ipv4-checksum', 'ping-of-death', 'land', 'tcp-flags', 'source', 'port-zero', 'tiny-fragment', 'ipv4-options'],
]);

/** Whether sanity checks drop every packet of the kind, or there is one that is not known here. */
export function leavesAll({ protocol }: PacketKind, sanity: SanityBefore): boolean {
  return sanity.checks.some((check) => !KNOWN.has(check)) || (sanity.protocols?.includes(protocol) ?? true) === false;
}

/** Goes to `leave` with what a sanity check objects to. */
export function emitSanity(asm: Assembler, kind: PacketKind, { checks }: SanityBefore, leave: Label): void {
  if (checks.includes('ipv4-checksum') && kind.family === 4) emitHeaderSum(asm, kind, leave);
  if (checks.includes('source')) emitSource(asm, kind, leave);
  if (checks.includes('land')) emitLand(asm, kind, leave);
  if (checks.includes('tcp-flags') && kind.protocol === 6) emitTcpFlags(asm, kind, leave);
  if (checks.includes('port-zero')) {
    for (const offset of [0, 2] as const) {
      port(asm, kind, Reg.r1, offset);
      asm.jump32(Jump.JEQ, Reg.r1, 0, leave);
    }
  }
}

/** RFC 1071: the ones' complement sum is the same in either byte order, so words are added as they lie there. */
function emitHeaderSum(asm: Assembler, { base, l3 }: PacketKind, leave: Label): void {
  asm.alu32(Alu.MOV, Reg.r2, 0);
  for (let at = 0; at < 20; at += 2) {
    asm.load(Size.H, Reg.r1, base, l3 + at);
    asm.alu32X(Alu.ADD, Reg.r2, Reg.r1);
  }
  for (let folds = 0; folds < 2; folds++) {
    asm.alu32X(Alu.MOV, Reg.r1, Reg.r2);
    asm.alu32(Alu.RSH, Reg.r1, 16);
    asm.alu32(Alu.AND, Reg.r2, 0xffff);
    asm.alu32X(Alu.ADD, Reg.r2, Reg.r1);
  }
  asm.jump32(Jump.JNE, Reg.r2, 0xffff, leave);
}

function emitSource(asm: Assembler, kind: PacketKind, leave: Label): void {
  const { src } = addressesOf(kind);
  field(asm, kind, Reg.r1, Size.B, src);
  if (kind.family === 4) {
    asm.jump32(Jump.JEQ, Reg.r1, 0, leave);
    asm.jump32(Jump.JEQ, Reg.r1, 127, leave);
    asm.jump32(Jump.JGE, Reg.r1, 224, leave);
    return;
  }
  const good = new Label();
  asm.jump32(Jump.JEQ, Reg.r1, 0xff, leave);
  for (let word = 0; word < 3; word++) {
    asm.load(Size.W, Reg.r1, kind.base, src + word * 4);
    asm.jump32(Jump.JNE, Reg.r1, 0, good);
  }
  field(asm, kind, Reg.r1, Size.W, src + 12);
  // :: and ::1
  asm.jump32(Jump.JLE, Reg.r1, 1, leave);
  asm.place(good);
}

function emitLand(asm: Assembler, kind: PacketKind, leave: Label): void {
  const differ = new Label();
  const { src, dst, words } = addressesOf(kind);
  for (let word = 0; word < words; word++) {
    asm.load(Size.W, Reg.r1, kind.base, src + word * 4);
    asm.load(Size.W, Reg.r2, kind.base, dst + word * 4);
    asm.jump32X(Jump.JNE, Reg.r1, Reg.r2, differ);
  }
  asm.goto(leave);
  asm.place(differ);
}

/** No flag at all, SYN with FIN or RST, FIN without ACK. */
function emitTcpFlags(asm: Assembler, kind: PacketKind, leave: Label): void {
  const noSyn = new Label();
  const good = new Label();
  field(asm, kind, Reg.r1, Size.B, kind.l4 + 13);
  asm.alu32X(Alu.MOV, Reg.r2, Reg.r1);
  asm.alu32(Alu.AND, Reg.r2, 0x3f);
  asm.jump32(Jump.JEQ, Reg.r2, 0, leave);
  asm.alu32X(Alu.MOV, Reg.r2, Reg.r1);
  asm.alu32(Alu.AND, Reg.r2, 0x02);
  asm.jump32(Jump.JEQ, Reg.r2, 0, noSyn);
  asm.jump32(Jump.JSET, Reg.r1, 0x05, leave);
  asm.place(noSyn);
  asm.alu32X(Alu.MOV, Reg.r2, Reg.r1);
  asm.alu32(Alu.AND, Reg.r2, 0x11);
  asm.jump32(Jump.JNE, Reg.r2, 0x01, good);
  asm.goto(leave);
  asm.place(good);
}

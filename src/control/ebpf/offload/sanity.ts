/** The sanity checks that stand before the rules (src/dataplane/filter/sanity.ts): what they object to is left to user space, which counts it under its reason. */
import { Label, type Assembler } from '../assembler.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';
import { emitLoadBytes } from './copies.js';
import { addressesOf, COPIES, Copy, field, port, type PacketKind } from './kinds.js';

/** Sanity checks that stand before the rules, as in the config. */
export interface SanityBefore {
  readonly checks: readonly string[];
  /** Protocols that are allowed; null: all. */
  readonly protocols: readonly number[] | null;
}

/** Bytes of an IPv4 header with all options that it can have. */
const HEADER_MOST = 60;

/** Checks that the kernel's program makes, or that its packets pass by being of their kind. */
const KNOWN: ReadonlySet<string> = new Set([
  ...['ipv4-checksum', 'ping-of-death', 'land', 'tcp-flags', 'source', 'port-zero', 'tiny-fragment', 'ipv4-options'],
]);

/** Whether sanity checks drop every packet of the kind, or there is one that is not known here. */
export function leavesAll({ family, protocol }: PacketKind, { checks, protocols }: SanityBefore): boolean {
  if (checks.some((check) => !KNOWN.has(check))) return true;
  // They are for IP only.
  if (family === 0 || protocols === null) return false;
  return protocol === null ? protocols.length === 0 : !protocols.includes(protocol);
}

/** Goes to `leave` with what a sanity check objects to. */
export function emitSanity(asm: Assembler, kind: PacketKind, { checks, protocols }: SanityBefore, leave: Label): void {
  if (kind.family === 0) return;
  if (kind.protocol === null && protocols !== null) emitProtocols(asm, protocols, leave);
  const options = !kind.plain && kind.family === 4;
  if (options && checks.includes('ipv4-options')) {
    field(asm, kind, Reg.r1, Size.B, kind.l3);
    asm.jump32(Jump.JNE, Reg.r1, 0x45, leave);
  }
  if (checks.includes('ipv4-checksum') && kind.family === 4) {
    if (options && !checks.includes('ipv4-options')) emitLongHeaderSum(asm, kind, leave);
    else emitHeaderSum(asm, kind, leave);
  }
  if (checks.includes('source')) emitSource(asm, kind, leave);
  if (checks.includes('land')) emitLand(asm, kind, leave);
  if (!kind.plain) emitFragment(asm, kind, checks, leave);
  if (checks.includes('tcp-flags') && kind.protocol === 6) emitTcpFlags(asm, kind, leave);
  if (checks.includes('port-zero')) {
    for (const offset of [0, 2] as const) {
      port(asm, kind, Reg.r1, offset);
      asm.jump32(Jump.JEQ, Reg.r1, 0, leave);
    }
  }
}

function emitProtocols(asm: Assembler, protocols: readonly number[], leave: Label): void {
  const allowed = new Label();
  asm.load(Size.W, Reg.r1, COPIES, Copy.protocol);
  for (const protocol of protocols) asm.jump32(Jump.JEQ, Reg.r1, protocol, allowed);
  asm.goto(leave);
  asm.place(allowed);
}

/** An end beyond 65,535 bytes; an IPv4 TCP fragment at offset 8. */
function emitFragment(asm: Assembler, { family, protocol }: PacketKind, checks: readonly string[], leave: Label): void {
  if (checks.includes('ping-of-death')) {
    asm.load(Size.W, Reg.r1, COPIES, Copy.fragment);
    asm.alu32(Alu.AND, Reg.r1, family === 4 ? 0x1fff : 0xfff8);
    if (family === 4) asm.alu32(Alu.LSH, Reg.r1, 3);
    asm.load(Size.W, Reg.r2, COPIES, Copy.fragmentBytes);
    asm.alu32X(Alu.ADD, Reg.r1, Reg.r2);
    asm.jump32(Jump.JGT, Reg.r1, 0xffff, leave);
  }
  if (checks.includes('tiny-fragment') && family === 4 && protocol === null) {
    const good = new Label();
    asm.load(Size.W, Reg.r1, COPIES, Copy.protocol);
    asm.jump32(Jump.JNE, Reg.r1, 6, good);
    asm.load(Size.W, Reg.r1, COPIES, Copy.fragment);
    asm.alu32(Alu.AND, Reg.r1, 0x1fff);
    asm.jump32(Jump.JEQ, Reg.r1, 1, leave);
    asm.place(good);
  }
}

/** RFC 1071: the ones' complement sum is the same in either byte order, so words are added as they lie there. */
function emitHeaderSum(asm: Assembler, { base, l3 }: PacketKind, leave: Label): void {
  asm.alu32(Alu.MOV, Reg.r2, 0);
  for (let at = 0; at < 20; at += 2) {
    asm.load(Size.H, Reg.r1, base, l3 + at);
    asm.alu32X(Alu.ADD, Reg.r2, Reg.r1);
  }
  emitFolded(asm, 2, leave);
}

/** r2 is a sum of half words that folds to 0xffff. */
function emitFolded(asm: Assembler, folds: number, leave: Label): void {
  for (let i = 0; i < folds; i++) {
    asm.alu64X(Alu.MOV, Reg.r1, Reg.r2);
    asm.alu64(Alu.RSH, Reg.r1, 16);
    asm.alu32(Alu.AND, Reg.r2, 0xffff);
    asm.alu64X(Alu.ADD, Reg.r2, Reg.r1);
  }
  asm.jump32(Jump.JNE, Reg.r2, 0xffff, leave);
}

/** The same of a copied header that may have options, which are copied only now. */
function emitLongHeaderSum(asm: Assembler, kind: PacketKind, leave: Label): void {
  const [options, good] = [new Label(), new Label()];
  field(asm, kind, Reg.r4, Size.B, kind.l3);
  asm.jump32(Jump.JNE, Reg.r4, 0x45, options);
  emitHeaderSum(asm, kind, leave);
  asm.goto(good);
  asm.place(options);
  for (let at = 20; at < HEADER_MOST; at += 4) asm.storeImm(Size.W, COPIES, Copy.header + at, 0);
  asm.alu32(Alu.AND, Reg.r4, 15);
  asm.alu32(Alu.LSH, Reg.r4, 2);
  // So it is; the verifier wants to see it.
  asm.jump32(Jump.JLT, Reg.r4, 20, leave);
  asm.load(Size.W, Reg.r2, COPIES, Copy.l3);
  emitLoadBytes(asm, Copy.header, leave);
  asm.alu64(Alu.MOV, Reg.r2, 0);
  for (let at = 0; at < HEADER_MOST; at += 4) {
    asm.load(Size.W, Reg.r1, COPIES, Copy.header + at);
    asm.alu64X(Alu.ADD, Reg.r2, Reg.r1);
  }
  emitFolded(asm, 4, leave);
  asm.place(good);
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

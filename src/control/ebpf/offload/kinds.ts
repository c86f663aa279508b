/** The kinds of packet that the rules are written for, each with its own copy of the records that can match, and where their headers are. */
import type { Assembler, Label } from '../assembler.js';
import { Stack } from '../from_cbpf.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';

export interface PacketKind {
  readonly family: 4 | 6;
  /** IP protocol: TCP 6 or UDP 17. */
  readonly protocol: 6 | 17;
  /** Register that the next two are relative to: a pointer to the frame. */
  readonly base: Reg;
  /** Byte offset of the IP header, and of the transport header. */
  readonly l3: number;
  readonly l4: number;
}

/** Words on the stack, below those of the classic programs: 32 bits, host order. */
export const enum Kept {
  /** Length of the frame. */
  frameBytes = Stack.END - 4,
  /** Length of the IP packet. */
  l3Bytes = Stack.END - 8,
  /** Number of the rule that drops the packet. */
  rule = Stack.END - 12,
  /** Key of a look-up. */
  key = Stack.END - 16,
  /** 64 bits: rules that have matched and let the search go on, by their position in Plan.marks. */
  marks = Stack.END - 24,
  /** struct lpm_key of bpf/types.h: 32 bits of prefix length, 128 of address. */
  destination = Stack.END - 48,
}

/** Byte offsets in a frame without tags and, for l4, without IPv4 options or IPv6 extension headers. */
export const enum At {
  etherType = 12,
  l3 = 14,
  l4Ipv4 = 34,
  l4Ipv6 = 54,
}

export const DATA = Reg.r6;
export const END = Reg.r7;

function plain(family: 4 | 6, protocol: 6 | 17): PacketKind {
  return { family, protocol, base: DATA, l3: At.l3, l4: family === 4 ? At.l4Ipv4 : At.l4Ipv6 };
}

export const KINDS: readonly PacketKind[] = [plain(4, 17), plain(4, 6), plain(6, 17), plain(6, 6)];

/** reg = the number of `size` at byte `at` from `base`, in host order. */
export function field(asm: Assembler, { base }: Pick<PacketKind, 'base'>, reg: Reg, size: Size, at: number): void {
  asm.load(size, reg, base, at);
  if (size !== Size.B) asm.networkOrder(reg, size === Size.H ? 16 : 32);
}

/** reg = the port at byte `offset` of the transport header: source 0, destination 2. */
export function port(asm: Assembler, kind: PacketKind, reg: Reg, offset: 0 | 2): void {
  field(asm, kind, reg, Size.H, kind.l4 + offset);
}

/** Byte offsets from `base` of the addresses, and their length in 32-bit words. */
export function addressesOf({ family, l3 }: PacketKind): { src: number; dst: number; words: number } {
  return family === 4 ? { src: l3 + 12, dst: l3 + 16, words: 1 } : { src: l3 + 8, dst: l3 + 24, words: 4 };
}

/** Bytes that every packet of the kind has. */
export function least(kind: PacketKind): number {
  return kind.l4 + (kind.protocol === 6 ? 20 : 8);
}

/** The packet has `bytes` bytes from here on. */
export function emitReach(asm: Assembler, bytes: number, leave: Label): void {
  asm.alu64X(Alu.MOV, Reg.r1, DATA);
  asm.alu64(Alu.ADD, Reg.r1, bytes);
  asm.jump64X(Jump.JGT, Reg.r1, END, leave);
}

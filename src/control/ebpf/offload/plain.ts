/**
 * What the kernel's part of the rules reads of a packet, and which packets it leaves alone. It takes the plain ones only: untagged, IPv4 without
 * options and not a fragment, or IPv6 without extension headers; TCP or UDP, with lengths that agree. An attack is made of these. All others go
 * to user space unseen, and so do those that a sanity check would object to, which has to count them under a reason of its own.
 */
import { Label, type Assembler } from '../assembler.js';
import { Stack } from '../from_cbpf.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';

/** Sanity checks that stand before the rules, as in the config; what they are is said in src/dataplane/filter/sanity.ts. */
export interface SanityBefore {
  readonly checks: readonly string[];
  /** Protocols that are allowed; null: all. */
  readonly protocols: readonly number[] | null;
}

/** One of the four kinds of packet that the rules are written for, each with its own copy of what can match. */
export interface PacketKind {
  readonly family: 4 | 6;
  /** IP protocol: TCP 6 or UDP 17. */
  readonly protocol: 6 | 17;
}

export const KINDS: readonly PacketKind[] = [
  { family: 4, protocol: 17 },
  { family: 4, protocol: 6 },
  { family: 6, protocol: 17 },
  { family: 6, protocol: 6 },
];

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

/** Byte offsets in the frame. */
export const enum At {
  etherType = 12,
  l3 = 14,
  l4Ipv4 = 34,
  l4Ipv6 = 54,
}

const DATA = Reg.r6;
const END = Reg.r7;

export function l4Of({ family }: PacketKind): number {
  return family === 4 ? At.l4Ipv4 : At.l4Ipv6;
}

/** reg = the number of `size` at byte `at` of the frame, in host order. */
export function field(asm: Assembler, reg: Reg, size: Size, at: number): void {
  asm.load(size, reg, DATA, at);
  if (size !== Size.B) asm.networkOrder(reg, size === Size.H ? 16 : 32);
}

/** Reads the packet up to where it is known to be of a kind, and goes to that kind's label; or to `leave`. r1 to r5 are used. */
export function emitKinds(asm: Assembler, labels: readonly Label[], leave: Label): void {
  const ipv6 = new Label();
  // Not by a subtraction of pointers, for which the kernel wants CAP_PERFMON.
  asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
  asm.call(Helper.xdp_get_buff_len);
  asm.store(Size.W, Reg.r10, Kept.frameBytes, Reg.r0);
  asm.alu32X(Alu.MOV, Reg.r4, Reg.r0);
  emitReach(asm, At.l4Ipv4 + 8, leave);
  asm.alu32(Alu.SUB, Reg.r4, At.l3);
  field(asm, Reg.r1, Size.H, At.etherType);
  asm.jump32(Jump.JEQ, Reg.r1, 0x86dd, ipv6);
  asm.jump32(Jump.JNE, Reg.r1, 0x0800, leave);
  field(asm, Reg.r1, Size.B, At.l3);
  asm.jump32(Jump.JNE, Reg.r1, 0x45, leave);
  field(asm, Reg.r1, Size.H, At.l3 + 6);
  // More fragments, or an offset.
  asm.jump32(Jump.JSET, Reg.r1, 0x3fff, leave);
  field(asm, Reg.r3, Size.H, At.l3 + 2);
  asm.jump32X(Jump.JGT, Reg.r3, Reg.r4, leave);
  asm.store(Size.W, Reg.r10, Kept.l3Bytes, Reg.r3);
  // r3: bytes behind the IP header.
  asm.jump32(Jump.JLT, Reg.r3, 20, leave);
  asm.alu32(Alu.SUB, Reg.r3, 20);
  field(asm, Reg.r1, Size.B, At.l3 + 9);
  emitTransport(asm, 4, labels, leave);

  asm.place(ipv6);
  emitReach(asm, At.l4Ipv6 + 8, leave);
  field(asm, Reg.r1, Size.B, At.l3);
  asm.alu32(Alu.RSH, Reg.r1, 4);
  asm.jump32(Jump.JNE, Reg.r1, 6, leave);
  field(asm, Reg.r3, Size.H, At.l3 + 4);
  asm.alu32X(Alu.MOV, Reg.r1, Reg.r3);
  asm.alu32(Alu.ADD, Reg.r1, 40);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r4, leave);
  asm.store(Size.W, Reg.r10, Kept.l3Bytes, Reg.r1);
  field(asm, Reg.r1, Size.B, At.l3 + 6);
  emitTransport(asm, 6, labels, leave);
}

/** Bytes that every packet of the kind has. */
export function least(kind: PacketKind): number {
  return l4Of(kind) + (kind.protocol === 6 ? 20 : 8);
}

/** The packet has `bytes` bytes from here on. */
export function emitReach(asm: Assembler, bytes: number, leave: Label): void {
  asm.alu64X(Alu.MOV, Reg.r1, DATA);
  asm.alu64(Alu.ADD, Reg.r1, bytes);
  asm.jump64X(Jump.JGT, Reg.r1, END, leave);
}

/** r1: protocol, r3: bytes behind the IP header. */
function emitTransport(asm: Assembler, family: 4 | 6, labels: readonly Label[], leave: Label): void {
  const tcp = new Label();
  const l4 = family === 4 ? At.l4Ipv4 : At.l4Ipv6;
  const labelOf = (protocol: number): Label =>
    labels[KINDS.findIndex((kind) => kind.family === family && kind.protocol === protocol)];
  asm.jump32(Jump.JEQ, Reg.r1, 6, tcp);
  asm.jump32(Jump.JNE, Reg.r1, 17, leave);
  field(asm, Reg.r1, Size.H, l4 + 4);
  asm.jump32(Jump.JLT, Reg.r1, 8, leave);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r3, leave);
  asm.goto(labelOf(17));

  asm.place(tcp);
  emitReach(asm, l4 + 20, leave);
  field(asm, Reg.r1, Size.B, l4 + 12);
  asm.alu32(Alu.RSH, Reg.r1, 2);
  asm.alu32(Alu.AND, Reg.r1, 0x3c);
  asm.jump32(Jump.JLT, Reg.r1, 20, leave);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r3, leave);
  asm.goto(labelOf(6));
}

/**
 * Goes to `leave` with a packet whose destination is not in `vips` (vip_map of bpf/maps.h), and with one to ::ffff:a.b.c.d, which
 * would be taken for an IPv4 address there.
 */
export function emitDestination(asm: Assembler, { family }: PacketKind, vips: number, leave: Label): void {
  const address = Kept.destination + 4;
  asm.storeImm(Size.W, Reg.r10, Kept.destination, 128);
  if (family === 4) {
    asm.storeImm(Size.W, Reg.r10, address, 0);
    asm.storeImm(Size.W, Reg.r10, address + 4, 0);
    asm.alu32(Alu.MOV, Reg.r1, 0xffff);
    asm.networkOrder(Reg.r1, 32);
    asm.store(Size.W, Reg.r10, address + 8, Reg.r1);
    asm.load(Size.W, Reg.r1, DATA, At.l3 + 16);
    asm.store(Size.W, Reg.r10, address + 12, Reg.r1);
  } else {
    const good = new Label();
    for (let i = 0; i < 4; i++) {
      asm.load(Size.W, Reg.r1, DATA, At.l3 + 24 + i * 4);
      asm.store(Size.W, Reg.r10, address + i * 4, Reg.r1);
    }
    for (let i = 0; i < 2; i++) {
      asm.load(Size.W, Reg.r1, DATA, At.l3 + 24 + i * 4);
      asm.jump32(Jump.JNE, Reg.r1, 0, good);
    }
    field(asm, Reg.r1, Size.W, At.l3 + 32);
    asm.jump32(Jump.JEQ, Reg.r1, 0xffff, leave);
    asm.place(good);
  }
  asm.loadMap(Reg.r1, vips);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
  asm.alu64(Alu.ADD, Reg.r2, Kept.destination);
  asm.call(Helper.map_lookup_elem);
  asm.jump64(Jump.JEQ, Reg.r0, 0, leave);
}

/** Whether sanity checks drop every packet of the kind, or there is one that is not known here. */
export function leavesAll({ protocol }: PacketKind, sanity: SanityBefore): boolean {
  return sanity.checks.some((check) => !KNOWN.has(check)) || (sanity.protocols?.includes(protocol) ?? true) === false;
}

/** Checks that plain packets pass by being plain are in it too. */
const KNOWN: ReadonlySet<string> = new Set([
  ...['ipv4-checksum', 'ping-of-death', 'land', 'tcp-flags', 'source', 'port-zero', 'tiny-fragment', 'ipv4-options'],
]);

/** Goes to `leave` with what a sanity check objects to. */
export function emitSanity(asm: Assembler, kind: PacketKind, { checks }: SanityBefore, leave: Label): void {
  const { family, protocol } = kind;
  if (checks.includes('ipv4-checksum') && family === 4) emitHeaderSum(asm, leave);
  if (checks.includes('source')) emitSource(asm, family, leave);
  if (checks.includes('land')) emitLand(asm, family, leave);
  if (checks.includes('tcp-flags') && protocol === 6) emitTcpFlags(asm, l4Of(kind), leave);
  if (checks.includes('port-zero')) {
    for (const at of [0, 2]) {
      asm.load(Size.H, Reg.r1, DATA, l4Of(kind) + at);
      asm.jump32(Jump.JEQ, Reg.r1, 0, leave);
    }
  }
}

/** RFC 1071: the ones' complement sum is the same in either byte order, so words are added as they lie there. */
function emitHeaderSum(asm: Assembler, leave: Label): void {
  asm.alu32(Alu.MOV, Reg.r2, 0);
  for (let at = 0; at < 20; at += 2) {
    asm.load(Size.H, Reg.r1, DATA, At.l3 + at);
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

function emitSource(asm: Assembler, family: 4 | 6, leave: Label): void {
  if (family === 4) {
    field(asm, Reg.r1, Size.B, At.l3 + 12);
    asm.jump32(Jump.JEQ, Reg.r1, 0, leave);
    asm.jump32(Jump.JEQ, Reg.r1, 127, leave);
    asm.jump32(Jump.JGE, Reg.r1, 224, leave);
    return;
  }
  const good = new Label();
  field(asm, Reg.r1, Size.B, At.l3 + 8);
  asm.jump32(Jump.JEQ, Reg.r1, 0xff, leave);
  for (const at of [8, 12, 16]) {
    asm.load(Size.W, Reg.r1, DATA, At.l3 + at);
    asm.jump32(Jump.JNE, Reg.r1, 0, good);
  }
  field(asm, Reg.r1, Size.W, At.l3 + 20);
  // :: and ::1
  asm.jump32(Jump.JLE, Reg.r1, 1, leave);
  asm.place(good);
}

function emitLand(asm: Assembler, family: 4 | 6, leave: Label): void {
  const differ = new Label();
  const [src, dst, bytes] = family === 4 ? [At.l3 + 12, At.l3 + 16, 4] : [At.l3 + 8, At.l3 + 24, 16];
  for (let at = 0; at < bytes; at += 4) {
    asm.load(Size.W, Reg.r1, DATA, src + at);
    asm.load(Size.W, Reg.r2, DATA, dst + at);
    asm.jump32X(Jump.JNE, Reg.r1, Reg.r2, differ);
  }
  asm.goto(leave);
  asm.place(differ);
}

/** No flag at all, SYN with FIN or RST, FIN without ACK. */
function emitTcpFlags(asm: Assembler, l4: number, leave: Label): void {
  const noSyn = new Label();
  const good = new Label();
  field(asm, Reg.r1, Size.B, l4 + 13);
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

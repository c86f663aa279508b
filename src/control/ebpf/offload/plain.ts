/**
 * Plain packets, the fast way: untagged, IPv4 without options and not a fragment, or IPv6 without extension headers; TCP or UDP, with lengths that
 * agree. Floods are mostly made of these.
 */
import { Label, type Assembler } from '../assembler.js';
import { Stack } from '../from_cbpf.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';
import { At, DATA, emitReach, field, Kept, KINDS } from './kinds.js';

const FRAME = { base: DATA } as const;

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
  field(asm, FRAME, Reg.r1, Size.H, At.etherType);
  asm.jump32(Jump.JEQ, Reg.r1, 0x86dd, ipv6);
  asm.jump32(Jump.JNE, Reg.r1, 0x0800, leave);
  field(asm, FRAME, Reg.r1, Size.B, At.l3);
  asm.jump32(Jump.JNE, Reg.r1, 0x45, leave);
  field(asm, FRAME, Reg.r1, Size.H, At.l3 + 6);
  // More fragments, or an offset.
  asm.jump32(Jump.JSET, Reg.r1, 0x3fff, leave);
  field(asm, FRAME, Reg.r3, Size.H, At.l3 + 2);
  asm.jump32X(Jump.JGT, Reg.r3, Reg.r4, leave);
  asm.store(Size.W, Reg.r10, Kept.l3Bytes, Reg.r3);
  // r3: bytes behind the IP header.
  asm.jump32(Jump.JLT, Reg.r3, 20, leave);
  asm.alu32(Alu.SUB, Reg.r3, 20);
  field(asm, FRAME, Reg.r1, Size.B, At.l3 + 9);
  emitTransport(asm, 4, labels, leave);

  asm.place(ipv6);
  emitReach(asm, At.l4Ipv6 + 8, leave);
  field(asm, FRAME, Reg.r1, Size.B, At.l3);
  asm.alu32(Alu.RSH, Reg.r1, 4);
  asm.jump32(Jump.JNE, Reg.r1, 6, leave);
  field(asm, FRAME, Reg.r3, Size.H, At.l3 + 4);
  asm.alu32X(Alu.MOV, Reg.r1, Reg.r3);
  asm.alu32(Alu.ADD, Reg.r1, 40);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r4, leave);
  asm.store(Size.W, Reg.r10, Kept.l3Bytes, Reg.r1);
  field(asm, FRAME, Reg.r1, Size.B, At.l3 + 6);
  emitTransport(asm, 6, labels, leave);
}

/** r1: protocol, r3: bytes behind the IP header. */
function emitTransport(asm: Assembler, family: 4 | 6, labels: readonly Label[], leave: Label): void {
  const tcp = new Label();
  const l4 = family === 4 ? At.l4Ipv4 : At.l4Ipv6;
  const labelOf = (protocol: number): Label =>
    labels[KINDS.findIndex((kind) => kind.family === family && kind.protocol === protocol)];
  asm.jump32(Jump.JEQ, Reg.r1, 6, tcp);
  asm.jump32(Jump.JNE, Reg.r1, 17, leave);
  field(asm, FRAME, Reg.r1, Size.H, l4 + 4);
  asm.jump32(Jump.JLT, Reg.r1, 8, leave);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r3, leave);
  asm.goto(labelOf(17));

  asm.place(tcp);
  emitReach(asm, l4 + 20, leave);
  field(asm, FRAME, Reg.r1, Size.B, l4 + 12);
  asm.alu32(Alu.RSH, Reg.r1, 2);
  asm.alu32(Alu.AND, Reg.r1, 0x3c);
  asm.jump32(Jump.JLT, Reg.r1, 20, leave);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r3, leave);
  asm.goto(labelOf(6));
}

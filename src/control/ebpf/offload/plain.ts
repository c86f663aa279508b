/**
 * Plain packets, the fast way: untagged, IPv4 without options and not a fragment, or IPv6 without extension headers; TCP or UDP, with lengths that
 * agree. Floods are mostly made of these.
 */
import { Label, type Assembler } from '../assembler.js';
import { Stack } from '../from_cbpf.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';
import { At, emitReach, field, FRAME, type WayTo } from './kinds.js';
import { Kept } from './stack.js';

/** Reads the packet up to where it is known to be of a plain kind, and goes there; or to `others` with frameBytes alone. r1 to r5 are used. */
export function emitPlain(asm: Assembler, to: WayTo, others: Label): void {
  const ipv6 = new Label();
  // Not by a subtraction of pointers, for which the kernel wants CAP_PERFMON.
  asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
  asm.call(Helper.xdp_get_buff_len);
  asm.store(Size.W, Reg.r10, Kept.frameBytes, Reg.r0);
  asm.alu32X(Alu.MOV, Reg.r4, Reg.r0);
  emitReach(asm, At.l4Ipv4 + 8, others);
  asm.alu32(Alu.SUB, Reg.r4, At.l3);
  field(asm, FRAME, Reg.r1, Size.H, At.etherType);
  asm.jump32(Jump.JEQ, Reg.r1, 0x86dd, ipv6);
  asm.jump32(Jump.JNE, Reg.r1, 0x0800, others);
  field(asm, FRAME, Reg.r1, Size.B, At.l3);
  asm.jump32(Jump.JNE, Reg.r1, 0x45, others);
  field(asm, FRAME, Reg.r1, Size.H, At.l3 + 6);
  // More fragments, or an offset.
  asm.jump32(Jump.JSET, Reg.r1, 0x3fff, others);
  field(asm, FRAME, Reg.r3, Size.H, At.l3 + 2);
  asm.jump32X(Jump.JGT, Reg.r3, Reg.r4, others);
  asm.store(Size.W, Reg.r10, Kept.l3Bytes, Reg.r3);
  // r3: bytes behind the IP header.
  asm.jump32(Jump.JLT, Reg.r3, 20, others);
  asm.alu32(Alu.SUB, Reg.r3, 20);
  field(asm, FRAME, Reg.r1, Size.B, At.l3 + 9);
  emitTransport(asm, 4, to, others);

  asm.place(ipv6);
  emitReach(asm, At.l4Ipv6 + 8, others);
  field(asm, FRAME, Reg.r1, Size.B, At.l3);
  asm.alu32(Alu.RSH, Reg.r1, 4);
  asm.jump32(Jump.JNE, Reg.r1, 6, others);
  field(asm, FRAME, Reg.r3, Size.H, At.l3 + 4);
  asm.alu32X(Alu.MOV, Reg.r1, Reg.r3);
  asm.alu32(Alu.ADD, Reg.r1, 40);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r4, others);
  asm.store(Size.W, Reg.r10, Kept.l3Bytes, Reg.r1);
  field(asm, FRAME, Reg.r1, Size.B, At.l3 + 6);
  emitTransport(asm, 6, to, others);
}

/** r1: protocol, r3: bytes behind the IP header. */
function emitTransport(asm: Assembler, family: 4 | 6, to: WayTo, others: Label): void {
  const tcp = new Label();
  const l4 = family === 4 ? At.l4Ipv4 : At.l4Ipv6;
  asm.jump32(Jump.JEQ, Reg.r1, 6, tcp);
  asm.jump32(Jump.JNE, Reg.r1, 17, others);
  field(asm, FRAME, Reg.r1, Size.H, l4 + 4);
  asm.jump32(Jump.JLT, Reg.r1, 8, others);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r3, others);
  asm.goto(to(family, 17));

  asm.place(tcp);
  emitReach(asm, l4 + 20, others);
  field(asm, FRAME, Reg.r1, Size.B, l4 + 12);
  asm.alu32(Alu.RSH, Reg.r1, 2);
  asm.alu32(Alu.AND, Reg.r1, 0x3c);
  asm.jump32(Jump.JLT, Reg.r1, 20, others);
  asm.jump32X(Jump.JGT, Reg.r1, Reg.r3, others);
  asm.goto(to(family, 6));
}

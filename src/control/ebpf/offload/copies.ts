/** Copies of the headers of packets that are not plain. */
import type { Label } from '../assembler.js';
import { type Assembler } from '../assembler.js';
import { Stack } from '../from_cbpf.js';
import { Alu, Helper, Jump, Reg, Size, XdpMd } from '../instruction.js';
import { COPIES, DATA, END, type Copy } from './kinds.js';
import { Kept } from './stack.js';

/** Offset in the frame of what is read next. */
export const OFFSET = Reg.r8;
/** Bytes of the packet from there on. */
export const REST = Reg.r9;

export const COPIED = { base: COPIES } as const;

/** COPIES = address of the value of `map`. r0 to r5 are used. */
export function emitCopies(asm: Assembler, map: number, leave: Label): void {
  asm.storeImm(Size.W, Reg.r10, Kept.key, 0);
  asm.loadMap(Reg.r1, map);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
  asm.alu64(Alu.ADD, Reg.r2, Kept.key);
  asm.call(Helper.map_lookup_elem);
  asm.jump64(Jump.JEQ, Reg.r0, 0, leave);
  asm.alu64X(Alu.MOV, COPIES, Reg.r0);
  asm.store(Size.DW, Reg.r10, Kept.copies, COPIES);
}

/** Before a classic program, which reads the frame; and behind it. r1 is used. */
export function emitFramePointers(asm: Assembler): void {
  asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
  asm.load(Size.W, END, Reg.r1, XdpMd.data_end);
  asm.load(Size.W, DATA, Reg.r1, XdpMd.data);
}
export function emitCopiesAgain(asm: Assembler): void {
  asm.load(Size.DW, COPIES, Reg.r10, Kept.copies);
}

/** Copies `bytes` of the frame at OFFSET. r0 to r5 are used. */
export function emitCopy(asm: Assembler, to: Copy, bytes: number, leave: Label): void {
  asm.alu32X(Alu.MOV, Reg.r2, OFFSET);
  asm.alu32(Alu.MOV, Reg.r4, bytes);
  emitLoadBytes(asm, to, leave);
}

/** r2: offset in the frame, r4: how many bytes. */
export function emitLoadBytes(asm: Assembler, to: Copy, leave: Label): void {
  asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
  asm.alu64X(Alu.MOV, Reg.r3, COPIES);
  asm.alu64(Alu.ADD, Reg.r3, to);
  asm.call(Helper.xdp_load_bytes);
  asm.jump64(Jump.JNE, Reg.r0, 0, leave);
}

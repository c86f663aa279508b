import { endianness } from 'node:os';
import { Assembler, encode, Label } from '../control/ebpf/assembler.js';
import { Alu, Helper, Jump, Reg, Size, XdpMd } from '../control/ebpf/instruction.js';
import type { FrameTemplate, VariedChecksum } from './frame.js';
import { sourceAddresses, type Load } from './load.js';

/** enum xdp_action. */
const XDP_ABORTED = 0;
const XDP_TX = 3;

/**
 * Layout of the one value of a load's array map: __u64 packets of each size, then __u32 cursors of the flows. Only the sending thread writes it,
 * so nothing is atomic.
 */
export const enum State {
  /** Packets of size i: at 8 i, of 16 sizes at most. */
  packets = 0,
  /** Number of the next flow, of its address and of its port. */
  flow = 128,
  address = 132,
  port = 136,
  BYTES = 144,
}

/**
 * The XDP program that makes each frame of a load from its template, and sends it: struct bpf_insn of this machine. It writes all headers, because frames
 * come back as their last receiver left them.
 *
 * @param size position of the template's size among the load's
 * @param stateFd descriptor of the array map
 */
export function varyProgram(load: Load, template: FrameTemplate, size: number, stateFd: number): Uint8Array {
  const asm = new Assembler();
  const short = new Label();
  asm.load(Size.W, Reg.r6, Reg.r1, XdpMd.data);
  asm.load(Size.W, Reg.r1, Reg.r1, XdpMd.data_end);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r6);
  asm.alu64(Alu.ADD, Reg.r2, template.headerBytes);
  asm.jump64X(Jump.JGT, Reg.r2, Reg.r1, short);
  asm.loadMapValue(Reg.r7, stateFd, 0);
  if (load.pick === 'cycle') emitNext(asm, load);
  else emitChance(asm, load);
  asm.alu32(Alu.ADD, Reg.r8, load.source.words[load.source.family === 4 ? 0 : 3]);
  asm.alu32(Alu.ADD, Reg.r9, load.sourcePort);
  emitHeaders(asm, template);
  emitFlow(asm, template);
  for (const checksum of template.checksums) emitChecksum(asm, checksum);
  const counter = State.packets + 8 * size;
  asm.load(Size.DW, Reg.r1, Reg.r7, counter);
  asm.alu64(Alu.ADD, Reg.r1, 1);
  asm.store(Size.DW, Reg.r7, counter, Reg.r1);
  asm.alu32(Alu.MOV, Reg.r0, XDP_TX);
  asm.exit();
  asm.place(short);
  asm.alu32(Alu.MOV, Reg.r0, XDP_ABORTED);
  asm.exit();
  return encode(asm.instructions());
}

/** r8 and r9: number of the address and of the port of the next flow in turn. Three counters, because a division would cost more than all else. */
function emitNext(asm: Assembler, load: Load): void {
  const [next, write] = [new Label(), new Label()];
  asm.load(Size.W, Reg.r1, Reg.r7, State.flow);
  asm.load(Size.W, Reg.r8, Reg.r7, State.address);
  asm.load(Size.W, Reg.r9, Reg.r7, State.port);
  asm.alu32(Alu.ADD, Reg.r1, 1);
  asm.alu32X(Alu.MOV, Reg.r2, Reg.r8);
  asm.alu32(Alu.ADD, Reg.r2, 1);
  asm.alu32X(Alu.MOV, Reg.r3, Reg.r9);
  asm.jump32(Jump.JLT, Reg.r1, load.flows, next);
  for (const register of [Reg.r1, Reg.r2, Reg.r3]) asm.alu32(Alu.MOV, register, 0);
  asm.goto(write);
  asm.place(next);
  asm.jump32(Jump.JLT, Reg.r2, sourceAddresses(load), write);
  asm.alu32(Alu.MOV, Reg.r2, 0);
  asm.alu32(Alu.ADD, Reg.r3, 1);
  asm.place(write);
  asm.store(Size.W, Reg.r7, State.flow, Reg.r1);
  asm.store(Size.W, Reg.r7, State.address, Reg.r2);
  asm.store(Size.W, Reg.r7, State.port, Reg.r3);
}

/** The same of a flow by chance. */
function emitChance(asm: Assembler, load: Load): void {
  asm.call(Helper.get_prandom_u32);
  asm.alu32(Alu.MOD, Reg.r0, load.flows);
  asm.alu32X(Alu.MOV, Reg.r8, Reg.r0);
  asm.alu32(Alu.MOD, Reg.r8, sourceAddresses(load));
  asm.alu32X(Alu.MOV, Reg.r9, Reg.r0);
  asm.alu32(Alu.DIV, Reg.r9, sourceAddresses(load));
}

function emitHeaders(asm: Assembler, { bytes, headerBytes }: FrameTemplate): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = endianness() === 'LE';
  let at = 0;
  for (; at + 4 <= headerBytes; at += 4) asm.storeImm(Size.W, Reg.r6, at, view.getInt32(at, little));
  for (; at + 2 <= headerBytes; at += 2) asm.storeImm(Size.H, Reg.r6, at, view.getUint16(at, little));
}

function emitFlow(asm: Assembler, { addressAt, portAt }: FrameTemplate): void {
  asm.alu32X(Alu.MOV, Reg.r1, Reg.r8);
  asm.networkOrder(Reg.r1, 32);
  asm.store(Size.W, Reg.r6, addressAt, Reg.r1);
  asm.alu32X(Alu.MOV, Reg.r1, Reg.r9);
  asm.networkOrder(Reg.r1, 16);
  asm.store(Size.H, Reg.r6, portAt, Reg.r1);
}

/** RFC 1071, over sums that were made before. */
function emitChecksum(asm: Assembler, { at, sum, address, port, neverZero }: VariedChecksum): void {
  asm.alu32(Alu.MOV, Reg.r1, sum);
  if (port) asm.alu32X(Alu.ADD, Reg.r1, Reg.r9);
  if (address) {
    asm.alu32X(Alu.MOV, Reg.r2, Reg.r8);
    asm.alu32(Alu.RSH, Reg.r2, 16);
    asm.alu32X(Alu.ADD, Reg.r1, Reg.r2);
    asm.alu32X(Alu.MOV, Reg.r2, Reg.r8);
    asm.alu32(Alu.AND, Reg.r2, 0xffff);
    asm.alu32X(Alu.ADD, Reg.r1, Reg.r2);
  }
  for (let time = 0; time < 2; time++) {
    asm.alu32X(Alu.MOV, Reg.r2, Reg.r1);
    asm.alu32(Alu.RSH, Reg.r2, 16);
    asm.alu32(Alu.AND, Reg.r1, 0xffff);
    asm.alu32X(Alu.ADD, Reg.r1, Reg.r2);
  }
  asm.alu32(Alu.XOR, Reg.r1, 0xffff);
  if (neverZero) {
    const done = new Label();
    asm.jump32(Jump.JNE, Reg.r1, 0, done);
    asm.alu32(Alu.MOV, Reg.r1, 0xffff);
    asm.place(done);
  }
  asm.networkOrder(Reg.r1, 16);
  asm.store(Size.H, Reg.r6, at, Reg.r1);
}

import { endianness } from 'node:os';
import { Alu, Jump, LD_IMM64, Part, Pseudo, Size, type Helper, type Instruction, type Reg } from './instruction.js';

/** A place in a program, that jumps may name before it is known. */
export class Label {
  /** Index of the instruction behind it; -1: not placed yet. */
  position = -1;
  /** Index of the first jump to it; -1: none. */
  firstUse = -1;
}

/** A jump is farther than the 16 bits of its offset can say. */
export class JumpTooFar extends Error {
  constructor(readonly distance: number) {
    super(`a jump over ${distance} eBPF instructions: at most 32767 are possible`);
  }
}

/** Bytes of struct bpf_insn. */
export const INSTRUCTION_BYTES = 8;

/**
 * Encodes eBPF, one call an instruction. Only numbers go in. `32` in a name: the low half of the registers, whose high half becomes 0; an operand is
 * a register where the name ends in X, else a number (int32, sign-extended by the 64-bit forms).
 */
export class Assembler {
  private readonly code: Instruction[] = [];
  private readonly jumps: { at: number; to: Label }[] = [];

  /** Instructions so far. */
  get length(): number {
    return this.code.length;
  }

  alu64(op: Alu, dst: Reg, imm: number): void {
    this.push(Part.ALU64 | op, dst, 0, 0, imm);
  }
  alu64X(op: Alu, dst: Reg, src: Reg): void {
    this.push(Part.ALU64 | op | Part.X, dst, src, 0, 0);
  }
  alu32(op: Alu, dst: Reg, imm: number): void {
    this.push(Part.ALU | op, dst, 0, 0, imm);
  }
  alu32X(op: Alu, dst: Reg, src: Reg): void {
    this.push(Part.ALU | op | Part.X, dst, src, 0, 0);
  }

  /** Turns the low `bits` of the register from network to host order, or back; the others become 0. */
  networkOrder(dst: Reg, bits: 16 | 32 | 64): void {
    this.push(Part.ALU | Alu.END | Part.X, dst, 0, 0, bits);
  }

  /** dst = *(size *)(src + off). */
  load(size: Size, dst: Reg, src: Reg, off: number): void {
    this.push(Part.LDX | Part.MEM | size, dst, src, off, 0);
  }
  /** *(size *)(dst + off) = src. */
  store(size: Size, dst: Reg, off: number, src: Reg): void {
    this.push(Part.STX | Part.MEM | size, dst, src, off, 0);
  }
  storeImm(size: Size, dst: Reg, off: number, imm: number): void {
    this.push(Part.ST | Part.MEM | size, dst, 0, off, imm);
  }
  /** *(u64 *)(dst + off) += src, in one step for all CPUs. */
  atomicAdd(dst: Reg, off: number, src: Reg): void {
    this.push(Part.STX | Part.ATOMIC | Size.DW, dst, src, off, Alu.ADD);
  }

  /** dst = the 64-bit number of these halves. Two instructions. */
  loadImm64(dst: Reg, low: number, high: number): void {
    this.push(LD_IMM64, dst, 0, 0, low);
    this.push(0, 0, 0, 0, high);
  }
  /** dst = the map behind a descriptor. */
  loadMap(dst: Reg, fd: number): void {
    this.push(LD_IMM64, dst, Pseudo.MAP_FD, 0, fd);
    this.push(0, 0, 0, 0, 0);
  }
  /** dst = address of byte `offset` in the value of an array map that has one. */
  loadMapValue(dst: Reg, fd: number, offset: number): void {
    this.push(LD_IMM64, dst, Pseudo.MAP_VALUE, 0, fd);
    this.push(0, 0, 0, 0, offset);
  }

  call(helper: Helper): void {
    this.push(Part.JMP | Jump.CALL, 0, 0, 0, helper);
  }
  exit(): void {
    this.push(Part.JMP | Jump.EXIT, 0, 0, 0, 0);
  }

  goto(to: Label): void {
    this.jumpTo(to, Part.JMP | Jump.JA, 0, 0, 0);
  }
  jump64(op: Jump, dst: Reg, imm: number, to: Label): void {
    this.jumpTo(to, Part.JMP | op, dst, 0, imm);
  }
  jump64X(op: Jump, dst: Reg, src: Reg, to: Label): void {
    this.jumpTo(to, Part.JMP | op | Part.X, dst, src, 0);
  }
  jump32(op: Jump, dst: Reg, imm: number, to: Label): void {
    this.jumpTo(to, Part.JMP32 | op, dst, 0, imm);
  }
  jump32X(op: Jump, dst: Reg, src: Reg, to: Label): void {
    this.jumpTo(to, Part.JMP32 | op | Part.X, dst, src, 0);
  }

  /** Whether nothing comes to the next instruction but by a jump. */
  get ended(): boolean {
    const last = this.code.at(-1)?.code;
    return last === (Part.JMP | Jump.EXIT) || last === (Part.JMP | Jump.JA);
  }

  /** The label means the next instruction. */
  place(label: Label): void {
    label.position = this.code.length;
  }

  /** Instructions with all jumps resolved. @throws JumpTooFar; Error when a label was never placed, which is a mistake of the caller. */
  instructions(): Instruction[] {
    const code = this.code.slice();
    for (const { at, to } of this.jumps) {
      if (to.position < 0) throw new Error(`instruction ${at} jumps to a label that was not placed`);
      const off = to.position - at - 1;
      if (off > 32767 || off < -32768) throw new JumpTooFar(Math.abs(off));
      code[at] = { ...code[at], off };
    }
    return code;
  }

  private jumpTo(to: Label, code: number, dst: number, src: number, imm: number): void {
    if (to.firstUse < 0) to.firstUse = this.code.length;
    this.jumps.push({ at: this.code.length, to });
    this.push(code, dst, src, 0, imm);
  }

  private push(code: number, dst: number, src: number, off: number, imm: number): void {
    this.code.push({ code, dst, src, off, imm: imm | 0 });
  }
}

/** Instructions as struct bpf_insn of this machine. */
export function encode(instructions: readonly Instruction[]): Uint8Array {
  const little = endianness() === 'LE';
  const view = new DataView(new ArrayBuffer(instructions.length * INSTRUCTION_BYTES));
  instructions.forEach(({ code, dst, src, off, imm }, i) => {
    const at = i * INSTRUCTION_BYTES;
    view.setUint8(at, code);
    // Two bit fields of a byte, which follow the machine's order too.
    view.setUint8(at + 1, little ? dst | (src << 4) : src | (dst << 4));
    view.setInt16(at + 2, off, little);
    view.setInt32(at + 4, imm, little);
  });
  return new Uint8Array(view.buffer);
}

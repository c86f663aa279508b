/**
 * Classic programs as eBPF for XDP, with the result that the interpreter gives (shared/cbpf/interpret.ts).
 *
 * A is in w8, X in w9, of which only the low halves are used; r6 points at the packet's offset 0, r7 at its end. M[] is on the stack, below the
 * context's address.
 */
import { hasLoop } from '../../shared/cbpf/loops.js';
import { Bpf, Code, isConditional, loadSize, Word, type Program } from '../../shared/cbpf/program.js';
import { operationAt, type Operation } from '../../shared/cbpf/values.js';
import { Label, type Assembler } from './assembler.js';
import { guardsOf, type Guards } from './guards.js';
import { Alu, Helper, Jump, Reg, Size, XdpMd } from './instruction.js';

/**
 * How the packet's length and its bytes at X + k are read. `direct`: by arithmetic on packet pointers, the faster way, which the kernel refuses without
 * CAP_PERFMON. The verifier walks through every way to such a load that gives X other bounds. `helpers`: by bpf_xdp_get_buff_len and
 * bpf_xdp_load_bytes (Linux 5.18), which cost a call; here it walks through little more than the program is long.
 */
export type Access = 'direct' | 'helpers';

export interface Environment {
  readonly access: Access;
  /**
   * What BPF_LEN reads: the packet's length, or the number (uint32, host order) in the first four bytes of the metadata in front of the packet: the
   * length on the wire of one that a capture has cut.
   */
  readonly length: 'packet' | 'metadata';
  /** Writes what happens when the program returns `k`, not 0, or A. */
  returns(k: number): void;
  returnsA(): void;
  /** Writes what happens when it returns 0. Comes once or, in a long program, more often. */
  fails(): void;
}

const DATA = Reg.r6;
const END = Reg.r7;
const A = Reg.r8;
const X = Reg.r9;

/** Stack, from r10: the context's address, a word for helpers to write to, M[0] to M[15] in 8 bytes each. */
export const enum Stack {
  context = -8,
  scratch = -16,
  memory = -24,
  /** What is below is free. */
  END = -144,
}

/** Behind so many instructions there is another place to fail to, within the reach of jumps; one of ours takes 16 at most. */
const FAIL_REACH = 32_000;

/** Why a program cannot be translated, or null. */
export function refusedAsEbpf(program: Program): string | null {
  return hasLoop(program) ? 'it has a loop (protochain), which no kernel takes' : null;
}

/** Sets up the registers of emitClassic in a program of type XDP: r1 is its context. */
export function emitEntry(asm: Assembler): void {
  asm.store(Size.DW, Reg.r10, Stack.context, Reg.r1);
  asm.load(Size.W, END, Reg.r1, XdpMd.data_end);
  asm.load(Size.W, DATA, Reg.r1, XdpMd.data);
}

/** Appends a program that has passed checkProgram and is not refused, with `environment` in the place of its returns. */
export function emitClassic(asm: Assembler, program: Program, environment: Environment): void {
  new Translation(asm, program, environment).emit();
}

class Translation {
  private readonly words: Int32Array;
  private readonly guards: Guards;
  private readonly labels: Label[];
  private fail = new Label();

  constructor(
    private readonly asm: Assembler,
    program: Program,
    private readonly environment: Environment,
  ) {
    this.words = program.words;
    this.guards = guardsOf(program, environment.access === 'helpers');
    this.labels = Array.from({ length: program.words.length / Word.SIZE }, () => new Label());
  }

  emit(): void {
    const { asm, guards } = this;
    asm.alu32(Alu.MOV, A, 0);
    asm.alu32(Alu.MOV, X, 0);
    if (!guards.reached[0]) asm.goto(this.fail);
    for (let i = 0; i < this.labels.length; i++) {
      if (!guards.reached[i]) continue;
      if (asm.length - this.fail.firstUse > FAIL_REACH && this.fail.firstUse >= 0) this.failHere();
      asm.place(this.labels[i]);
      if (guards.check[i] > 0) this.checkLength(guards.check[i]);
      this.instruction(i);
    }
    if (this.fail.firstUse >= 0) {
      asm.place(this.fail);
      this.environment.fails();
    }
  }

  /** A place to fail to amid the program, which goes round it. */
  private failHere(): void {
    const round = new Label();
    // The kernel refuses instructions that nothing leads to.
    if (!this.asm.ended) this.asm.goto(round);
    this.asm.place(this.fail);
    this.environment.fails();
    this.asm.place(round);
    this.fail = new Label();
  }

  private checkLength(bytes: number): void {
    const { asm } = this;
    if (this.environment.access === 'helpers') {
      // Read anew, what the verifier knew of the pointers before makes no difference to it.
      asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
      asm.load(Size.W, END, Reg.r1, XdpMd.data_end);
      asm.load(Size.W, DATA, Reg.r1, XdpMd.data);
    }
    asm.alu64X(Alu.MOV, Reg.r1, DATA);
    asm.alu64(Alu.ADD, Reg.r1, bytes);
    asm.jump64X(Jump.JGT, Reg.r1, END, this.fail);
  }

  private instruction(index: number): void {
    const operation = operationAt(this.words, index);
    const { asm } = this;
    const { code, k } = operation;
    switch (code & Bpf.CLASS) {
      case Bpf.LD:
        return this.load(operation);
      case Bpf.LDX:
        if (code === Code.LDX_MSH) {
          this.loadAt(X, Size.B, k);
          asm.alu32(Alu.AND, X, 15);
          asm.alu32(Alu.LSH, X, 2);
        } else if (code === Code.LDX_IMM) asm.alu32(Alu.MOV, X, k);
        else if (code === Code.LDX_MEM) asm.load(Size.W, X, Reg.r10, cell(k));
        else this.length(X);
        return;
      case Bpf.ST:
        return asm.store(Size.W, Reg.r10, cell(k), A);
      case Bpf.STX:
        return asm.store(Size.W, Reg.r10, cell(k), X);
      case Bpf.ALU:
        return this.arithmetic(operation);
      case Bpf.JMP:
        return this.jump(index, operation);
      case Bpf.RET:
        if (code === Code.RET_A) this.environment.returnsA();
        else this.environment.returns(k);
        return;
      default:
        if (code === Code.TAX) asm.alu32X(Alu.MOV, X, A);
        else asm.alu32X(Alu.MOV, A, X);
    }
  }

  private load({ code, k }: Operation): void {
    const { asm } = this;
    switch (code & Bpf.MODE) {
      case Bpf.ABS:
        this.loadAt(A, sizeOf(code), k);
        return this.hostOrder(A, loadSize(code));
      case Bpf.IND:
        this.loadIndirect(code, k);
        return this.hostOrder(A, loadSize(code));
      case Bpf.IMM:
        return asm.alu32(Alu.MOV, A, k);
      case Bpf.MEM:
        return asm.load(Size.W, A, Reg.r10, cell(k));
      default:
        return this.length(A);
    }
  }

  private hostOrder(reg: Reg, bytes: number): void {
    if (bytes > 1) this.asm.networkOrder(reg, bytes === 2 ? 16 : 32);
  }

  /** What guards.ts has made certain to be there. */
  private loadAt(reg: Reg, size: Size, k: number): void {
    const { asm } = this;
    if (k <= 32767) return asm.load(size, reg, DATA, k);
    asm.alu64X(Alu.MOV, Reg.r1, DATA);
    asm.alu64(Alu.ADD, Reg.r1, k);
    asm.load(size, reg, Reg.r1, 0);
  }

  private loadIndirect(code: number, k: number): void {
    const { asm, fail } = this;
    const bytes = loadSize(code);
    if (this.environment.access === 'helpers') {
      this.sum(Reg.r2, k);
      asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
      asm.alu64X(Alu.MOV, Reg.r3, Reg.r10);
      asm.alu64(Alu.ADD, Reg.r3, Stack.scratch);
      asm.alu32(Alu.MOV, Reg.r4, bytes);
      asm.call(Helper.xdp_load_bytes);
      asm.jump64(Jump.JNE, Reg.r0, 0, fail);
      asm.load(sizeOf(code), A, Reg.r10, Stack.scratch);
      return;
    }
    this.sum(Reg.r1, k);
    // The verifier grants no larger sums with packet pointers.
    asm.jump32(Jump.JGT, Reg.r1, 0xffff - bytes, fail);
    asm.alu64X(Alu.ADD, Reg.r1, DATA);
    asm.alu64X(Alu.MOV, Reg.r2, Reg.r1);
    asm.alu64(Alu.ADD, Reg.r2, bytes);
    asm.jump64X(Jump.JGT, Reg.r2, END, fail);
    asm.load(sizeOf(code), A, Reg.r1, 0);
  }

  /**
   * reg = X + k modulo 2^32; the high half of the register is 0. It is k that X is added to: of a register that a constant was added to, the verifier
   * (6.18) remembers the constant, and takes it for an offset when the register is then added to a pointer.
   */
  private sum(reg: Reg, k: number): void {
    this.asm.alu32(Alu.MOV, reg, k);
    this.asm.alu32X(Alu.ADD, reg, X);
  }

  private length(reg: Reg): void {
    const { asm } = this;
    if (this.environment.length === 'metadata') {
      asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
      asm.load(Size.W, Reg.r2, Reg.r1, XdpMd.data);
      asm.load(Size.W, Reg.r1, Reg.r1, XdpMd.data_meta);
      asm.alu64X(Alu.MOV, Reg.r3, Reg.r1);
      asm.alu64(Alu.ADD, Reg.r3, 4);
      asm.jump64X(Jump.JGT, Reg.r3, Reg.r2, this.fail);
      asm.load(Size.W, reg, Reg.r1, 0);
    } else if (this.environment.access === 'helpers') {
      asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
      asm.call(Helper.xdp_get_buff_len);
      asm.alu32X(Alu.MOV, reg, Reg.r0);
    } else {
      asm.alu64X(Alu.MOV, reg, END);
      asm.alu64X(Alu.SUB, reg, DATA);
    }
  }

  private arithmetic({ code, k }: Operation): void {
    const { asm } = this;
    const op = (code & Bpf.OP) as Alu;
    // The numbers of classic operations are eBPF's.
    if ((code & Bpf.OP) === Bpf.NEG) return asm.alu32(Alu.NEG, A, 0);
    if ((code & Bpf.SRC) === Bpf.K) return asm.alu32(op, A, k);
    if (code === Code.DIV_X || code === Code.MOD_X) asm.jump32(Jump.JEQ, X, 0, this.fail);
    asm.alu32X(op, A, X);
  }

  private jump(index: number, operation: Operation): void {
    const { code, jt, jf, k } = operation;
    if (!isConditional(code)) return this.go(index, index + 1 + k);
    const [taken, other] = [index + 1 + jt, index + 1 + jf];
    if (this.labelOf(taken) === this.labelOf(other)) return this.go(index, taken);
    const op = (code & Bpf.OP) as Jump;
    const opposite = OPPOSITE[op];
    if (opposite !== undefined && this.isNext(index, taken)) return this.condition(opposite, operation, other);
    this.condition(op, operation, taken);
    this.go(index, other);
  }

  private condition(op: Jump, { code, k }: Operation, to: number): void {
    const label = this.labelOf(to);
    if ((code & Bpf.SRC) === Bpf.X) this.asm.jump32X(op, A, X, label);
    else this.asm.jump32(op, A, k, label);
  }

  private go(from: number, to: number): void {
    if (!this.isNext(from, to)) this.asm.goto(this.labelOf(to));
  }

  private labelOf(index: number): Label {
    return this.guards.reached[index] ? this.labels[index] : this.fail;
  }

  /** Whether what follows is the instruction `to`: those between are not written. */
  private isNext(from: number, to: number): boolean {
    if (!this.guards.reached[to]) return false;
    for (let i = from + 1; i < to; i++) if (this.guards.reached[i]) return false;
    return true;
  }
}

/** JSET has none. */
const OPPOSITE: Readonly<Partial<Record<Jump, Jump>>> = {
  [Jump.JEQ]: Jump.JNE,
  [Jump.JGT]: Jump.JLE,
  [Jump.JGE]: Jump.JLT,
};

function cell(k: number): number {
  return Stack.memory - k * 8;
}

function sizeOf(code: number): Size {
  return (code & Bpf.SIZE) as Size;
}

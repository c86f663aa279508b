import { Bpf, Code, Word, type Program } from './program.js';

const M = new Int32Array(Word.MEM_WORDS);

/**
 * Runs a program over the packet at `at` of `view` and returns what it returns, as an int32; 0 means no match. `length` bytes are there,
 * `wireLength` is what BPF_LEN reads: the length on the wire. This is the reference for every other engine here. The program has passed
 * checkProgram: then 4096 steps are the most; or checkLoops (loops.ts): then a run jumps back as many times as the packet has bytes at most, and
 * returns 0 when the program wants more.
 *
 * As the kernel's engine (net/core/filter.c, bpf_convert_filter), where that differs from libpcap's:
 * - All arithmetic is modulo 2^32, unsigned; division and modulo by X = 0 return 0.
 * - A shift by X uses the low five bits of X.
 * - A load that reaches outside the packet returns 0. X + k is taken modulo 2^32, so X = −2, k = 14 reads offset 12.
 * - An offset from 0x80000000 on returns 0. Here the kernel has two windows that read from the network and the link header on (SKF_NET_OFF,
 *   SKF_LL_OFF), which X + k could come to by accident; nobody has those headers but the kernel.
 *
 * A packet that is not inside `view` (a caller's mistake) does not match, whatever the program.
 */
export function interpret(program: Program, view: DataView, at: number, length: number, wireLength: number): number {
  at |= 0;
  length |= 0;
  if (at < 0 || length < 0 || length > view.byteLength - at) return 0;
  const words = program.words;
  let a = 0;
  let x = 0;
  let turns = 0;
  for (let pc = 0; pc < words.length; pc = (pc + Word.SIZE) | 0) {
    const k = words[pc + Word.k];
    switch (words[pc]) {
      case Code.LD_W_ABS:
        if (k < 0 || k > length - 4) return 0;
        a = view.getInt32(at + k);
        break;
      case Code.LD_H_ABS:
        if (k < 0 || k > length - 2) return 0;
        a = view.getUint16(at + k);
        break;
      case Code.LD_B_ABS:
        if (k < 0 || k > length - 1) return 0;
        a = view.getUint8(at + k);
        break;
      case Code.LD_W_IND: {
        const offset = (x + k) | 0;
        if (offset < 0 || offset > length - 4) return 0;
        a = view.getInt32(at + offset);
        break;
      }
      case Code.LD_H_IND: {
        const offset = (x + k) | 0;
        if (offset < 0 || offset > length - 2) return 0;
        a = view.getUint16(at + offset);
        break;
      }
      case Code.LD_B_IND: {
        const offset = (x + k) | 0;
        if (offset < 0 || offset > length - 1) return 0;
        a = view.getUint8(at + offset);
        break;
      }
      case Code.LDX_MSH:
        if (k < 0 || k > length - 1) return 0;
        x = (view.getUint8(at + k) & 15) << 2;
        break;
      case Code.LD_IMM:
        a = k;
        break;
      case Code.LD_MEM:
        a = M[k];
        break;
      case Code.LD_LEN:
        a = wireLength | 0;
        break;
      case Code.LDX_IMM:
        x = k;
        break;
      case Code.LDX_MEM:
        x = M[k];
        break;
      case Code.LDX_LEN:
        x = wireLength | 0;
        break;
      case Code.ST:
        M[k] = a;
        break;
      case Code.STX:
        M[k] = x;
        break;
      case Code.TAX:
        x = a;
        break;
      case Code.TXA:
        a = x;
        break;
      case Code.RET_K:
        return k;
      case Code.RET_A:
        return a;
      case Code.JA:
        if (k < 0 && ++turns > length) return 0;
        pc = (pc + (k << 2)) | 0;
        break;
      case Code.DIV_X:
      case Code.MOD_X:
        if (x === 0) return 0;
        a = compute(words[pc], a, x);
        break;
      case Code.JEQ_K:
      case Code.JGT_K:
      case Code.JGE_K:
      case Code.JSET_K:
        pc = (pc + (words[pc + (holds(words[pc], a, k) ? Word.jt : Word.jf)] << 2)) | 0;
        break;
      case Code.JEQ_X:
      case Code.JGT_X:
      case Code.JGE_X:
      case Code.JSET_X:
        pc = (pc + (words[pc + (holds(words[pc], a, x) ? Word.jt : Word.jf)] << 2)) | 0;
        break;
      default:
        a = compute(words[pc], a, (words[pc] & Bpf.SRC) === Bpf.K ? k : x);
    }
  }
  return 0;
}

/** Result of an ALU instruction, int32. `operand`, K or X, is not 0 in a division. */
export function compute(code: number, a: number, operand: number): number {
  switch (code & Bpf.OP) {
    case Bpf.ADD:
      return (a + operand) | 0;
    case Bpf.SUB:
      return (a - operand) | 0;
    case Bpf.MUL:
      return Math.imul(a, operand);
    case Bpf.DIV:
      return ((a >>> 0) / (operand >>> 0)) | 0;
    case Bpf.OR:
      return a | operand;
    case Bpf.AND:
      return a & operand;
    case Bpf.LSH:
      return a << operand;
    case Bpf.RSH:
      return (a >>> operand) | 0;
    case Bpf.NEG:
      return -a | 0;
    case Bpf.MOD:
      return ((a >>> 0) % (operand >>> 0)) | 0;
    default:
      return a ^ operand;
  }
}

/** Whether a conditional jump is taken to jt. */
export function holds(code: number, a: number, operand: number): boolean {
  switch (code & Bpf.OP) {
    case Bpf.JEQ:
      return a === operand;
    case Bpf.JGT:
      return a >>> 0 > operand >>> 0;
    case Bpf.JGE:
      return a >>> 0 >= operand >>> 0;
    default:
      return (a & operand) !== 0;
  }
}

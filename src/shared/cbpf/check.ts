import { Bpf, Code, isConditional, isReturn, Word, type Program } from './program.js';

/** Every code that the kernel takes: chk_code_allowed in net/core/filter.c. */
const ALLOWED: ReadonlySet<number> = new Set([
  ...[Code.LD_W_ABS, Code.LD_H_ABS, Code.LD_B_ABS, Code.LD_W_IND, Code.LD_H_IND, Code.LD_B_IND],
  ...[Code.LD_IMM, Code.LD_MEM, Code.LD_LEN, Code.LDX_IMM, Code.LDX_MEM, Code.LDX_LEN, Code.LDX_MSH, Code.ST, Code.STX],
  ...[Code.ADD_K, Code.SUB_K, Code.MUL_K, Code.DIV_K, Code.OR_K, Code.AND_K, Code.LSH_K, Code.RSH_K, Code.MOD_K],
  ...[Code.XOR_K, Code.ADD_X, Code.SUB_X, Code.MUL_X, Code.DIV_X, Code.OR_X, Code.AND_X, Code.LSH_X, Code.RSH_X],
  ...[Code.MOD_X, Code.XOR_X, Code.NEG, Code.TAX, Code.TXA, Code.RET_K, Code.RET_A, Code.JA],
  ...[Code.JEQ_K, Code.JEQ_X, Code.JGT_K, Code.JGT_X, Code.JGE_K, Code.JGE_X, Code.JSET_K, Code.JSET_X],
]);

/** SKF_AD_OFF, SKF_LL_OFF: where the kernel's offsets with a meaning of their own begin (include/uapi/linux/filter.h). */
const SKF_AD_OFF = -0x1000;
const SKF_LL_OFF = -0x200000;

/**
 * Why a program is refused, or null when it is well formed. Takes what the kernel takes (bpf_check_classic in net/core/filter.c) but for the
 * absolute loads that read no packet bytes of a known place: ancillary ones (SKF_AD_OFF) and those counted from the network or link header
 * (SKF_NET_OFF, SKF_LL_OFF).
 */
export function checkProgram(program: Program): string | null {
  const { words } = program;
  const count = words.length / Word.SIZE;
  if (!Number.isInteger(count)) return 'a program has four numbers an instruction';
  if (count < 1) return 'a program has at least one instruction';
  if (count > Word.MAX_INSTRUCTIONS) return `${count} instructions, at most ${Word.MAX_INSTRUCTIONS} are allowed`;
  for (let i = 0; i < count; i++) {
    const at = i * Word.SIZE;
    const reason = checkInstruction(words[at], words[at + Word.jt], words[at + Word.jf], words[at + Word.k], count - i);
    if (reason !== null) return `instruction ${i}: ${reason}`;
  }
  if (!isReturn(words[(count - 1) * Word.SIZE])) return 'the last instruction is no return';
  return checkMemory(words, count);
}

/** `left`: instructions from this one to the end, itself included. */
function checkInstruction(code: number, jt: number, jf: number, k: number, left: number): string | null {
  if (!ALLOWED.has(code)) return `there is no code ${code >= 0 ? `0x${code.toString(16)}` : code}`;
  if (jt < 0 || jt > 255 || jf < 0 || jf > 255) return 'a conditional jump goes 0 to 255 instructions';
  const unsigned = k >>> 0;
  if (isConditional(code)) {
    return jt + 1 >= left || jf + 1 >= left ? 'a jump behind the end of the program' : null;
  }
  switch (code) {
    case Code.JA:
      return unsigned >= left - 1 ? 'a jump behind the end of the program' : null;
    case Code.DIV_K:
    case Code.MOD_K:
      return k === 0 ? 'division by 0' : null;
    case Code.LSH_K:
    case Code.RSH_K:
      return unsigned >= 32 ? `a shift by ${unsigned}: at most 31` : null;
    case Code.LD_MEM:
    case Code.LDX_MEM:
    case Code.ST:
    case Code.STX:
      return unsigned >= Word.MEM_WORDS ? `there is no M[${unsigned}]: M[0] to M[15]` : null;
    case Code.LD_W_ABS:
    case Code.LD_H_ABS:
    case Code.LD_B_ABS:
    case Code.LDX_MSH:
      return checkOffset(k);
    default:
      return null;
  }
}

function checkOffset(k: number): string | null {
  if (k >= 0 || k < SKF_LL_OFF) return null;
  const offset = `offset ${k} (0x${(k >>> 0).toString(16)})`;
  if (k >= SKF_AD_OFF) return `${offset} is a value of the kernel's (SKF_AD_OFF), not of the packet`;
  return `${offset} counts from a header that the kernel found (SKF_NET_OFF, SKF_LL_OFF): write the offset from the start`;
}

/** Refuses a load from M[] that some path reaches without a store. */
function checkMemory(words: Int32Array, count: number): string | null {
  const i = firstUnstored(words, count, 0);
  return i < 0 ? null : `instruction ${i}: M[${words[i * Word.SIZE + Word.k]}] is read and was not always stored`;
}

/**
 * Cells of M[] that are read where some path comes without having stored them, a bit each: 0 for programs that the kernel takes.
 * Does not ask whether the program is right otherwise.
 */
export function unstoredCells({ words }: Program): number {
  const count = words.length / Word.SIZE;
  let cells = 0;
  for (;;) {
    const i = firstUnstored(words, count, cells);
    if (i < 0) return cells;
    cells |= 1 << words[i * Word.SIZE + Word.k];
  }
}

/**
 * The first load of a cell that is neither among `cells` nor stored on every path, or -1: the kernel's own rule (check_load_and_stores), which
 * goes through the instructions once in order. It lets a return fall through to what is written behind it, and so refuses a few programs that
 * are sound.
 */
function firstUnstored(words: Int32Array, count: number, cells: number): number {
  /** Cells stored on every path that jumps to an instruction. */
  const stored = new Int32Array(count).fill(-1);
  let valid = cells;
  for (let i = 0; i < count; i++) {
    const at = i * Word.SIZE;
    const code = words[at];
    const k = words[at + Word.k];
    valid &= stored[i];
    if (code === Code.ST || code === Code.STX) valid |= 1 << k;
    else if (code === Code.LD_MEM || code === Code.LDX_MEM) {
      if ((valid & (1 << k)) === 0) return i;
    } else if ((code & Bpf.CLASS) === Bpf.JMP) {
      const taken = code === Code.JA ? k : words[at + Word.jt];
      const other = code === Code.JA ? k : words[at + Word.jf];
      stored[i + 1 + taken] &= valid;
      stored[i + 1 + other] &= valid;
      valid = -1;
    }
  }
  return -1;
}

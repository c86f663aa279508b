/**
 * Classic BPF programs (McCanne and Jacobson, "The BSD Packet Filter", USENIX 1993), as the kernel takes them by
 * SO_ATTACH_FILTER: a 32-bit accumulator A, an index register X, 16 words of scratch memory M[], forward jumps only.
 *
 * The files of this folder need nothing of the machine. `interpret.ts` says what a program means; all else agrees with it.
 */

/**
 * A program. `link` says what offset 0 is: the Ethernet header ('ethernet', as tcpdump's), or the layer-3 header ('ip', as
 * iptables' `-m bpf`). It changes nothing in what the program computes.
 *
 * `words` has four int32 an instruction, struct sock_filter of include/uapi/linux/filter.h spread out: code, jt, jf, k. k is the bit pattern of
 * a uint32.
 */
export interface Program {
  readonly link: 'ethernet' | 'ip';
  readonly words: Int32Array;
}

/** Index of an instruction's word, and what limits a program: BPF_MAXINSNS, BPF_MEMWORDS. */
export const enum Word {
  code = 0,
  jt = 1,
  jf = 2,
  k = 3,
  SIZE = 4,
  MAX_INSTRUCTIONS = 4096,
  MEM_WORDS = 16,
}

/** Parts of a code: include/uapi/linux/bpf_common.h and filter.h, without the prefix BPF_. */
export const enum Bpf {
  CLASS = 0x07,
  LD = 0x00,
  LDX = 0x01,
  ST = 0x02,
  STX = 0x03,
  ALU = 0x04,
  JMP = 0x05,
  RET = 0x06,
  MISC = 0x07,

  SIZE = 0x18,
  W = 0x00,
  H = 0x08,
  B = 0x10,

  MODE = 0xe0,
  IMM = 0x00,
  ABS = 0x20,
  IND = 0x40,
  MEM = 0x60,
  LEN = 0x80,
  MSH = 0xa0,

  OP = 0xf0,
  ADD = 0x00,
  SUB = 0x10,
  MUL = 0x20,
  DIV = 0x30,
  OR = 0x40,
  AND = 0x50,
  LSH = 0x60,
  RSH = 0x70,
  NEG = 0x80,
  MOD = 0x90,
  XOR = 0xa0,

  JA = 0x00,
  JEQ = 0x10,
  JGT = 0x20,
  JGE = 0x30,
  JSET = 0x40,

  /** Source of an ALU or JMP operand. */
  SRC = 0x08,
  K = 0x00,
  X = 0x08,
}

/** Whole codes: every one that the kernel takes. */
export const enum Code {
  LD_W_ABS = 0x20,
  LD_H_ABS = 0x28,
  LD_B_ABS = 0x30,
  LD_W_IND = 0x40,
  LD_H_IND = 0x48,
  LD_B_IND = 0x50,
  LD_IMM = 0x00,
  LD_MEM = 0x60,
  LD_LEN = 0x80,
  LDX_IMM = 0x01,
  LDX_MEM = 0x61,
  LDX_LEN = 0x81,
  LDX_MSH = 0xb1,
  ST = 0x02,
  STX = 0x03,
  ADD_K = 0x04,
  SUB_K = 0x14,
  MUL_K = 0x24,
  DIV_K = 0x34,
  OR_K = 0x44,
  AND_K = 0x54,
  LSH_K = 0x64,
  RSH_K = 0x74,
  NEG = 0x84,
  MOD_K = 0x94,
  XOR_K = 0xa4,
  ADD_X = 0x0c,
  SUB_X = 0x1c,
  MUL_X = 0x2c,
  DIV_X = 0x3c,
  OR_X = 0x4c,
  AND_X = 0x5c,
  LSH_X = 0x6c,
  RSH_X = 0x7c,
  MOD_X = 0x9c,
  XOR_X = 0xac,
  JA = 0x05,
  JEQ_K = 0x15,
  JGT_K = 0x25,
  JGE_K = 0x35,
  JSET_K = 0x45,
  JEQ_X = 0x1d,
  JGT_X = 0x2d,
  JGE_X = 0x3d,
  JSET_X = 0x4d,
  RET_K = 0x06,
  RET_A = 0x16,
  TAX = 0x07,
  TXA = 0x87,
}

/**
 * A program made into a function: the same result as `interpret` with the program in front, for any arguments. `at`, `length`, `wireLength`
 * are int32.
 */
export type PacketMatch = (view: DataView, at: number, length: number, wireLength: number) => number;

/** One instruction as objects have it: code, jt, jf, k. */
export type Instruction = readonly [code: number, jt: number, jf: number, k: number];

export function programOf(link: Program['link'], instructions: readonly Instruction[]): Program {
  const words = new Int32Array(instructions.length * Word.SIZE);
  instructions.forEach((instruction, i) => words.set(instruction, i * Word.SIZE));
  return { link, words };
}

export function instructionCount(program: Program): number {
  return program.words.length / Word.SIZE;
}

export function isConditional(code: number): boolean {
  return (code & Bpf.CLASS) === Bpf.JMP && code !== Code.JA;
}

export function isReturn(code: number): boolean {
  return (code & Bpf.CLASS) === Bpf.RET;
}

/** Whether the code is a packet load into A at k or at X + k. */
export function isPacketLoad(code: number): boolean {
  const mode = code & Bpf.MODE;
  return (code & Bpf.CLASS) === Bpf.LD && (mode === Bpf.ABS || mode === Bpf.IND);
}

/** Bytes that a load reads: 1, 2 or 4. */
export function loadSize(code: number): number {
  const size = code & Bpf.SIZE;
  return size === Bpf.W ? 4 : size === Bpf.H ? 2 : 1;
}

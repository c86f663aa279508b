/**
 * eBPF instructions: Documentation/bpf/standardization/instruction-set.rst (RFC 9669), numbers of include/uapi/linux/bpf.h and
 * bpf_common.h without their prefix BPF_.
 */

/** Registers. r0 is a function's result, r1 to r5 its arguments, which a call destroys, r6 to r9 survive it, r10 is the stack's top. */
export const enum Reg {
  r0 = 0,
  r1 = 1,
  r2 = 2,
  r3 = 3,
  r4 = 4,
  r5 = 5,
  r6 = 6,
  r7 = 7,
  r8 = 8,
  r9 = 9,
  r10 = 10,
}

/** Parts of a code. */
export const enum Part {
  CLASS = 0x07,
  LD = 0x00,
  LDX = 0x01,
  ST = 0x02,
  STX = 0x03,
  ALU = 0x04,
  JMP = 0x05,
  JMP32 = 0x06,
  ALU64 = 0x07,
  OP = 0xf0,
  /** The operand is a register. */
  X = 0x08,
  MODE = 0xe0,
  IMM = 0x00,
  MEM = 0x60,
  ATOMIC = 0xc0,
  SIZE = 0x18,
}

/** Bytes of a load or store, as its code has them. */
export const enum Size {
  W = 0x00,
  H = 0x08,
  B = 0x10,
  DW = 0x18,
}

export const enum Alu {
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
  MOV = 0xb0,
  ARSH = 0xc0,
  END = 0xd0,
}

/** Conditions of jumps; all but JSLT and its like compare unsigned. */
export const enum Jump {
  JA = 0x00,
  JEQ = 0x10,
  JGT = 0x20,
  JGE = 0x30,
  JSET = 0x40,
  JNE = 0x50,
  CALL = 0x80,
  EXIT = 0x90,
  JLT = 0xa0,
  JLE = 0xb0,
}

/** Helper functions: enum bpf_func_id. */
export const enum Helper {
  map_lookup_elem = 1,
  map_update_elem = 2,
  ktime_get_ns = 5,
  get_prandom_u32 = 7,
  tail_call = 12,
  redirect = 23,
  xdp_adjust_meta = 54,
  spin_lock = 93,
  spin_unlock = 94,
  /** Linux 5.18 and newer, like the next. */
  xdp_get_buff_len = 188,
  xdp_load_bytes = 189,
}

/** src_reg of LD_IMM64: the number is the descriptor of a map; or that of an array map, whose first value is meant. */
export const enum Pseudo {
  MAP_FD = 1,
  MAP_VALUE = 2,
}

/** struct xdp_md of include/uapi/linux/bpf.h: byte offsets of its members, 4 bytes each. */
export const enum XdpMd {
  data = 0,
  data_end = 4,
  data_meta = 8,
}

/** One instruction's fields. LD_IMM64 is two of them, the second with code 0 and the high word in `imm`. */
export interface Instruction {
  readonly code: number;
  readonly dst: number;
  readonly src: number;
  /** int16. */
  readonly off: number;
  /** int32. */
  readonly imm: number;
}

/** LD_IMM64: the one code of two instructions. */
export const LD_IMM64 = Part.LD | Size.DW | Part.IMM;

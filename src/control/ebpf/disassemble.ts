import { Alu, Helper, Jump, LD_IMM64, Part, Pseudo, Size, type Instruction } from './instruction.js';

const ALU: Readonly<Record<number, string>> = {
  [Alu.ADD]: '+=',
  [Alu.SUB]: '-=',
  [Alu.MUL]: '*=',
  [Alu.DIV]: '/=',
  [Alu.OR]: '|=',
  [Alu.AND]: '&=',
  [Alu.LSH]: '<<=',
  [Alu.RSH]: '>>=',
  [Alu.MOD]: '%=',
  [Alu.XOR]: '^=',
  [Alu.MOV]: '=',
  [Alu.ARSH]: 's>>=',
};
const JUMPS: Readonly<Record<number, string>> = {
  [Jump.JEQ]: '==',
  [Jump.JGT]: '>',
  [Jump.JGE]: '>=',
  [Jump.JSET]: '&',
  [Jump.JNE]: '!=',
  [Jump.JLT]: '<',
  [Jump.JLE]: '<=',
};
const SIZES: Readonly<Record<number, string>> = { [Size.B]: 'u8', [Size.H]: 'u16', [Size.W]: 'u32', [Size.DW]: 'u64' };
const HELPERS: Readonly<Record<number, string>> = {
  [Helper.map_lookup_elem]: 'bpf_map_lookup_elem',
  [Helper.map_update_elem]: 'bpf_map_update_elem',
  [Helper.ktime_get_ns]: 'bpf_ktime_get_ns',
  [Helper.get_prandom_u32]: 'bpf_get_prandom_u32',
  [Helper.tail_call]: 'bpf_tail_call',
  [Helper.xdp_adjust_meta]: 'bpf_xdp_adjust_meta',
  [Helper.spin_lock]: 'bpf_spin_lock',
  [Helper.spin_unlock]: 'bpf_spin_unlock',
  [Helper.xdp_get_buff_len]: 'bpf_xdp_get_buff_len',
  [Helper.xdp_load_bytes]: 'bpf_xdp_load_bytes',
};

/** The program as the kernel's verifier writes it in its log (kernel/bpf/disasm.c), one line an instruction, the lines ended by "\n". */
export function disassembleEbpf(instructions: readonly Instruction[]): string {
  let text = '';
  for (let i = 0; i < instructions.length; i++) {
    const { code } = instructions[i];
    text += `${String(i).padStart(4)}: (${code.toString(16).padStart(2, '0')}) ${image(instructions, i)}\n`;
    if (code === LD_IMM64) i++;
  }
  return text;
}

function image(instructions: readonly Instruction[], index: number): string {
  const instruction = instructions[index];
  const { code, dst, src, off, imm } = instruction;
  switch (code & Part.CLASS) {
    case Part.ALU:
    case Part.ALU64:
      return arithmetic(instruction);
    case Part.JMP:
    case Part.JMP32:
      return jump(instruction);
    case Part.LDX:
      return `r${dst} = ${memory(code, src, off)}`;
    case Part.ST:
      return `${memory(code, dst, off)} = ${imm}`;
    case Part.STX:
      return (code & Part.MODE) === Part.ATOMIC
        ? `lock ${memory(code, dst, off)} += r${src}`
        : `${memory(code, dst, off)} = r${src}`;
    default: {
      const high = instructions[index + 1].imm;
      if (src === Pseudo.MAP_FD) return `r${dst} = map[fd:${imm}]`;
      if (src === Pseudo.MAP_VALUE) return `r${dst} = map[fd:${imm}][0]+${high}`;
      return `r${dst} = 0x${((BigInt(high >>> 0) << 32n) | BigInt(imm >>> 0)).toString(16)}`;
    }
  }
}

function memory(code: number, base: number, off: number): string {
  return `*(${SIZES[code & Part.SIZE]} *)(r${base} ${signed(off)})`;
}

function signed(off: number): string {
  return off < 0 ? `${off}` : `+${off}`;
}

function arithmetic({ code, dst, src, imm }: Instruction): string {
  const name = (code & Part.CLASS) === Part.ALU64 ? 'r' : 'w';
  const op = code & Part.OP;
  if (op === Alu.END) return `r${dst} = ${(code & Part.X) === 0 ? 'le' : 'be'}${imm} r${dst}`;
  if (op === Alu.NEG) return `${name}${dst} = -${name}${dst}`;
  return `${name}${dst} ${ALU[op]} ${(code & Part.X) === 0 ? imm : `${name}${src}`}`;
}

function jump({ code, dst, src, off, imm }: Instruction): string {
  const op = code & Part.OP;
  if (op === Jump.CALL) return `call ${HELPERS[imm] ?? 'unknown'}#${imm}`;
  if (op === Jump.EXIT) return 'exit';
  const to = `goto pc${signed(off)}`;
  if (op === Jump.JA) return to;
  const name = (code & Part.CLASS) === Part.JMP ? 'r' : 'w';
  const operand = (code & Part.X) === 0 ? `0x${(imm >>> 0).toString(16)}` : `${name}${src}`;
  return `if ${name}${dst} ${JUMPS[op]} ${operand} ${to}`;
}

import { Bpf, Code, instructionCount, isConditional, type Program } from './program.js';
import { operationAt, type Operation } from './values.js';

const LOADS: Readonly<Record<number, string>> = { [Bpf.W]: 'ld', [Bpf.H]: 'ldh', [Bpf.B]: 'ldb' };
const ALU: Readonly<Record<number, string>> = {
  [Bpf.ADD]: 'add',
  [Bpf.SUB]: 'sub',
  [Bpf.MUL]: 'mul',
  [Bpf.DIV]: 'div',
  [Bpf.MOD]: 'mod',
  [Bpf.OR]: 'or',
  [Bpf.AND]: 'and',
  [Bpf.XOR]: 'xor',
  [Bpf.LSH]: 'lsh',
  [Bpf.RSH]: 'rsh',
  [Bpf.NEG]: 'neg',
};
const JUMPS: Readonly<Record<number, string>> = {
  [Bpf.JEQ]: 'jeq',
  [Bpf.JGT]: 'jgt',
  [Bpf.JGE]: 'jge',
  [Bpf.JSET]: 'jset',
};

/** The program as `tcpdump -d` prints it, one line an instruction (bpf_image of libpcap), the lines ended by "\n". */
export function disassemble(program: Program): string {
  let text = '';
  for (let i = 0; i < instructionCount(program); i++) text += `${image(operationAt(program.words, i), i)}\n`;
  return text;
}

function image(operation: Operation, index: number): string {
  const [name, operand] = parts(operation, index);
  const head = `(${String(index).padStart(3, '0')}) ${name.padEnd(8)} `;
  if (!isConditional(operation.code)) return head + operand;
  return `${head}${operand.padEnd(16)} jt ${index + 1 + operation.jt}\tjf ${index + 1 + operation.jf}`;
}

function hex(k: number): string {
  return `#0x${(k >>> 0).toString(16)}`;
}

function parts({ code, k }: Operation, index: number): [name: string, operand: string] {
  switch (code & Bpf.CLASS) {
    case Bpf.LD:
      return load(code, k);
    case Bpf.LDX:
      if (code === Code.LDX_MSH) return ['ldxb', `4*([${k}]&0xf)`];
      // libpcap, which never writes it, has no name for LDX LEN.
      return ['ldx', code === Code.LDX_IMM ? hex(k) : code === Code.LDX_MEM ? `M[${k}]` : '#pktlen'];
    case Bpf.ST:
      return ['st', `M[${k}]`];
    case Bpf.STX:
      return ['stx', `M[${k}]`];
    case Bpf.ALU: {
      const op = code & Bpf.OP;
      if (op === Bpf.NEG) return ['neg', ''];
      const bitwise = op === Bpf.AND || op === Bpf.OR || op === Bpf.XOR;
      return [ALU[op], (code & Bpf.SRC) === Bpf.X ? 'x' : bitwise ? hex(k) : `#${k}`];
    }
    case Bpf.JMP:
      if (code === Code.JA) return ['ja', `${index + 1 + k}`];
      return [JUMPS[code & Bpf.OP], (code & Bpf.SRC) === Bpf.X ? 'x' : hex(k)];
    case Bpf.RET:
      return ['ret', code === Code.RET_A ? '' : `#${k}`];
    default:
      return [code === Code.TAX ? 'tax' : 'txa', ''];
  }
}

function load(code: number, k: number): [name: string, operand: string] {
  const name = LOADS[code & Bpf.SIZE];
  switch (code & Bpf.MODE) {
    case Bpf.ABS:
      return [name, `[${k}]`];
    case Bpf.IND:
      return [name, `[x + ${k}]`];
    case Bpf.IMM:
      return [name, hex(k)];
    case Bpf.MEM:
      return [name, `M[${k}]`];
    default:
      return [name, '#pktlen'];
  }
}

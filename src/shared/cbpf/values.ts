/**
 * What is known in front of every instruction of a program, whatever the packet: one pass forward, since jumps only go forward.
 */
import { Bpf, Code, isConditional, loadSize, Word, type Program } from './program.js';
import { ANY, computeRange, join, only, refine, upTo, type Range } from './ranges.js';

/** What holds in front of an instruction, on every path to it. */
export interface Known {
  readonly a: Range;
  readonly x: Range;
  readonly m: readonly Range[];
  /** The packet has at least so many bytes. */
  readonly length: number;
  /** A is what this load gives: k × 8 + size; −1: not known. */
  readonly load: number;
  /** X is what LDX MSH at this offset gives; −1: not known. */
  readonly msh: number;
}

const START: Known = {
  a: only(0),
  x: only(0),
  m: Array.from({ length: Word.MEM_WORDS }, () => ANY),
  length: 0,
  load: -1,
  msh: -1,
};

export interface Operation {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

export function operationAt(words: Int32Array, index: number): Operation {
  const at = index * Word.SIZE;
  return { code: words[at], jt: words[at + Word.jt], jf: words[at + Word.jf], k: words[at + Word.k] };
}

/** K or X of an ALU or jump instruction. */
export function operandOf({ code, k }: Operation, known: Known): Range {
  return (code & Bpf.SRC) === Bpf.X ? known.x : only(k);
}

/** Key of a load at a known offset, as Known.load has it. */
export function loadKey(code: number, k: number): number {
  return k * 8 + loadSize(code);
}

/** Behind an instruction that is no jump; null when the program ends there for certain. */
export function after(operation: Operation, known: Known): Known | null {
  const { code, k } = operation;
  switch (code & Bpf.CLASS) {
    case Bpf.LD:
      return load(operation, known);
    case Bpf.LDX:
      if (code === Code.LDX_MSH) return k < 0 ? null : { ...known, ...reach(known, k + 1), x: upTo(60), msh: k };
      if (code === Code.LDX_IMM) return { ...known, x: only(k), msh: -1 };
      return { ...known, x: code === Code.LDX_MEM ? known.m[k] : ANY, msh: -1 };
    case Bpf.ST:
      return { ...known, m: known.m.with(k, known.a) };
    case Bpf.STX:
      return { ...known, m: known.m.with(k, known.x) };
    case Bpf.ALU: {
      const operand = operandOf(operation, known);
      const divides = code === Code.DIV_X || code === Code.MOD_X;
      if (divides && operand.hi === 0) return null;
      const x = divides && operand.lo === 0 ? { lo: 1, hi: operand.hi } : known.x;
      return { ...known, a: computeRange(code, known.a, operand), x, load: -1 };
    }
    case Bpf.MISC:
      return code === Code.TAX ? { ...known, x: known.a, msh: -1 } : { ...known, a: known.x, load: -1 };
    default:
      return null;
  }
}

function load({ code, k }: Operation, known: Known): Known | null {
  const size = loadSize(code);
  const value = size === 4 ? ANY : upTo(size === 2 ? 0xffff : 0xff);
  switch (code & Bpf.MODE) {
    case Bpf.ABS:
      return k < 0 ? null : { ...known, ...reach(known, k + size), a: value, load: loadKey(code, k) };
    case Bpf.IND: {
      // Without a wrap, the least offset was there.
      const least = known.x.lo + k;
      const wraps = k < 0 || known.x.hi + k > 0x7fffffff;
      return { ...known, ...(wraps ? {} : reach(known, least + size)), a: value, load: -1 };
    }
    case Bpf.IMM:
      return { ...known, a: only(k), load: -1 };
    case Bpf.MEM:
      return { ...known, a: known.m[k], load: -1 };
    default:
      return { ...known, a: ANY, load: -1 };
  }
}

function reach(known: Known, length: number): { length: number } {
  return { length: Math.max(known.length, length) };
}

/** On an edge of a conditional jump; null when it is never taken. */
export function along(operation: Operation, known: Known, taken: boolean): Known | null {
  const a = refine(operation.code, known.a, operandOf(operation, known), taken);
  return a === null ? null : a === known.a ? known : { ...known, a };
}

function merge(one: Known | null, two: Known): Known {
  if (one === null || one === two) return two;
  return {
    a: join(one.a, two.a),
    x: join(one.x, two.x),
    m: one.m === two.m ? one.m : one.m.map((range, cell) => join(range, two.m[cell])),
    length: Math.min(one.length, two.length),
    load: one.load === two.load ? one.load : -1,
    msh: one.msh === two.msh ? one.msh : -1,
  };
}

/** What is known in front of each instruction; null in front of one that is never reached. */
export function knownValues(program: Program): readonly (Known | null)[] {
  const { words } = program;
  const count = words.length / Word.SIZE;
  const states: (Known | null)[] = Array.from({ length: count }, () => null);
  states[0] = START;
  const flow = (to: number, state: Known | null): void => {
    if (state !== null) states[to] = merge(states[to], state);
  };
  for (let i = 0; i < count; i++) {
    const known = states[i];
    if (known === null) continue;
    const operation = operationAt(words, i);
    if (operation.code === Code.JA) flow(i + 1 + operation.k, known);
    else if (isConditional(operation.code)) {
      flow(i + 1 + operation.jt, along(operation, known, true));
      flow(i + 1 + operation.jf, along(operation, known, false));
    } else if (i + 1 < count) flow(i + 1, after(operation, known));
  }
  return states;
}

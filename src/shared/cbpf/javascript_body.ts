import { keepLoads, keyOf, type KeptLoads } from './loads.js';
import { Bpf, Code, isConditional, isReturn, loadSize, Word } from './program.js';
import { isOnly } from './ranges.js';
import { structureOf, targetsOf } from './structure.js';
import { after, knownValues, operandOf, operationAt, type Known, type Operation } from './values.js';

/** Blocks inside each other before the code is written flat: engines and readers of nested source recurse. */
const NEST_MOST = 60;
/** Pieces of flat code that one comparison skips. */
const GROUP = 48;

/** A signed comparison of two numbers with their top bit flipped is an unsigned one of the numbers. */
const FLIP = -0x80000000;

/** What a program does when it comes to its end. */
interface Exits {
  /** No match. */
  readonly reject: string;
  /** A return of K. */
  readonly value: (k: number) => string;
  readonly accumulator: string;
}

const ALONE: Exits = { reject: 'return 0;', value: (k) => `return ${k};`, accumulator: 'return a;' };

/** One of several in a function: a match returns the program's index, no match goes on behind its block. */
function amongOthers(index: number): Exits {
  const reject = `break q${index};`;
  return {
    reject,
    value: (k) => (k === 0 ? reject : `return ${index};`),
    accumulator: `if (a !== 0) return ${index}; ${reject}`,
  };
}

/** A number in an expression. */
function literal(value: number): string {
  return value < 0 ? `(${value})` : `${value}`;
}

/** The statements of one or more programs, and the variables that they share. */
export class SourceBody {
  readonly lines: string[] = [];
  private readonly cells = new Set<number>();
  private kept = 0;
  private flat = false;

  // The program that is being added
  private words = new Int32Array(0);
  private known: readonly (Known | null)[] = [];
  private loads: KeptLoads = { variable: new Map(), done: [] };
  private exits: Exits = ALONE;

  /** `hoisted`: number of the variable for each load that `hoists()` does in front. */
  constructor(private readonly hoisted: ReadonlyMap<number, number>) {}

  /** Variables; complete after the last add(). */
  declarations(): string[] {
    const names = ['a = 0', 'x = 0', 'o = 0', ...(this.flat ? ['s = 0'] : [])];
    for (const cell of [...this.cells].sort((one, two) => one - two)) names.push(`m${cell} = 0`);
    for (let i = 0; i < this.kept; i++) names.push(`t${i} = 0`);
    for (const i of this.hoisted.values()) names.push(`h${i} = 0`);
    return [`  var ${names.join(', ')};`];
  }

  hoists(): string[] {
    return [...this.hoisted].map(([key, i]) => {
      const size = key & 7;
      const offset = (key - size) / 8;
      return `  if (n >= ${offset + size}) h${i} = ${read(size, `p + ${offset}`)};`;
    });
  }

  /** Adds a program, as one that stands alone or as number `index` of several. */
  add(words: Int32Array, index = -1): void {
    this.words = Int32Array.from(words);
    this.known = knownValues({ link: 'ethernet', words });
    this.loads = keepLoads(words, this.known, this.hoisted);
    this.kept = Math.max(this.kept, this.loads.variable.size);
    this.exits = index < 0 ? ALONE : amongOthers(index);
    if (index >= 0) this.lines.push(`  q${index}: {`, '  a = 0; x = 0;');
    const structure = structureOf(words, this.known);
    if (structure.depth > NEST_MOST) this.addFlat();
    else {
      this.known.forEach((state, i) => {
        if (structure.ends[i]) this.lines.push('  }');
        for (const block of structure.begins[i]) this.lines.push(`  b${block}: {`);
        if (state === null || !structure.written[i]) return;
        const next = structure.written.indexOf(true, i + 1);
        this.lines.push(`  ${this.statement(i, state, next, (target) => `break b${target};`)}`);
      });
    }
    if (index >= 0) this.lines.push('  }');
  }

  /**
   * Without blocks: s is the instruction to go on with, and every piece of code asks whether it is its turn. Jumps only go forward, so one
   * pass over all pieces does it.
   */
  private addFlat(): void {
    this.flat = true;
    const leaders = this.leaders();
    this.lines.push('  s = 0;');
    leaders.forEach((leader, piece) => {
      if (piece % GROUP === 0) {
        if (piece > 0) this.lines.push('  }');
        const behind = leaders[piece + GROUP] ?? this.known.length;
        this.lines.push(`  if (s < ${behind}) {`);
      }
      const end = leaders[piece + 1] ?? this.known.length;
      this.lines.push(`  if (s === ${leader}) {`);
      for (let i = leader; i < end; i++) {
        const state = this.known[i];
        if (state !== null) this.lines.push(`  ${this.statement(i, state, -1, (target) => `s = ${target};`)}`);
      }
      const last = this.words[(end - 1) * Word.SIZE] & Bpf.CLASS;
      if (last !== Bpf.JMP && last !== Bpf.RET) this.lines.push(`  s = ${end};`);
      this.lines.push('  }');
    });
    this.lines.push('  }');
    if (this.exits === ALONE) this.lines.push('  return 0;');
  }

  /** First instructions of the pieces that run from a jump's target to the next jump. */
  private leaders(): number[] {
    const leaders = new Set([0]);
    this.known.forEach((state, i) => {
      if (state === null || (this.words[i * Word.SIZE] & Bpf.CLASS) !== Bpf.JMP) return;
      for (const target of targetsOf(this.words, i)) leaders.add(target);
      leaders.add(i + 1);
    });
    return [...leaders].filter((i) => this.known[i] !== null).sort((one, two) => one - two);
  }

  /** `next`: the instruction that is written behind this one; a jump there needs no statement. */
  private statement(i: number, state: Known, next: number, go: (target: number) => string): string {
    const operation = operationAt(this.words, i);
    const { code, k } = operation;
    if (isReturn(code)) return this.result(operation);
    const goTo = (target: number): string => {
      const there = operationAt(this.words, target);
      return isReturn(there.code) ? this.result(there) : target === next ? '' : go(target);
    };
    if (code === Code.JA) return goTo(i + 1 + k);
    if (isConditional(code)) {
      const [taken, other] = targetsOf(this.words, i);
      if (this.known[taken] === null) return goTo(other);
      if (this.known[other] === null) return goTo(taken);
      return branch(operation, state, goTo(taken), goTo(other));
    }
    return after(operation, state) === null ? this.exits.reject : this.assignment(i, operation, state);
  }

  private result({ code, k }: Operation): string {
    return code === Code.RET_A ? this.exits.accumulator : this.exits.value(k);
  }

  private assignment(i: number, operation: Operation, state: Known): string {
    const { code, k } = operation;
    switch (code) {
      case Code.LDX_MSH:
        return this.fixedLoad(i, 'x', k, 1, state);
      case Code.LD_W_ABS:
      case Code.LD_H_ABS:
      case Code.LD_B_ABS:
        return this.fixedLoad(i, 'a', k, loadSize(code), state);
      case Code.LD_W_IND:
      case Code.LD_H_IND:
      case Code.LD_B_IND:
        return this.indirectLoad(k, loadSize(code), state);
      case Code.LD_IMM:
        return `a = ${k};`;
      case Code.LDX_IMM:
        return `x = ${k};`;
      case Code.LD_LEN:
        return 'a = w;';
      case Code.LDX_LEN:
        return 'x = w;';
      case Code.TAX:
        return 'x = a;';
      case Code.TXA:
        return 'a = x;';
      case Code.LD_MEM:
      case Code.LDX_MEM:
        this.cells.add(k);
        return code === Code.LD_MEM ? `a = m${k};` : `x = m${k};`;
      case Code.ST:
      case Code.STX:
        this.cells.add(k);
        return code === Code.ST ? `m${k} = a;` : `m${k} = x;`;
      default:
        return arithmetic(operation, state, this.exits.reject);
    }
  }

  private fixedLoad(i: number, register: 'a' | 'x', k: number, size: number, state: Known): string {
    const key = keyOf(this.words, i);
    const check = state.length >= k + size ? '' : `if (n < ${k + size}) ${this.exits.reject} `;
    const hoisted = this.hoisted.get(key);
    const variable = this.loads.variable.get(key);
    let value = read(size, `p + ${k}`);
    if (hoisted !== undefined) value = `h${hoisted}`;
    else if (variable !== undefined) value = this.loads.done[i] ? `t${variable}` : `t${variable} = ${value}`;
    return `${check}${register} = ${register === 'a' ? value : `((${value}) & 15) << 2`};`;
  }

  private indirectLoad(k: number, size: number, { x, length }: Known): string {
    const offset = k === 0 ? 'x' : `x + ${literal(k)} | 0`;
    const positive = k >= 0 && x.hi + k <= 0x7fffffff;
    if (positive && x.hi + k + size <= length) return `o = ${offset}; a = ${read(size, 'p + o')};`;
    const outside = `${positive ? '' : 'o < 0 || '}o > n - ${size}`;
    return `o = ${offset}; if (${outside}) ${this.exits.reject} a = ${read(size, 'p + o')};`;
  }
}

function read(size: number, at: string): string {
  return `v.${size === 4 ? 'getInt32' : size === 2 ? 'getUint16' : 'getUint8'}(${at})`;
}

function branch(operation: Operation, state: Known, taken: string, other: string): string {
  if (taken === other) return taken;
  if (taken === '') return `if (${condition(operation, state, false)}) ${braced(other)}`;
  if (other === '') return `if (${condition(operation, state, true)}) ${braced(taken)}`;
  const leaves = taken.startsWith('return') || taken.startsWith('break');
  if (leaves) return `if (${condition(operation, state, true)}) ${taken} ${other}`;
  return `if (${condition(operation, state, true)}) { ${taken} } else { ${other} }`;
}

function braced(statement: string): string {
  return statement.startsWith('if') ? `{ ${statement} }` : statement;
}

function condition(operation: Operation, state: Known, wanted: boolean): string {
  const { code, k } = operation;
  const byX = (code & Bpf.SRC) === Bpf.X;
  const op = code & Bpf.OP;
  const operand = byX ? 'x' : literal(k);
  if (op === Bpf.JEQ) return `a ${wanted ? '===' : '!=='} ${operand}`;
  if (op === Bpf.JSET) return `(a & ${operand}) ${wanted ? '!==' : '==='} 0`;
  const sign = op === Bpf.JGT ? (wanted ? '>' : '<=') : wanted ? '>=' : '<';
  const small = state.a.hi <= 0x7fffffff && operandOf(operation, state).hi <= 0x7fffffff;
  if (small) return `a ${sign} ${operand}`;
  return `(a ^ (${FLIP})) ${sign} ${byX ? `(x ^ (${FLIP}))` : literal(k ^ FLIP)}`;
}

function arithmetic(operation: Operation, state: Known, reject: string): string {
  const { code, k } = operation;
  const byX = (code & Bpf.SRC) === Bpf.X;
  const operand = byX ? 'x' : literal(k);
  const op = code & Bpf.OP;
  switch (op) {
    case Bpf.ADD:
      return `a = a + ${operand} | 0;`;
    case Bpf.SUB:
      return `a = a - ${operand} | 0;`;
    case Bpf.MUL:
      return `a = Math.imul(a, ${operand});`;
    case Bpf.DIV:
    case Bpf.MOD: {
      const sign = op === Bpf.DIV ? '/' : '%';
      const check = byX && state.x.lo === 0 ? `if (x === 0) ${reject} ` : '';
      const power = !byX && isOnly(operandOf(operation, state)) && (k & (k - 1)) === 0;
      if (power) return op === Bpf.DIV ? `a = a >>> ${31 - Math.clz32(k)} | 0;` : `a = a & ${literal((k - 1) | 0)};`;
      return `${check}a = (a >>> 0) ${sign} ${byX ? '(x >>> 0)' : k >>> 0} | 0;`;
    }
    case Bpf.OR:
      return `a = a | ${operand};`;
    case Bpf.AND:
      return `a = a & ${operand};`;
    case Bpf.XOR:
      return `a = a ^ ${operand};`;
    case Bpf.LSH:
      return `a = a << ${operand};`;
    case Bpf.RSH:
      return `a = a >>> ${operand} | 0;`;
    default:
      return 'a = 0 - a | 0;';
  }
}

/**
 * Where a program's labelled blocks begin and end when it is written as structured code: `b7: { … break b7; … }` in front of instruction 7
 * for every jump to it that is no step to the next instruction. Returns are copied to where a jump to them is, so that tests which fail to
 * the same `ret #0` need no block.
 */
import { Bpf, Code, isConditional, isReturn, Word } from './program.js';
import { operationAt, type Known } from './values.js';

export interface Structure {
  /** Whether the instruction is written at all. */
  readonly written: readonly boolean[];
  /** Blocks that begin in front of an instruction, the outermost first; each ends in front of the instruction that it is named after. */
  readonly begins: readonly (readonly number[])[];
  /** Whether a block ends in front of the instruction. */
  readonly ends: readonly boolean[];
  /** Deepest nesting. */
  readonly depth: number;
}

/** Instructions that a jump at `index` leads to. */
export function targetsOf(words: Int32Array, index: number): readonly number[] {
  const { code, jt, jf, k } = operationAt(words, index);
  if (code === Code.JA) return [index + 1 + k];
  return isConditional(code) ? [index + 1 + jt, index + 1 + jf] : [];
}

/** Whether the program goes on with the next instruction, without a jump. */
function fallsThrough(words: Int32Array, index: number): boolean {
  const operator = words[index * Word.SIZE] & Bpf.CLASS;
  return operator !== Bpf.JMP && operator !== Bpf.RET;
}

export function structureOf(words: Int32Array, known: readonly (Known | null)[]): Structure {
  const isWritten = (i: number): boolean => {
    if (known[i] === null) return false;
    return !isReturn(words[i * Word.SIZE]) || i === 0 || (known[i - 1] !== null && fallsThrough(words, i - 1));
  };
  const written = known.map((_, i) => isWritten(i));
  /** Next written instruction from each on. */
  const next = new Int32Array(known.length + 1).fill(known.length);
  for (let i = known.length - 1; i >= 0; i--) next[i] = written[i] ? i : next[i + 1];

  /** First jump to each instruction that needs a block. */
  const first = new Map<number, number>();
  known.forEach((_, i) => {
    if (!written[i]) return;
    for (const target of targetsOf(words, i)) {
      if (isReturn(words[target * Word.SIZE]) || next[i + 1] === target) continue;
      if (!first.has(target)) first.set(target, i);
    }
  });
  return { written, ...nest(first, known.length) };
}

/** Lets each block begin early enough that no two cross. */
function nest(first: ReadonlyMap<number, number>, count: number): Omit<Structure, 'written'> {
  const begins: number[][] = Array.from({ length: count }, () => []);
  const ends = Array.from({ length: count }, () => false);
  /** What has ended so far, as stretches that do not overlap. */
  const closed: { begin: number; end: number }[] = [];
  for (const [end, jump] of [...first].sort(([one], [two]) => one - two)) {
    let begin = jump;
    while (closed.length > 0 && closed[closed.length - 1].end > begin) {
      begin = Math.min(begin, closed.pop()!.begin);
    }
    closed.push({ begin, end });
    begins[begin].unshift(end);
    ends[end] = true;
  }
  let open = 0;
  let depth = 0;
  for (let i = 0; i < count; i++) {
    if (ends[i]) open--;
    open += begins[i].length;
    depth = Math.max(depth, open);
  }
  return { begins, ends, depth };
}

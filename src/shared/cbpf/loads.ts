/** Loads at constant offsets that are done more than once: which of them find the bytes in a variable already. */
import { Bpf, Code, isConditional, isPacketLoad, Word } from './program.js';
import { loadKey, operationAt, type Known } from './values.js';

/** Loads that are kept in variables, in one program: the bits of an int32. */
const KEPT_MOST = 31;

/** The load that an instruction does at a constant offset, LDX MSH's byte included; −1: none. */
export function keyOf(words: Int32Array, index: number): number {
  const { code, k } = operationAt(words, index);
  if (code === Code.LDX_MSH) return loadKey(Code.LD_B_ABS, k);
  return isPacketLoad(code) && (code & Bpf.MODE) === Bpf.ABS && k >= 0 ? loadKey(code, k) : -1;
}

/** How often each load is in a program. */
export function countLoads(words: Int32Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (let i = 0; i < words.length / Word.SIZE; i++) {
    const key = keyOf(words, i);
    if (key >= 0) counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

export interface KeptLoads {
  /** Number of the variable that holds a load for later, by key. */
  readonly variable: ReadonlyMap<number, number>;
  /** Whether the instruction's load has been done on every path to it. */
  readonly done: readonly boolean[];
}

/** `elsewhere`: loads that need no variable here. */
export function keepLoads(
  words: Int32Array,
  known: readonly (Known | null)[],
  elsewhere: ReadonlyMap<number, number>,
): KeptLoads {
  const repeated = [...countLoads(words)].filter(([key, count]) => count > 1 && !elsewhere.has(key));
  const bit = new Map(repeated.slice(0, KEPT_MOST).map(([key], i) => [key, 1 << i]));
  const done = known.map(() => false);
  if (bit.size === 0) return { variable: new Map(), done };
  /** What has been loaded on every path to an instruction. */
  const loaded = new Int32Array(known.length).fill(-1);
  loaded[0] = 0;
  let useful = 0;
  known.forEach((state, i) => {
    if (state === null) return;
    const own = bit.get(keyOf(words, i)) ?? 0;
    done[i] = (loaded[i] & own) !== 0;
    if (done[i]) useful |= own;
    const after = loaded[i] | own;
    const { code, jt, jf, k } = operationAt(words, i);
    if (code === Code.JA) loaded[i + 1 + k] &= after;
    else if (isConditional(code)) {
      loaded[i + 1 + jt] &= after;
      loaded[i + 1 + jf] &= after;
    } else if ((code & Bpf.CLASS) !== Bpf.RET) loaded[i + 1] &= after;
  });
  const kept = [...bit].filter(([, mask]) => (mask & useful) !== 0);
  return { variable: new Map(kept.map(([key], i) => [key, i])), done };
}

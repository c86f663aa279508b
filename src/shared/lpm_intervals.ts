/** From prefixes to the intervals of addresses that have the same longest match. */
import { NO_MATCH } from './lpm_lookup.js';
import type { PrefixColumns } from './prefix_columns.js';

export interface Intervals {
  /** First addresses, `width` words each, ascending as unsigned numbers; the first is 0. */
  starts: Int32Array;
  /** What an interval's addresses map to, NO_MATCH: nothing. Neighbours differ. */
  values: Int32Array;
  /** Words that tell the intervals apart: 1 to 4, by the longest prefix. */
  width: number;
  count: number;
}

/**
 * Walks the sorted prefixes once with a stack of those that are open: each begins an interval, and so does the address behind it, which falls back to the prefix
 * around it. Of equal prefixes the last one added counts.
 */
export function intervalsOf(prefixes: PrefixColumns): Intervals {
  const { count, lengths, values, words, wordsEach } = prefixes;
  let longest = 1;
  for (let i = 0; i < count; i++) if (lengths[i] > longest) longest = lengths[i];
  const width = (longest + 31) >> 5;
  const order = sortedOrder(prefixes, width);
  const out = new Emitter(width, 2 * count + 1);
  /** Numbers of the prefixes around the current one, outermost first. */
  const open = new Int32Array(32 * width + 2);
  let depth = 0;
  const closeInnermost = (): void => {
    const done = open[--depth];
    out.emitBehind(words, done * wordsEach, lengths[done], depth > 0 ? values[open[depth - 1]] : NO_MATCH);
  };
  out.emitZero();
  for (let i = 0; i < count; i++) {
    const prefix = order[i];
    while (depth > 0 && !contains(prefixes, open[depth - 1], prefix)) closeInnermost();
    // The same prefix again takes the place of the one before.
    if (depth > 0 && lengths[open[depth - 1]] === lengths[prefix]) depth--;
    open[depth++] = prefix;
    out.emit(words, prefix * wordsEach, values[prefix]);
  }
  while (depth > 0) closeInnermost();
  return out.finish();
}

/** Whether prefix `outer` holds prefix `inner`, which is not shorter. */
function contains({ words, lengths, wordsEach }: PrefixColumns, outer: number, inner: number): boolean {
  const length = lengths[outer];
  const a = outer * wordsEach;
  const b = inner * wordsEach;
  const whole = length >> 5;
  for (let w = 0; w < whole; w++) if (words[a + w] !== words[b + w]) return false;
  const rest = length & 31;
  return rest === 0 || (words[a + whole] ^ words[b + whole]) >>> (32 - rest) === 0;
}

/** Numbers of the prefixes by their first `width` words, then by length, shorter first, then as they were added: radix sort by bytes, last byte first. */
export function sortedOrder({ count, words, lengths, wordsEach }: PrefixColumns, width: number): Uint32Array {
  let from = Uint32Array.from({ length: count }, (_, i) => i);
  let to = new Uint32Array(count);
  const digits = new Uint8Array(count);
  const pass = (): void => {
    const starts = new Uint32Array(257);
    for (let i = 0; i < count; i++) starts[digits[i] + 1]++;
    if (starts.includes(count)) return;
    for (let digit = 0; digit < 256; digit++) starts[digit + 1] += starts[digit];
    for (let i = 0; i < count; i++) {
      const prefix = from[i];
      to[starts[digits[prefix]]++] = prefix;
    }
    [from, to] = [to, from];
  };
  digits.set(lengths.subarray(0, count));
  pass();
  for (let byte = 4 * width - 1; byte >= 0; byte--) {
    const word = byte >> 2;
    const shift = 24 - 8 * (byte & 3);
    for (let i = 0; i < count; i++) digits[i] = words[i * wordsEach + word] >>> shift;
    pass();
  }
  return from;
}

/** Collects interval starts in order; one at the address of the last takes its place. */
class Emitter {
  private readonly starts: Int32Array;
  private readonly values: Int32Array;
  private readonly behind = new Int32Array(4);
  private count = 0;

  constructor(
    private readonly width: number,
    most: number,
  ) {
    this.starts = new Int32Array(most * width);
    this.values = new Int32Array(most);
  }

  emitZero(): void {
    this.count = 1;
    this.values[0] = NO_MATCH;
  }

  emit(words: Int32Array, at: number, value: number): void {
    const { starts, width } = this;
    const last = (this.count - 1) * width;
    let same = true;
    for (let w = 0; w < width; w++) if (starts[last + w] !== words[at + w]) same = false;
    if (!same) {
      for (let w = 0; w < width; w++) starts[last + width + w] = words[at + w];
      this.count++;
    }
    this.values[this.count - 1] = value;
  }

  /** Emits the address behind a prefix, if there is one. */
  emitBehind(words: Int32Array, at: number, length: number, value: number): void {
    if (length === 0) return;
    const { behind, width } = this;
    for (let w = 0; w < width; w++) behind[w] = words[at + w];
    let w = (length - 1) >> 5;
    let step = 1 << (31 - ((length - 1) & 31));
    // Everything below the step is 0, so a carry leaves 0.
    while (w >= 0) {
      behind[w] += step;
      if (behind[w] !== 0) break;
      step = 1;
      w--;
    }
    if (w >= 0) this.emit(behind, 0, value);
  }

  /** Joins neighbours of one value. */
  finish(): Intervals {
    const { starts, values, width } = this;
    let kept = 1;
    for (let i = 1; i < this.count; i++) {
      if (values[i] === values[kept - 1]) continue;
      if (i !== kept) {
        values[kept] = values[i];
        starts.copyWithin(kept * width, i * width, (i + 1) * width);
      }
      kept++;
    }
    return { starts, values, width, count: kept };
  }
}

/** Addresses as the rule index takes them: lists of prefixes. */
import type { Range } from '../shared/cbpf/ranges.js';
import type { RangeSet } from '../shared/cbpf/range_sets.js';

export interface IndexPrefix {
  /** One word (IPv4) or four; an IPv4 prefix may have more. Host bits are 0. */
  readonly words: readonly number[];
  readonly length: number;
}

/** More prefixes than this for one set of addresses are not worth their rows: they are cut to fewer, wider ones. */
const PREFIXES_MOST = 64;

/** A set as large as this rules out little: it is what `host X` leaves of the source where the destination is X, and takes a row for each of its 32 prefixes. */
const HALF = 2 ** 31;

function sizeOf(set: RangeSet): number {
  return set.reduce((sum, { lo, hi }) => sum + hi - lo + 1, 0);
}

/**
 * Prefixes that cover the addresses whose words are in these sets, one a word; null: all addresses, or half of them and more. Words behind the first that is not one number
 * are left out.
 */
export function prefixesOf(words: readonly RangeSet[]): IndexPrefix[] | null {
  const fixed: number[] = [];
  for (const set of words) {
    if (set.length === 1 && set[0].lo === set[0].hi) {
      fixed.push(set[0].lo | 0);
      continue;
    }
    if (fixed.length === 0 && sizeOf(set) >= HALF) return null;
    return blocksOf(set).map(({ start, length }) =>
      prefix([...fixed, start], 32 * fixed.length + length, words.length),
    );
  }
  return [prefix(fixed, 32 * words.length, words.length)];
}

function prefix(words: readonly number[], length: number, count: number): IndexPrefix {
  return { words: Array.from({ length: count }, (_, i) => words[i] ?? 0), length };
}

interface Block {
  start: number;
  length: number;
}

/** Aligned blocks that cover the ranges: exactly, or in ever wider ones until they are few. */
function blocksOf(set: RangeSet): Block[] {
  for (let least = 0; ; least++) {
    const blocks = new Map<number, Block>();
    for (const range of set)
      for (const block of split(range, least)) blocks.set(block.start * 64 + block.length, block);
    if (blocks.size <= PREFIXES_MOST || least === 32) return [...blocks.values()];
  }
}

/** The largest aligned blocks in a range whose ends are first moved out to multiples of 2^least. */
function split(range: Range, least: number): Block[] {
  const step = 2 ** least;
  let at = Math.floor(range.lo / step) * step;
  const end = (Math.floor(range.hi / step) + 1) * step;
  const blocks: Block[] = [];
  while (at < end) {
    let size = at === 0 ? 2 ** 32 : 2 ** (31 - Math.clz32(at & -at));
    while (at + size > end) size /= 2;
    blocks.push({ start: at | 0, length: 32 - Math.log2(size) });
    at += size;
  }
  return blocks;
}

/** Prefixes of what is in both; null: all addresses. */
export function intersectPrefixes(
  one: readonly IndexPrefix[] | null,
  two: readonly IndexPrefix[] | null,
): readonly IndexPrefix[] | null {
  if (one === null || two === null) return one ?? two;
  return one.flatMap((a) =>
    two.flatMap((b) => {
      const [outer, inner] = a.length <= b.length ? [a, b] : [b, a];
      return contains(outer, inner) ? [inner] : [];
    }),
  );
}

/** Whether `inner`, which is not shorter, lies in `outer`. */
export function contains(outer: IndexPrefix, inner: IndexPrefix): boolean {
  for (let bit = 0; bit < outer.length; bit += 32) {
    const bits = Math.min(32, outer.length - bit);
    if ((outer.words[bit >> 5] ^ inner.words[bit >> 5]) >>> (32 - bits) !== 0) return false;
  }
  return true;
}

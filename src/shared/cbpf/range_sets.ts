/** Sets of uint32 as lists of ranges: sorted, apart from each other by one number at least. */
import type { Range } from './ranges.js';

export type RangeSet = readonly Range[];

export function intersect(set: RangeSet, { lo, hi }: Range): RangeSet {
  const kept = set.filter((range) => range.lo <= hi && range.hi >= lo);
  return kept.map((range) => ({ lo: Math.max(range.lo, lo), hi: Math.min(range.hi, hi) }));
}

export function subtract(set: RangeSet, { lo, hi }: Range): RangeSet {
  return set.flatMap((range) => {
    if (range.hi < lo || range.lo > hi) return [range];
    const left = range.lo < lo ? [{ lo: range.lo, hi: lo - 1 }] : [];
    return range.hi > hi ? [...left, { lo: hi + 1, hi: range.hi }] : left;
  });
}

/** All of both, and when that makes more than `most` ranges what lies in the smallest gaps too. */
export function union(one: RangeSet, two: RangeSet, most: number): RangeSet {
  if (one === two) return one;
  const joined: { lo: number; hi: number }[] = [];
  for (const { lo, hi } of [...one, ...two].sort((a, b) => a.lo - b.lo)) {
    const last = joined.at(-1);
    if (last !== undefined && lo <= last.hi + 1) last.hi = Math.max(last.hi, hi);
    else joined.push({ lo, hi });
  }
  while (joined.length > most) {
    let least = 1;
    for (let i = 2; i < joined.length; i++) {
      if (joined[i].lo - joined[i - 1].hi < joined[least].lo - joined[least - 1].hi) least = i;
    }
    joined[least - 1].hi = joined[least].hi;
    joined.splice(least, 1);
  }
  return joined;
}

export function contains(set: RangeSet, value: number): boolean {
  return set.some(({ lo, hi }) => lo <= value && value <= hi);
}

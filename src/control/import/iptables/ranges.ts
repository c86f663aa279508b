/** What is left when something is taken away: "! --dport 80" is the ports 0-79 and 81-65535, "! -s 10.0.0.0/8" eight prefixes. */
import { addressBits, addressFromWords, maskWords, type Words } from '../../../shared/addr.js';
import type { PortRange, Prefix } from '../../../shared/config.js';

/** All numbers from 0 to `max` that are in none of the ranges, ascending. */
export function rangesWithout(ranges: readonly PortRange[], max: number): PortRange[] {
  const rest: PortRange[] = [];
  let from = 0;
  for (const { first, last } of [...ranges].sort((a, b) => a.first - b.first)) {
    if (first > from) rest.push({ first: from, last: first - 1 });
    from = Math.max(from, last + 1);
  }
  if (from <= max) rest.push({ first: from, last: max });
  return rest;
}

/** As a configuration writes it: 80, or "80-90". */
export function rangeValue({ first, last }: PortRange): number | string {
  return first === last ? first : `${first}-${last}`;
}

/** The prefixes that together are every address but those of `prefix`: as many as it is long. */
export function prefixesWithout(prefix: Prefix): Prefix[] {
  return Array.from({ length: prefix.length }, (_, bit) => {
    const words = [...prefix.words] as [number, number, number, number];
    words[bit >>> 5] ^= 1 << (31 - (bit & 31));
    return masked(prefix.family, words, bit + 1);
  });
}

/** The prefix that the address is in; bits beyond its length are cleared. */
export function masked(family: 4 | 6, words: Words, length: number): Prefix {
  const masks = maskWords(length);
  const network: Words = [words[0] & masks[0], words[1] & masks[1], words[2] & masks[2], words[3] & masks[3]];
  return { ...addressFromWords(family, network), length };
}

/** The least prefixes that are the addresses from `first` to `last`; null when `first` is behind `last`. */
export function prefixesOfRange(family: 4 | 6, first: Words, last: Words): Prefix[] | null {
  const [from, to] = [numberOf(family, first), numberOf(family, last)];
  return from > to ? null : prefixesBetween(family, from, to);
}

/** The least prefixes that are all other addresses; null when `first` is behind `last`. */
export function prefixesWithoutRange(family: 4 | 6, first: Words, last: Words): Prefix[] | null {
  const [from, to] = [numberOf(family, first), numberOf(family, last)];
  const end = (1n << BigInt(addressBits(family))) - 1n;
  return from > to ? null : [...prefixesBetween(family, 0n, from - 1n), ...prefixesBetween(family, to + 1n, end)];
}

/** None when `from` is behind `end`. */
function prefixesBetween(family: 4 | 6, from: bigint, end: bigint): Prefix[] {
  const bits = BigInt(addressBits(family));
  let at = from;
  const prefixes: Prefix[] = [];
  while (at <= end) {
    let free = 0n;
    while (free < bits && ((at >> free) & 1n) === 0n && at + (1n << (free + 1n)) - 1n <= end) free++;
    prefixes.push(masked(family, wordsOf(family, at), Number(bits - free)));
    at += 1n << free;
  }
  return prefixes;
}

function numberOf(family: 4 | 6, words: Words): bigint {
  const used: number[] = family === 4 ? [words[0]] : [...words];
  return used.reduce((number, word) => (number << 32n) | BigInt(word >>> 0), 0n);
}

function wordsOf(family: 4 | 6, number: bigint): Words {
  const word = (shift: bigint): number => Number(BigInt.asIntN(32, number >> shift));
  return family === 4 ? [word(0n), 0, 0, 0] : [word(96n), word(64n), word(32n), word(0n)];
}

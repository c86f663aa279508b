/** What two conditions on one field leave: "-s 10.0.0.0/8" of a jump and "-s 10.1.0.0/16" in the chain are 10.1.0.0/16. */
import { formatPrefix, parsePrefix } from '../../../shared/addr.js';
import type { PortRange, Prefix } from '../../../shared/config.js';
import { masked, rangeValue } from './ranges.js';

type Values = (number | string)[];

/**
 * Values of a key of `match` that fit both, as the configuration writes them; [] when nothing does, null for keys whose values cannot be put
 * together.
 */
export function valuesOfBoth(key: string, one: unknown, other: unknown): Values | null {
  const [a, b] = [one, other].map((value) => (Array.isArray(value) ? value : [value]) as Values);
  switch (key) {
    case 'src':
    case 'dst':
      return pairs(a.map(prefixOf), b.map(prefixOf), narrower).map(formatPrefix);
    case 'sport':
    case 'dport':
    case 'length':
    case 'ttl':
      return pairs(a.map(rangeOf), b.map(rangeOf), overlap).map(rangeValue);
    case 'protocol':
      return a.filter((value) => b.includes(value));
    default:
      return null;
  }
}

function pairs<T>(a: readonly T[], b: readonly T[], both: (x: T, y: T) => T | null): T[] {
  return a.flatMap((x) => b.map((y) => both(x, y)).filter((found) => found !== null));
}

function prefixOf(value: number | string): Prefix {
  return parsePrefix(String(value));
}

/** Prefixes are one within the other, or have nothing in common. */
function narrower(x: Prefix, y: Prefix): Prefix | null {
  const [wide, narrow] = x.length <= y.length ? [x, y] : [y, x];
  const around = masked(narrow.family, narrow.words, wide.length);
  return around.words.every((word, i) => word === wide.words[i]) ? narrow : null;
}

function rangeOf(value: number | string): PortRange {
  const [first, last = first] = String(value).split('-').map(Number);
  return { first, last };
}

function overlap(x: PortRange, y: PortRange): PortRange | null {
  const both = { first: Math.max(x.first, y.first), last: Math.min(x.last, y.last) };
  return both.first <= both.last ? both : null;
}

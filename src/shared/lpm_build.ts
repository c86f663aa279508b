/** Builds the table that `lpm_lookup.ts` describes and looks up in. */
import { bitsOf, Lpm, LPM_VALUE_MOST } from './lpm_lookup.js';
import { PrefixColumns } from './prefix_columns.js';
import { intervalsOf, type Intervals } from './lpm_intervals.js';

/** A prefix and what a look-up of an address in it returns. */
export interface LpmEntry {
  /** In network byte order, one word (IPv4) or four. Host bits are ignored. */
  readonly words: ArrayLike<number>;
  /** 0-32 or 0-128. */
  readonly length: number;
  /** 0 to LPM_VALUE_MOST. */
  readonly value: number;
}

/** Most index bits of one table. Larger ones gain little: they leave the caches themselves. */
const ROOT_BITS_MOST = 21;
const NODE_BITS_MOST = 20;
const BITS_LEAST = 4;

/**
 * The table of these prefixes. Of a prefix that comes twice the last value counts. An entry is read at once and not kept, so the iterable may yield the same
 * object again and again. Throws RangeError for a length or value out of range, or above 16,000,000 prefixes.
 *
 * 1,000,000 random prefixes take 0.3 to 0.6 s for IPv4 and 0.5 to 1 s for IPv6 (Node 20, a shared vCPU), in one go.
 */
export function buildLpm(entries: Iterable<LpmEntry>, family: 4 | 6): Int32Array {
  const columns = new PrefixColumns(family);
  for (const { words, length, value } of entries) {
    if (!(value >= 0 && value <= LPM_VALUE_MOST)) throw new RangeError(`LPM value ${value}`);
    columns.add(words, length, value);
  }
  return new Indexer(intervalsOf(columns)).finish();
}

class Indexer {
  private words = new Int32Array(1 << 10);
  private length: number = Lpm.HEADER;
  private readonly starts: Int32Array;
  private readonly values: Int32Array;
  private readonly width: number;
  private readonly count: number;

  constructor({ starts, values, width, count }: Intervals) {
    if (count > Lpm.RUN_START_MASK) throw new RangeError(`${count} intervals, more than ${Lpm.RUN_START_MASK}`);
    this.starts = starts;
    this.values = values;
    this.width = width;
    this.count = count;
    // Twice as many entries as intervals: most buckets of the root are decided by it.
    const bits = Math.min(ROOT_BITS_MOST, bitsFor(2 * count));
    this.fill(this.reserve(1 << bits), 0, bits, 0, 1, count);
    this.words[Lpm.width] = width;
    this.words[Lpm.rootBits] = bits;
  }

  finish(): Int32Array {
    const { width, count } = this;
    const table = new Int32Array(new SharedArrayBuffer((this.length + count * (width + 1)) * 4));
    table.set(this.words.subarray(0, this.length));
    table[Lpm.intervals] = this.length;
    table[Lpm.count] = count;
    let at = this.length;
    for (let i = 0; i < count; i++) {
      for (let w = 0; w < width; w++) table[at++] = this.starts[i * width + w] ^ Lpm.SIGN;
      table[at++] = this.values[i];
    }
    return table;
  }

  private reserve(words: number): number {
    const at = this.length;
    this.length += words;
    if (this.length > this.words.length) {
      const larger = new Int32Array(Math.max(2 * this.words.length, this.length));
      larger.set(this.words);
      this.words = larger;
    }
    return at;
  }

  /**
   * Fills the entries at `table` for `bits` bits from `position` on. Intervals `first` to `end` − 1 start in its span behind its very first
   * address, which interval `covering` holds.
   */
  private fill(table: number, position: number, bits: number, covering: number, first: number, end: number): void {
    let i = first;
    let cover = covering;
    for (let bucket = 0; bucket < 1 << bits; bucket++) {
      if (i < end && this.bucketOf(i, position, bits) === bucket && this.isZeroFrom(i, position + bits)) cover = i++;
      const inside = i;
      while (i < end && this.bucketOf(i, position, bits) === bucket) i++;
      // Not in one statement: making a node may replace `words`.
      const entry = this.entry(position + bits, cover, inside, i);
      this.words[table + bucket] = entry;
      if (i > inside) cover = i - 1;
    }
  }

  private entry(position: number, cover: number, first: number, end: number): number {
    const count = end - first;
    if (count === 0) return Lpm.VALUE_BIT | (this.values[cover] + 1);
    if (count <= Lpm.RUN_MOST) return (count << Lpm.RUN_SHIFT) | cover;
    const common = this.commonBits(first, end - 1);
    const start = Math.max(position, common);
    const bits = Math.min(NODE_BITS_MOST, bitsFor(count), 32 * this.width - start);
    const node = this.reserve(Lpm.NODE + (1 << bits));
    const skips = common > position;
    this.words.set([start, bits, skips ? first : -1, skips ? end - 1 : -1], node);
    this.fill(node + Lpm.NODE, start, bits, cover, first, end);
    return Lpm.NODE_BIT | node;
  }

  private bucketOf(interval: number, position: number, bits: number): number {
    const { starts, width } = this;
    const at = interval * width;
    const w1 = width > 1 ? starts[at + 1] : 0;
    const w2 = width > 2 ? starts[at + 2] : 0;
    const w3 = width > 3 ? starts[at + 3] : 0;
    return bitsOf(position, bits, starts[at], w1, w2, w3);
  }

  private isZeroFrom(interval: number, position: number): boolean {
    const at = interval * this.width;
    let w = position >> 5;
    if (w >= this.width) return true;
    if (this.starts[at + w] << (position & 31) !== 0) return false;
    while (++w < this.width) if (this.starts[at + w] !== 0) return false;
    return true;
  }

  private commonBits(a: number, b: number): number {
    for (let w = 0; w < this.width; w++) {
      const difference = this.starts[a * this.width + w] ^ this.starts[b * this.width + w];
      if (difference !== 0) return 32 * w + Math.clz32(difference);
    }
    return 32 * this.width;
  }
}

/** Index bits for at least this many entries. */
function bitsFor(entries: number): number {
  return Math.max(BITS_LEAST, Math.ceil(Math.log2(entries)));
}

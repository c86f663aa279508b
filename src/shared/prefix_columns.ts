/**
 * Prefixes of one family with a number each, as columns of a few typed arrays: a million take 9 (IPv4) or 21 (IPv6) bytes each and are
 * nothing to the garbage collector.
 */
export class PrefixColumns {
  /** 1 or 4 words a prefix, masked to its length. */
  words: Int32Array;
  lengths: Uint8Array;
  values: Int32Array;
  count = 0;
  /** Words a prefix in `words`. */
  readonly wordsEach: 1 | 4;
  private readonly lengthMost: number;

  constructor(readonly family: 4 | 6) {
    this.wordsEach = family === 4 ? 1 : 4;
    this.lengthMost = 32 * this.wordsEach;
    this.words = new Int32Array(64 * this.wordsEach);
    this.lengths = new Uint8Array(64);
    this.values = new Int32Array(64);
  }

  /** Adds one; bits beyond its length are cleared. Throws RangeError for a length that the family does not have. */
  add(words: ArrayLike<number>, length: number, value: number): void {
    if (!(Number.isInteger(length) && length >= 0 && length <= this.lengthMost)) {
      throw new RangeError(`prefix length ${length} of an IPv${this.family} address`);
    }
    if (this.count === this.lengths.length) this.grow();
    const at = this.count * this.wordsEach;
    for (let w = 0; w < this.wordsEach; w++) this.words[at + w] = words[w] & highBits(length - 32 * w);
    this.lengths[this.count] = length;
    this.values[this.count++] = value;
  }

  private grow(): void {
    const larger = 2 * this.lengths.length;
    const words = new Int32Array(larger * this.wordsEach);
    words.set(this.words);
    this.words = words;
    const lengths = new Uint8Array(larger);
    lengths.set(this.lengths);
    this.lengths = lengths;
    const values = new Int32Array(larger);
    values.set(this.values);
    this.values = values;
  }
}

/** A word with its high `bits` bits set; none for 0 and less, all for 32 and more. */
function highBits(bits: number): number {
  // A shift by 32 is a shift by 0 in JavaScript.
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}

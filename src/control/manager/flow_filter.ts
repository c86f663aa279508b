import { FLOW_FILTER_SETS } from '../ebpf/flow_layout.js';

/** Words of the memory to a word of the filter, which has 64 bits. */
const HALVES = 2;

/**
 * flow_filter4 or flow_filter6 of bpf/maps.h, which the program asks before it looks at a set: two bits for each flow in a word that eight sets share, and in front of these words others that have a bit for
 * each that is not 0.
 *
 * A bit too many costs a look at the set; a flow whose bits are not there is not found, neither to be served nor to be voided by a SYN, FIN or RST. So bits are set before their flow is announced, and a word is
 * written anew only with those of all its flows that are neither void nor pushed out: no program can bring another back meanwhile. The halves of a word are written one after the other, and each has the bits
 * of these flows at all times.
 */
export class FlowFilter {
  /** Words of the memory in front of those that are the sets'. */
  private readonly top: number;
  private low = 0;
  private high = 0;

  /**
   * @param words of the map: all of it, zero at first
   * @throws RangeError unless it is that of so many sets
   */
  constructor(
    private readonly words: Int32Array,
    sets: number,
  ) {
    this.top = topWords(sets);
    const expected = filterWords(sets);
    if (words.length !== expected)
      throw new RangeError(`the filter of ${sets} sets has ${expected} words, not ${words.length}`);
  }

  /** Sets the bits of a flow of this hash in the word that belongs to its set. */
  add(set: number, hash: number): void {
    this.begin();
    this.collect(hash);
    const word = Math.floor(set / FLOW_FILTER_SETS);
    const at = this.top + word * HALVES;
    Atomics.or(this.words, at, this.low);
    Atomics.or(this.words, at + 1, this.high);
    Atomics.or(this.words, word >>> 5, 1 << word);
  }

  /** Before `collect` is given all flows of the sets of a word, and `store` writes it. */
  begin(): void {
    this.low = this.high = 0;
  }

  collect(hash: number): void {
    this.bit((hash >>> 1) & 63);
    this.bit((hash >>> 7) & 63);
  }

  private bit(number: number): void {
    if (number < 32) this.low |= 1 << number;
    else this.high |= 1 << number;
  }

  store(set: number): void {
    const word = Math.floor(set / FLOW_FILTER_SETS);
    const at = this.top + word * HALVES;
    if (this.low === 0 && this.high === 0) Atomics.and(this.words, word >>> 5, ~(1 << word));
    Atomics.store(this.words, at, this.low);
    Atomics.store(this.words, at + 1, this.high);
  }
}

/** Words of 32 bits that the filter of so many sets has. */
export function filterWords(sets: number): number {
  return topWords(sets) + Math.ceil(sets / FLOW_FILTER_SETS) * HALVES;
}

function topWords(sets: number): number {
  return Math.ceil(Math.ceil(sets / FLOW_FILTER_SETS) / 64) * HALVES;
}

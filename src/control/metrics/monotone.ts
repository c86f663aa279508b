/**
 * Keeps sums from the kernel going up: a BPF object that is loaded anew starts its map at zero, and so does an interface
 * that was deleted and came back.
 */
export class MonotoneCounts {
  private readonly counts = new Map<string, { base: number; last: number }>();

  /** What the key has counted in all, given its latest reading. */
  read(key: string, reading: number): number {
    let count = this.counts.get(key);
    if (count === undefined) {
      count = { base: 0, last: 0 };
      this.counts.set(key, count);
    }
    if (reading < count.last) count.base += count.last;
    count.last = reading;
    return count.base + reading;
  }
}

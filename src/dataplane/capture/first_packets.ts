/** Entries of a bucket: one cache line. */
const WAYS = 4;

/** A flow that was quiet for this long starts again. */
const QUIET_MS = 60_000;

const enum Entry {
  hash = 0,
  count = 1,
  lastMs = 2,
  SIZE = 4,
}

/**
 * How many packets of each flow there were, as far as it remembers: a bounded table by the flow's hash. When there are more flows than room, the one that
 * was quiet for longest is forgotten, and would start again.
 */
export class FirstPackets {
  private readonly words: Int32Array;
  private readonly mask: number;

  /** `flows`: room, a power of two of at least 4. */
  constructor(flows = 8192) {
    this.words = new Int32Array(flows * Entry.SIZE);
    this.mask = flows / WAYS - 1;
  }

  /** Counts a packet of the flow. True when it is among its first `most`. `nowMs`: monotonic, wrapping int32. */
  admit(hash: number, most: number, nowMs: number): boolean {
    const words = this.words;
    const bucket = Math.imul((hash ^ (hash >>> 15)) & this.mask, WAYS * Entry.SIZE);
    let oldest = bucket;
    let oldestAge = -1;
    for (let at = bucket; at < bucket + WAYS * Entry.SIZE; at += Entry.SIZE) {
      const count = words[at + Entry.count];
      // An empty entry is older than any that is in use.
      const age = count === 0 ? 0x7fffffff : (nowMs - words[at + Entry.lastMs]) | 0;
      if (count !== 0 && words[at + Entry.hash] === hash) {
        words[at + Entry.lastMs] = nowMs;
        if (age >= QUIET_MS) words[at + Entry.count] = 0;
        if (words[at + Entry.count] >= most) return false;
        words[at + Entry.count]++;
        return true;
      }
      if (age > oldestAge) {
        oldest = at;
        oldestAge = age;
      }
    }
    words[oldest + Entry.hash] = hash;
    words[oldest + Entry.count] = 1;
    words[oldest + Entry.lastMs] = nowMs;
    return true;
  }
}

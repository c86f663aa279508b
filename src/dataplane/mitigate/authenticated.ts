import { FlowHash } from '../balance/hash.js';

const enum Field {
  STRIDE = 4,
  STRIDE_SHIFT = 2,
  /** Key. */
  word0 = 0,
  word1 = 1,
  /** Clock in ms, wrapping int32. */
  expires = 2,
  /** kind << 24 | SYNs that may still pass; 0: nothing in this slot. */
  credit = 3,
}

/** Slots that are looked at for a key: two cache lines. */
const WINDOW = 8;
const CREDIT_MASK = 0xffffff;

/**
 * Who has answered a challenge: a bounded table, key to the number of SYNs that may pass, and until when. A key is two words and a
 * kind; what they mean is the caller's.
 *
 * Only a right answer gets in, so what is guessed or spoofed pushes nobody out. When a key's window is full, the one that
 * expires first gives way: it is challenged again, which costs its next connection a round trip.
 */
export class AuthenticatedTable {
  private readonly words: Int32Array;
  private readonly mask: number;
  private readonly hash: FlowHash;

  /** `slots`: a power of two, at least 8. `key`: four int32. `credit`: SYNs that an answer is good for, 1 to 2^24 − 1. */
  constructor(
    slots: number,
    key: readonly number[],
    private readonly lifetimeMs: number,
    private readonly credit: number,
  ) {
    if (slots < WINDOW || (slots & (slots - 1)) !== 0) {
      throw new RangeError(
        `a table of authenticated sources has a power of two of slots, at least ${WINDOW}, not ${slots}`,
      );
    }
    if (!(credit >= 1 && credit <= CREDIT_MASK)) {
      throw new RangeError(`an answered challenge is good for 1 to ${CREDIT_MASK} SYNs, not ${credit}`);
    }
    this.words = new Int32Array(slots << Field.STRIDE_SHIFT);
    this.mask = (this.words.length - 1) | 0;
    this.hash = new FlowHash(key);
  }

  /** Notes an answer, which also renews. `kind`: 1 to 127. */
  add(kind: number, word0: number, word1: number, nowMs: number): void {
    const words = this.words;
    const known = this.find(kind, word0, word1);
    const at = known >= 0 ? known : this.claim(this.home(kind, word0, word1), nowMs);
    words[at + Field.word0] = word0;
    words[at + Field.word1] = word1;
    words[at + Field.expires] = (nowMs + this.lifetimeMs) | 0;
    words[at + Field.credit] = (kind << 24) | this.credit;
  }

  /** Whether this key may send one more SYN, which is then taken off. */
  take(kind: number, word0: number, word1: number, nowMs: number): boolean {
    const at = this.find(kind, word0, word1);
    if (at < 0) return false;
    const words = this.words;
    if (this.left(at, nowMs) === 0) {
      words[at + Field.credit] = 0;
      return false;
    }
    const credit = words[at + Field.credit] - 1;
    words[at + Field.credit] = (credit & CREDIT_MASK) === 0 ? 0 : credit;
    return true;
  }

  /** Keys that are in the table and have not expired: looks at all of it. */
  count(nowMs: number): number {
    let live = 0;
    for (let at = 0; at <= this.mask; at += Field.STRIDE) {
      if (this.words[at + Field.credit] !== 0 && this.left(at, nowMs) > 0) live++;
    }
    return live;
  }

  private home(kind: number, word0: number, word1: number): number {
    return (this.hash.ipv4(word0, word1, 0, kind) << Field.STRIDE_SHIFT) & this.mask;
  }

  private find(kind: number, word0: number, word1: number): number {
    const words = this.words;
    let at = this.home(kind, word0, word1);
    for (let i = 0; i < WINDOW; i++) {
      if (
        words[at + Field.word0] === word0 &&
        words[at + Field.word1] === word1 &&
        words[at + Field.credit] >>> 24 === kind
      ) {
        return at;
      }
      at = (at + Field.STRIDE) & this.mask;
    }
    return -1;
  }

  /** An empty slot of the window, else one that expired, else the one that expires first. */
  private claim(home: number, nowMs: number): number {
    let chosen = home;
    let least = 0x7fffffff;
    let at = home;
    for (let i = 0; i < WINDOW && least > 0; i++) {
      const left = this.words[at + Field.credit] === 0 ? 0 : this.left(at, nowMs);
      if (left < least) {
        least = left;
        chosen = at;
      }
      at = (at + Field.STRIDE) & this.mask;
    }
    return chosen;
  }

  /** Time that the entry at `at` is still good for, ms, 0 when it has expired. More than a lifetime: the clock has gone round since. */
  private left(at: number, nowMs: number): number {
    const left = (this.words[at + Field.expires] - nowMs) | 0;
    return left > 0 && left <= this.lifetimeMs ? left : 0;
  }
}

/**
 * Spin locks in shared memory: one int32 word each, 0 when free, else the number of the worker that holds it plus one. Held for well
 * under a microsecond, so a waiter spins; when the holder was preempted it sleeps a little, because it may sit on the holder's CPU.
 *
 * A worker that is killed inside leaves its locks taken: `releaseLocks()` frees them, before its successor starts.
 */

/** Tries before the waiter starts to sleep. */
const SPINS = 200;

/** Short sleeps, for a holder that waits for this CPU, then long ones: 200 ms, more than a machine in distress keeps a thread from its CPU. */
const SHORT_NAPS = 40;
const SHORT_NAP_MS = 0.05;
const LONG_NAPS = 200;
const LONG_NAP_MS = 1;

/** Short sleeps for a holder that was waited for in vain before. */
const LOST_NAPS = 2;

/** Whom this thread waited for in vain: it is not waited for so long again, until it lets go of a lock. */
let lost = 0;

/**
 * Takes the lock at `word` for `owner` (a worker's number plus one). False: somebody has held it for 200 ms, which only a dead or
 * stopped worker does; the caller goes on without what the lock protects.
 */
export function acquire(words: Int32Array, word: number, owner: number): boolean {
  for (let i = 0; i < SPINS; i++) if (Atomics.compareExchange(words, word, 0, owner) === 0) return true;
  return waitFor(words, word, owner);
}

function waitFor(words: Int32Array, word: number, owner: number): boolean {
  let holder = 0;
  for (let i = 0; i < SHORT_NAPS + LONG_NAPS; i++) {
    const now = Atomics.compareExchange(words, word, 0, owner);
    if (now === 0) {
      if (holder === lost) lost = 0;
      return true;
    }
    holder = now;
    if (holder === lost && i >= LOST_NAPS) return false;
    Atomics.wait(words, word, holder, i < SHORT_NAPS ? SHORT_NAP_MS : LONG_NAP_MS);
  }
  lost = holder;
  return false;
}

export function release(words: Int32Array, word: number): void {
  Atomics.store(words, word, 0);
}

/** Frees the locks of `owner` among `count` words from `first`, `stride` apart. Returns how many. Only for an owner that is gone. */
export function releaseLocks(words: Int32Array, owner: number, first: number, stride: number, count: number): number {
  let freed = 0;
  for (let i = 0, at = first; i < count; i++, at += stride) {
    if (Atomics.compareExchange(words, at, owner, 0) === owner) freed++;
  }
  return freed;
}

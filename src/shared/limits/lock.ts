/**
 * Spin locks in shared memory: one int32 word each, 0 when free, else the number of the worker that holds it plus one. Held for well
 * under a microsecond, so a waiter spins; when the holder was preempted it sleeps a little, because it may sit on the holder's CPU.
 *
 * A worker that is killed inside leaves its locks taken: `releaseLocks()` frees them, before its successor starts.
 */

/** Tries before the waiter starts to sleep. */
const SPINS = 200;

/** One sleep, ms. */
const NAP_MS = 0.05;

/** Sleeps before it gives up: about 20 ms, longer than any time slice. */
const NAPS = 200;

/**
 * Takes the lock at `word` for `owner` (a worker's number plus one). False: somebody has held it for some 20 ms, which only a dead or
 * stopped worker does; the caller goes on without what the lock protects.
 */
export function acquire(words: Int32Array, word: number, owner: number): boolean {
  for (let i = 0; i < SPINS; i++) if (Atomics.compareExchange(words, word, 0, owner) === 0) return true;
  for (let i = 0; i < NAPS; i++) {
    const holder = Atomics.compareExchange(words, word, 0, owner);
    if (holder === 0) return true;
    Atomics.wait(words, word, holder, NAP_MS);
  }
  return Atomics.compareExchange(words, word, 0, owner) === 0;
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

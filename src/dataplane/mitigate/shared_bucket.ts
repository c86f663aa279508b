import { acquire, release } from '../../shared/limits/lock.js';
import { BucketWord, type BucketShared } from '../../shared/limits/shared_bucket.js';

/** A clock this far back, ms, has wrapped while nobody called; less is another worker's burst that began a little later. */
const SKEW_MS = 60_000;

/** A worker's hand in the token bucket that all workers share (spec and bound: src/shared/limits/shared_bucket.ts). */
export class SharedBucket {
  /** Tokens drawn and not spent. */
  private held = 0;
  private readonly words: Int32Array;
  private readonly floats: Float64Array;
  private readonly shared: BucketShared;
  private readonly owner: number;
  private readonly alone: boolean;
  /** What the bucket did not have last, 0: nothing, and when: until the next tick there is no use in asking for as much. */
  private short = 0;
  private shortMs = 0;

  /** `worker`: this worker's number, 0 to `workers` - 1. */
  constructor(shared: BucketShared, worker: number, workers: number) {
    this.shared = shared;
    this.words = new Int32Array(shared.bucket);
    this.floats = new Float64Array(shared.bucket);
    this.owner = worker + 1;
    this.alone = workers === 1;
  }

  /** Takes a packet's tokens: one, or its `length` in bytes when the rate counts bytes. `nowMs`: monotonic, wrapping int32. */
  take(length: number, nowMs: number): boolean {
    const cost = this.shared.bytes ? length : 1;
    if (this.held < cost) this.draw(cost, nowMs);
    if (this.held < cost) return false;
    this.held -= cost;
    return true;
  }

  /** Gets what is missing for `cost`, and a little more when there is more. */
  private draw(cost: number, nowMs: number): void {
    const missing = cost - this.held;
    if (this.short !== 0 && missing >= this.short && this.shortMs === nowMs) return;
    const { words, floats, shared } = this;
    if (!this.alone && !acquire(words, BucketWord.lock, this.owner)) {
      // Only a dead worker holds it so long: the limit is not worth the packet.
      this.held = cost;
      return;
    }
    const at = BucketWord.tokens / 2;
    let tokens = floats[at];
    if (words[BucketWord.started] === 0) {
      words[BucketWord.started] = 1;
      words[BucketWord.lastMs] = nowMs;
    }
    const elapsed = (nowMs - words[BucketWord.lastMs]) | 0;
    if (elapsed > 0) tokens += elapsed * shared.perMs;
    else if (elapsed < -SKEW_MS) tokens = shared.burst;
    if (elapsed > 0 || elapsed < -SKEW_MS) words[BucketWord.lastMs] = nowMs;
    if (tokens > shared.burst) tokens = shared.burst;
    const wanted = missing > shared.draw ? missing : shared.draw;
    const got = tokens < wanted ? tokens : wanted;
    if (got < missing) {
      // A part of a packet's tokens may be enough for another worker's packet: it is left where it is.
      this.short = missing;
      this.shortMs = nowMs;
    } else {
      this.short = 0;
      this.held += got;
      tokens -= got;
    }
    floats[at] = tokens;
    if (!this.alone) release(words, BucketWord.lock);
  }
}

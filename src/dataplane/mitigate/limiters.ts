/** Limits on rates as rules ask them. */
import type { LimitSpec } from '../../shared/layout.js';
import type { BucketShared } from '../../shared/limits/shared_bucket.js';
import type { Limiter } from '../filter/rule_parts.js';
import type { Packet } from '../packet/packet.js';
import { HashLimit } from './hash_limit.js';
import { LimitVerdict } from './limit_verdict.js';
import { SharedBucket } from './shared_bucket.js';

/** One rate for all packets. */
class BucketLimiter implements Limiter {
  private readonly bucket: SharedBucket;

  constructor(shared: BucketShared, worker: number, workers: number) {
    this.bucket = new SharedBucket(shared, worker, workers);
  }

  judge(packet: Packet, nowMs: number): number {
    return this.bucket.take(packet.l3Length, nowMs) ? LimitVerdict.within : LimitVerdict.above;
  }
}

/** A worker's limits by id: those that were there stay. */
export class LimiterShelf {
  private held: ReadonlyMap<number, BucketLimiter | HashLimit> = new Map();
  /** Those of `held` that have tables. */
  private hashed: readonly HashLimit[] = [];
  /** What those counted that are gone. */
  private gone = 0;

  /** Packets that found a table full. Asked for all the time, so without an iterator, which is an object. */
  get tableFull(): number {
    const { hashed } = this;
    let sum = this.gone;
    for (let i = 0; i < hashed.length; i++) sum += hashed[i].hotDropped;
    return sum;
  }

  /** The limiters of these lists, in their order; lets go of all others. `worker`: 0 to `workers` - 1. */
  load(lists: readonly (readonly LimitSpec[])[], worker: number, workers: number): Limiter[][] {
    const held = new Map<number, BucketLimiter | HashLimit>();
    const loaded = lists.map((list) =>
      list.map((spec) => {
        const limiter = this.held.get(spec.id) ?? make(spec, worker, workers);
        held.set(spec.id, limiter);
        return limiter;
      }),
    );
    for (const [id, limiter] of this.held) if (!held.has(id)) this.gone += fullOf(limiter);
    this.held = held;
    this.hashed = [...held.values()].filter((limiter) => limiter instanceof HashLimit);
    return loaded;
  }
}

function make(spec: LimitSpec, worker: number, workers: number): BucketLimiter | HashLimit {
  return spec.kind === 'hash'
    ? new HashLimit(spec.shared, worker, workers)
    : new BucketLimiter(spec.shared, worker, workers);
}

function fullOf(limiter: BucketLimiter | HashLimit): number {
  return limiter instanceof HashLimit ? limiter.hotDropped : 0;
}

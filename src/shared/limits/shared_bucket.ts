/**
 * One token bucket for all workers. Each worker draws tokens ahead, a share of a millisecond's worth, so that most packets touch nothing
 * shared; what it holds it spends before it draws again. The total over any time is at most rate · time + burst, and less by at most what the workers
 * hold when nobody stays below the rate.
 */
import { SluiceError } from '../../errors.js';
import type { Rate } from './rate.js';

export interface BucketSpec {
  rate: Rate;
  /** Packets or bytes that may come at once. Default: a tenth of a second's, at least one packet or 64 KiB. */
  burst?: number;
}

/** A bucket is one cache line. Float64 fields at index / 2. */
export const enum BucketWord {
  SIZE = 16,
  lock = 0,
  /** 0 until the first worker has set the clock. */
  started = 1,
  /** When tokens were added last, ms. */
  lastMs = 2,
  /** Tokens, float64. */
  tokens = 4,
}

export interface BucketShared {
  /** Tokens a millisecond, most tokens, and what a worker draws at a time. */
  perMs: number;
  burst: number;
  draw: number;
  bytes: boolean;
  /** The rate as it was given: tokens in so many seconds. */
  amount: number;
  seconds: number;
  bucket: SharedArrayBuffer;
}

/** Part of a second's tokens that all workers together may hold. */
const HELD_PART = 1 / 1000;

/** Makes a full bucket for that many workers. Throws SluiceError when the spec cannot be met. */
export function allocateBucket(spec: BucketSpec, workers: number): BucketShared {
  const { amount, seconds, unit } = spec.rate;
  const bytes = unit === 'bytes';
  const perSecond = amount / seconds;
  const burst = spec.burst ?? Math.max(perSecond / 10, bytes ? 65536 : 1);
  if (!(burst >= 1) || burst > 2 ** 40) {
    throw new SluiceError('SLUICE_CONFIG', `a token bucket cannot have a burst of ${burst}`, 'It is at least 1.');
  }
  const bucket = new SharedArrayBuffer(BucketWord.SIZE * Int32Array.BYTES_PER_ELEMENT);
  new Float64Array(bucket)[BucketWord.tokens / 2] = burst;
  return { perMs: perSecond / 1000, burst, draw: (perSecond * HELD_PART) / workers, bytes, amount, seconds, bucket };
}

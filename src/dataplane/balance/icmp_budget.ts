import { Counter } from '../../shared/layout.js';
import { TokenBucket } from './token_bucket.js';

/** The ICMP messages that a worker may make a second: errors and echo replies together. */
export class IcmpBudget {
  private readonly bucket: TokenBucket;

  constructor(
    perSecond: number,
    private readonly counters: Float64Array,
  ) {
    this.bucket = new TokenBucket(perSecond);
  }

  setRate(perSecond: number): void {
    this.bucket.setRate(perSecond);
  }

  /** One message's worth. False, and counted, when there is none left. */
  take(nowMs: number): boolean {
    if (this.bucket.take(nowMs)) return true;
    this.counters[Counter.icmpLimited]++;
    return false;
  }
}

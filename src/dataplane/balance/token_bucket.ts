/** Share of a second's messages that may come at once: 1 / BURST. */
const BURST = 10;

/** Longest time that adds credit, ms: long enough to fill the bucket, and no product leaves int32. */
const MAX_ELAPSED_MS = 1000;

/**
 * How many messages a worker may make a second. Credit grows with the burst's clock, in thousandths of a message; a tenth of a second's
 * messages, at least one, may come at once. So no second sees more than 1.1 times the rate, and the same calls give the same answers.
 */
export class TokenBucket {
  private perSecond = 0;
  private credit = 0;
  private full = 0;
  private lastMs = 0;
  private started = false;

  /** `perSecond`: 0 to 1,000,000; 0 admits nothing. */
  constructor(perSecond: number) {
    this.setRate(perSecond);
  }

  /** A bucket whose rate changes starts full. */
  setRate(perSecond: number): void {
    if (perSecond === this.perSecond) return;
    this.perSecond = perSecond | 0;
    this.full = perSecond === 0 ? 0 : Math.max(1, Math.floor(perSecond / BURST)) * 1000;
    this.credit = this.full;
  }

  /** Takes one message's credit. `nowMs`: monotonic, wrapping int32. */
  take(nowMs: number): boolean {
    if (!this.started) {
      this.started = true;
      this.lastMs = nowMs;
    }
    const elapsed = (nowMs - this.lastMs) | 0;
    if (elapsed !== 0) {
      this.lastMs = nowMs;
      // A clock that went back gives nothing.
      const counted = elapsed < 0 ? 0 : elapsed > MAX_ELAPSED_MS ? MAX_ELAPSED_MS : elapsed;
      const credit = (this.credit + Math.imul(counted, this.perSecond)) | 0;
      this.credit = credit > this.full ? this.full : credit;
    }
    if (this.credit < 1000) return false;
    this.credit = (this.credit - 1000) | 0;
    return true;
  }
}

import { SetClockWord } from './tables.js';

/**
 * Seconds that do not wrap from the burst's milliseconds, which do (int32, after 49 days): timeouts of sets go up to 2,147,483 s. Writer and workers begin from
 * one pair (seconds, milliseconds) of the same monotonic clock and agree from then on.
 *
 * `advance` must be called at least once in 24 days. Seconds stay below 2^30, 34 years of uptime.
 */
export class SecondsClock {
  private lastMs: number;

  /** `nowMs`, the wrapping milliseconds, of the moment when it was `seconds`. */
  constructor(
    private seconds: number,
    nowMs: number,
  ) {
    this.lastMs = nowMs | 0;
  }

  /** The second at `nowMs`. Once a burst. Earlier than before is taken for now. */
  advance(nowMs: number): number {
    const passed = (nowMs - this.lastMs) | 0;
    if (passed >= 1000) {
      const whole = (passed / 1000) | 0;
      this.seconds = (this.seconds + whole) | 0;
      this.lastMs = (this.lastMs + whole * 1000) | 0;
    }
    return this.seconds;
  }
}

/** A clock that goes on from the words of Tables.setClock. */
export function clockFrom(words: Int32Array): SecondsClock {
  const seconds = words[SetClockWord.seconds];
  return new SecondsClock(seconds, (words[SetClockWord.zeroMs] + Math.imul(seconds, 1000)) | 0);
}

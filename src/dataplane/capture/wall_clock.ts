/** Further apart than this, and somebody has set the clock. ms; Date.now() has a resolution of 1. */
const TOLERANCE_MS = 2;

/**
 * Unix time with the resolution of the monotonic clock, some 0.3 µs. Follows the system's clock when that is set. Read it once a burst: two clocks, some
 * 80 ns.
 */
export class WallClock {
  seconds = 0;
  nanoseconds = 0;
  private offsetMs = performance.timeOrigin;

  /** Sets `seconds` and `nanoseconds` to now. */
  read(): void {
    const monotonicMs = performance.now();
    const wallMs = Date.now();
    let nowMs = this.offsetMs + monotonicMs;
    if (nowMs - wallMs > TOLERANCE_MS || wallMs - nowMs > TOLERANCE_MS) {
      this.offsetMs = wallMs - monotonicMs;
      nowMs = wallMs;
    }
    const seconds = Math.floor(nowMs / 1000);
    this.seconds = seconds | 0;
    this.nanoseconds = Math.floor((nowMs - seconds * 1000) * 1e6) | 0;
  }
}

import type { FlapConfig } from '../../shared/health_config.js';

/**
 * Flap dampening in the manner of RFC 2439 §4: each time down adds 1 to a penalty that halves in every half-life. At
 * `suppress` the backend is held, and let go when the penalty has decayed to `reuse`. A ceiling bounds the time that it is held.
 */
export class FlapDampener {
  /** As of `atMs`. */
  private penalty = 0;
  private atMs = 0;
  private suppressed = false;

  constructor(private config: FlapConfig | null) {}

  /** It went down. Times are of a monotonic clock, ms, and never go back. */
  down(nowMs: number): void {
    if (this.config === null) return;
    const { suppress, reuse, maxHoldMs, halfLifeMs } = this.config;
    const ceiling = reuse * 2 ** (maxHoldMs / halfLifeMs);
    this.penalty = Math.min(this.penaltyAt(nowMs) + 1, ceiling);
    this.atMs = nowMs;
    if (this.penalty >= suppress) this.suppressed = true;
  }

  held(nowMs: number): boolean {
    if (this.suppressed && (this.config === null || this.penaltyAt(nowMs) <= this.config.reuse))
      this.suppressed = false;
    return this.suppressed;
  }

  penaltyAt(nowMs: number): number {
    if (this.config === null) return 0;
    return this.penalty * 2 ** (-(nowMs - this.atMs) / this.config.halfLifeMs);
  }

  /** Goes on with another configuration and the penalty as it is now. */
  retune(config: FlapConfig | null, nowMs: number): void {
    this.penalty = this.penaltyAt(nowMs);
    this.atMs = nowMs;
    this.config = config;
  }
}

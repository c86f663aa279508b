import { WINDOW_MS } from '../../shared/limits/fair_share.js';

const PER_WINDOW = 1000 / WINDOW_MS;
const PER_MS = 1 / WINDOW_MS;

/** Time between two readings of the burst's clock, ms, which wraps as int32 does. Fractions are kept, so that a finer clock may be used. */
export function since(nowMs: number, thenMs: number): number {
  const elapsed = nowMs - thenMs;
  return elapsed < -2147483648 ? elapsed + 4294967296 : elapsed;
}

/**
 * A rate (units a second) after `weight` units have come, `elapsed` ms after the last: a · (weight / elapsed) + (1 - a) · rate, with
 * a = elapsed / window. That is weight / window + (1 - a) · rate, which also holds for packets of one tick of the clock.
 *
 * `firstInterval`: a rate that starts is taken from the first interval, as rakelimit does; else it grows with what comes in the window.
 */
export function nextRate(rate: number, elapsed: number, weight: number, firstInterval: boolean): number {
  if (elapsed >= WINDOW_MS) return firstInterval ? 0 : weight * PER_WINDOW;
  if (elapsed <= 0) return rate + weight * PER_WINDOW;
  if (firstInterval && rate === 0) return (weight * 1000) / elapsed;
  return weight * PER_WINDOW + (1 - elapsed * PER_MS) * rate;
}

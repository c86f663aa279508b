import type { HealthConfig } from '../../shared/health_config.js';
import type { BackendHealth } from './backend_health.js';

/** What is needed to know of a backend to decide whether it is used. */
export type Judged = Pick<BackendHealth, 'key' | 'up' | 'held' | 'sinceMs'>;

/** `why` says which rule gave the set. */
export interface Usable {
  keys: Set<string>;
  why: 'up' | 'held' | 'kept' | 'none';
}

/**
 * Which of a service's backends take traffic. The rules, in order; the first that gives any backend counts:
 *
 * 1. `up`: those that are up (or not known yet) and not held.
 * 2. `held`: those that are up but held. Dampening never takes the last backends away.
 * 3. `kept`, with `keep_last`: those that went down last, together. "Together" is within one detection time of the last one:
 *    what takes all backends from this node's sight at once (its own link, a switch, the checker) is seen at each within that time,
 *    while a backend that died earlier for itself does not come back.
 * 4. `none`: with `drop`, or when there was nothing to choose from.
 *
 * @param backends those that would take traffic if they were well: active, with a weight
 */
export function applyHealth(
  backends: readonly Judged[],
  config: Pick<HealthConfig, 'allDown' | 'fall' | 'intervalMs' | 'timeoutMs' | 'jitter'>,
): Usable {
  const alive = backends.filter(({ up }) => up !== false);
  const steady = alive.filter(({ held }) => !held);
  if (steady.length > 0) return { keys: keysOf(steady), why: 'up' };
  if (alive.length > 0) return { keys: keysOf(alive), why: 'held' };
  if (config.allDown === 'drop' || backends.length === 0) return { keys: new Set(), why: 'none' };
  const last = backends.reduce((latest, { sinceMs }) => Math.max(latest, sinceMs), -Infinity);
  const together = last - detectionMs(config);
  return { keys: keysOf(backends.filter(({ sinceMs }) => sinceMs >= together)), why: 'kept' };
}

/** Longest time from a backend's death to its going down: `fall` checks, the last of which runs into its timeout. */
export function detectionMs(config: Pick<HealthConfig, 'fall' | 'intervalMs' | 'timeoutMs' | 'jitter'>): number {
  return config.fall * Math.max(config.intervalMs * (1 + config.jitter), config.timeoutMs) + config.timeoutMs;
}

function keysOf(backends: readonly Judged[]): Set<string> {
  return new Set(backends.map(({ key }) => key));
}

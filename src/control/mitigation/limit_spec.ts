/** From a rate of the configuration to what hashlimit and the shared token bucket want. */
import type { RuleLimitConfig } from '../../shared/config.js';
import { HashLimitMode, runOf, type HashLimitSpec } from '../../shared/limits/hash_limit.js';
import { allocateBucket, type BucketSpec } from '../../shared/limits/shared_bucket.js';

const MODES = {
  src: HashLimitMode.srcip,
  dst: HashLimitMode.dstip,
  sport: HashLimitMode.srcport,
  dport: HashLimitMode.dstport,
} as const;

const DEFAULT_MAX = 65536;

/** One rate for each key, or with no `per` one for all packets. */
export type LimitWanted = { kind: 'hash'; spec: HashLimitSpec } | { kind: 'bucket'; spec: BucketSpec };

export function limitSpecOf(limit: RuleLimitConfig): LimitWanted {
  const { rate, burst, per, max = DEFAULT_MAX, ...masks } = limit;
  if (per.length === 0) return { kind: 'bucket', spec: { rate, burst } };
  const mode = per.reduce((bits, part) => bits | MODES[part], 0);
  return { kind: 'hash', spec: { rate, burst, mode, direction: 'above', htableSize: 1, htableMax: max, ...masks } };
}

/** Throws SluiceError SLUICE_CONFIG for what cannot be kept. */
export function checkLimit(wanted: LimitWanted): void {
  if (wanted.kind === 'hash') runOf(wanted.spec);
  else allocateBucket(wanted.spec, 1);
}

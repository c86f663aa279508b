/** How a rate is written, and what it counts: in rules with action limit and in mitigation.limits alike. */
import { z } from 'zod';
import { SluiceError } from '../../errors.js';
import type { RuleLimitConfig } from '../../shared/config.js';
import { parseByteCount, parseRate, type Rate } from '../../shared/limits/rate.js';
import { show } from './problem.js';
import * as s from './scalars.js';
import { filled, listOf, required } from './schema_parts.js';

function refusing<T>(raw: unknown, read: (text: string) => T): T {
  try {
    if (typeof raw === 'number' || typeof raw === 'string') return read(String(raw).replaceAll(' ', ''));
  } catch (error) {
    if (error instanceof SluiceError) throw new s.Refusal(error.message, error.remedy);
    throw error;
  }
  throw new s.Refusal(`${show(raw)} is not a rate`, 'Write packets as 100/s, bytes as 10mb/s.');
}

/** Packets as `100/s`, `10/minute` or a number a second; bytes as `1000b/s`, `512kb/s`, `10mb/s`. */
export const rate = s.value((raw): Rate => refusing(raw, parseRate));

/** The same, or `off`, which is null. */
export const rateOrOff = s.value((raw): Rate | null =>
  raw === 'off' || raw === false ? null : refusing(raw, parseRate),
);

/** Packets a second, as a number or with its unit: `5000/s`. */
export const perSecond = s.value((raw): number => {
  const { unit, amount, seconds } = refusing(raw, parseRate);
  if (unit === 'packets' && seconds === 1 && amount <= 100_000_000) return amount;
  throw new s.Refusal(`${show(raw)} is not a number a second up to 100000000`, 'Write it as 5000/s.');
});

/** Packets, or bytes as `64kb`. */
const burst = s.value((raw): number => refusing(raw, parseByteCount));

/** What has a rate of its own, how addresses are cut, and how much is remembered. */
export const limitKeys = filled({
  rate: required(rate, '100/s'),
  burst: burst.optional(),
  per: listOf(z.enum(['src', 'dst', 'sport', 'dport'])).prefault(['src']),
  src_mask: s.integer(0, 32).optional(),
  src_mask6: s.integer(0, 128).optional(),
  dst_mask: s.integer(0, 32).optional(),
  dst_mask6: s.integer(0, 128).optional(),
  max: s.integer(1, 1 << 22).optional(),
});

export const limitSchema = z.strictObject(limitKeys);

export type RawLimit = z.output<typeof limitSchema>;

/** What has its usual value is left out. */
export function normaliseLimit(raw: RawLimit): RuleLimitConfig {
  const limit: RuleLimitConfig = {
    rate: raw.rate,
    burst: raw.burst,
    per: [...new Set(raw.per)],
    srcMask4: raw.src_mask,
    srcMask6: raw.src_mask6,
    dstMask4: raw.dst_mask,
    dstMask6: raw.dst_mask6,
    max: raw.max,
  };
  for (const key of Object.keys(limit) as (keyof RuleLimitConfig)[]) if (limit[key] === undefined) delete limit[key];
  return limit;
}

/** The part of the schema that says what is done about floods. */
import { z } from 'zod';
import type { Prefix } from '../../shared/config.js';
import * as s from './scalars.js';
import { limitKeys, perSecond, rateOrOff } from './schema_limit.js';
import { filled, listOf, required } from './schema_parts.js';
import { matchSchema, type RecoveredRule } from './schema_rules.js';
import { readSetName } from './schema_sets.js';

const challengeSchema = z.strictObject(
  filled({
    mode: z.enum(['off', 'auto', 'always']).default('off'),
    above: perSecond.prefault('2000/s'),
    below: perSecond.prefault('500/s'),
    hold: s.duration.default(10),
    scope: z.enum(['source', 'connection']).default('source'),
    connections: s.integer(1, 0xffffff).default(16),
    lifetime: s.duration.default(60),
    sources: s.powerOfTwo(8, 1 << 24).default(65536),
    max_per_second: perSecond.prefault('1000000/s'),
  }),
);

const tcpStateSchema = z.strictObject(
  filled({
    mode: z.enum(['off', 'monitor', 'mitigate']).default('off'),
    // An entry takes 64 bytes: 2^24 of them are 1 GiB a worker.
    connections: s.powerOfTwo(32, 1 << 24).default(1_048_576),
    adopt: z.enum(['learning', 'always', 'never']).default('learning'),
    learn: s.duration.default(900),
    window: s.integer(1 << 17, 1 << 30).default(1 << 30),
    timeouts: z
      .strictObject(
        filled({
          fresh: s.duration.default(90),
          open: s.duration.default(10_800),
          closing: s.duration.default(600),
          closed: s.duration.default(10),
        }),
      )
      .prefault({}),
  }),
);

const fairShareSchema = z.strictObject(
  filled({
    rate: rateOrOff.prefault('off'),
    share: z.enum(['fair', 'fixed']).default('fair'),
    prefixes4: listOf(s.integer(1, 31)).prefault([24]),
    prefixes6: listOf(s.integer(1, 127)).prefault([64, 48]),
    columns: s.powerOfTwo(64, 65536).default(512),
  }),
);

/** With `rate`, or with `connections`: check_mitigation.ts. */
const limitEntrySchema = z.strictObject(
  filled({
    name: required(s.name, 'dns-per-source'),
    match: matchSchema.optional(),
    ...limitKeys,
    rate: limitKeys.rate.optional(),
    connections: s.integer(1, 0x7fffffff).optional(),
  }),
);

/** What stands before the name of a set in the allow list. */
const SET_PREFIX = 'set:';

/** "192.0.2.0/24", or "set:partners". */
const allowEntry = s.value((raw): Prefix | { set: string } => {
  if (typeof raw !== 'string' || !raw.startsWith(SET_PREFIX)) return s.readPrefix(raw);
  return { set: readSetName(raw.slice(SET_PREFIX.length).trim()) };
});

export const allowSchema = listOf(allowEntry);

export const mitigationSchema = z.strictObject(
  filled({
    challenge: challengeSchema.prefault({}),
    tcp_state: tcpStateSchema.prefault({}),
    fair_share: fairShareSchema.prefault({}),
    limits: z.array(limitEntrySchema).prefault([]),
  }),
);

export type RawMitigation = z.output<typeof mitigationSchema>;
export type RawLimitEntry = z.output<typeof limitEntrySchema>;

/** What could be read of it. */
export interface RecoveredMitigation {
  challenge?: Partial<RawMitigation['challenge']>;
  tcp_state?: Partial<RawMitigation['tcp_state']>;
  fair_share?: Partial<RawMitigation['fair_share']>;
  limits?: (
    (Partial<Omit<RawLimitEntry, 'match' | 'per'>> & Pick<RecoveredRule, 'match'> & { per?: unknown[] }) | undefined
  )[];
}

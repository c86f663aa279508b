/** How packets travel to backends: the same keys for all services and for one. */
import { z } from 'zod';
import * as s from './scalars.js';
import { listOf, short } from './schema_parts.js';

/** Nothing has a default here: what a service leaves out is the whole configuration's, and what that leaves out is DEFAULT_ENCAPSULATION. */
export const encapsulationSchema = short(
  (raw) => (typeof raw === 'string' ? { kind: raw } : raw),
  z.strictObject({
    kind: z.enum(['ipip', 'gue', 'l2']).optional(),
    source: listOf(s.prefix).optional(),
    gue: z
      .strictObject({
        port: s.integer(1, 65535).optional(),
        variant: s.integer(0, 1).optional(),
        checksum: z.enum(['zero', 'computed']).optional(),
      })
      .optional(),
  }),
);

export type RawEncapsulation = z.output<typeof encapsulationSchema>;

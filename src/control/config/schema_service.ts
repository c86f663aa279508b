/** Keys of a service. */
import { z } from 'zod';
import { HASH_FIELDS } from '../../shared/config.js';
import { MAX_HOPS } from '../../shared/layout.js';
import * as s from './scalars.js';
import { encapsulationSchema } from './schema_encap.js';
import { healthSchema } from './schema_health.js';
import { listOf, required, short } from './schema_parts.js';
import * as v from './schema_values.js';

/** `quic: katran`, or `quic: {quic_lb: [...]}` with one entry for each config rotation. */
const quicSchema = short(
  (raw) => (raw === 'katran' ? { katran: true } : raw),
  z.strictObject({
    katran: z.literal(true).optional(),
    quic_lb: z
      .array(
        z.strictObject({
          rotation: s.integer(0, 6).default(0),
          server_id_length: required(s.integer(1, 15), '4'),
          nonce_length: required(s.integer(4, 18), '6'),
          key: v.hexKey.optional(),
        }),
      )
      .optional(),
  }),
);

const backendSchema = short(
  (raw) => (typeof raw === 'string' ? { address: raw } : raw),
  z.strictObject({
    address: required(s.hostAddress, '10.0.0.11'),
    weight: s.integer(0, 65535).default(1),
    state: z.enum(['active', 'draining', 'inactive']).default('active'),
    server_ids: listOf(v.serverId).prefault([]),
  }),
);

export const serviceSchema = z.strictObject({
  name: required(s.name, 'web'),
  vip: required(s.prefix, '198.51.100.10'),
  port: listOf(s.portEntry).optional(),
  protocol: listOf(s.protocolOrAny).prefault('tcp'),
  ring_size: s.prime(251, 655_373).default(65_537),
  flow_table: z.boolean().default(true),
  backends: z.array(backendSchema).prefault([]),
  encapsulation: encapsulationSchema.optional(),
  hash: z.enum(['sluice', 'katran', 'katran-v2', 'glb']).default('sluice'),
  hash_fields: listOf(z.enum(HASH_FIELDS)).optional(),
  glb: z
    .strictObject({
      hash_key: required(v.hexKey, 'openssl rand -hex 16'),
      seed: required(v.hexKey, 'openssl rand -hex 16'),
    })
    .optional(),
  hops: s.integer(1, MAX_HOPS).default(1),
  flood: z
    .strictObject({
      max_new_per_second: s.integer(0, 0x7fffffff).default(0),
      above: z.enum(['bypass', 'drop']).default('bypass'),
    })
    .prefault({}),
  drain: z
    .strictObject({
      timeout: s.durationOrOff.prefault('off'),
      udp: z.enum(['keep', 'move']).default('keep'),
    })
    .prefault({}),
  health: healthSchema.optional(),
  quic: quicSchema.optional(),
  tcp_server_id: z.boolean().default(false),
  stable_udp: z.boolean().default(false),
  source_routes: v.sourceRoutes.optional(),
  mss_clamp: v.mssClamp.prefault('off'),
});

export type RawService = z.output<typeof serviceSchema>;
export type RawBackend = z.output<typeof backendSchema>;

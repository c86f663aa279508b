/** The `health:` key of a service. Which keys go with which type of check is in check_health.ts. */
import { z } from 'zod';
import { HEALTH_TYPES, type HealthConfig, type HealthType } from '../../shared/health_config.js';
import * as h from './health_values.js';
import * as s from './scalars.js';
import { listOf, short } from './schema_parts.js';

const flapSchema = short(
  (raw) => (raw === false || raw === 'off' ? { half_life: 'off' } : raw),
  z.strictObject({
    half_life: s.durationOrOff.prefault('60s'),
    suppress: h.penalty.default(4),
    reuse: h.penalty.default(1),
    max_hold: s.duration.prefault('5m'),
  }),
);

/** `health: tcp` is short for `health: {type: tcp}`; without a type, the other keys tell it (healthTypeOf). */
export const healthSchema = short(
  (raw) => (typeof raw === 'string' ? { type: raw } : raw),
  z.strictObject({
    type: z.enum(HEALTH_TYPES).optional(),
    port: s.integer(1, 65535).optional(),
    interval: s.duration.prefault('2s'),
    timeout: s.duration.prefault('1s'),
    rise: s.integer(1, 255).default(2),
    fall: s.integer(1, 255).default(3),
    jitter: h.percent(50).prefault('10%'),
    through: z.enum(['direct', 'tunnel']).default('direct'),
    all_down: z.enum(['keep_last', 'drop']).default('keep_last'),
    flap: flapSchema.prefault({}),
    path: h.httpPath.optional(),
    method: z.enum(['GET', 'HEAD', 'OPTIONS', 'POST']).optional(),
    host: h.httpHost.optional(),
    status: listOf(h.statusRange).optional(),
    body: h.bodyMatch.optional(),
    tls: z
      .strictObject({
        verify: z.boolean().default(true),
        server_name: h.hostName.optional(),
      })
      .optional(),
    request: h.payload.optional(),
    expect: h.payload.optional(),
    name: h.dnsName.optional(),
    record: h.recordType.optional(),
    rcode: h.responseCode.optional(),
    answer: h.shortText.optional(),
  }),
);

export type RawHealth = z.output<typeof healthSchema>;
export type HealthKey = keyof RawHealth;

/** Keys that belong to some types only. */
export const TYPES_OF_KEY: Partial<Record<HealthKey, readonly HealthType[]>> = {
  path: ['http', 'https'],
  method: ['http', 'https'],
  host: ['http', 'https'],
  status: ['http', 'https'],
  body: ['http', 'https'],
  tls: ['https'],
  request: ['udp'],
  expect: ['udp'],
  name: ['dns'],
  record: ['dns'],
  rcode: ['dns'],
  answer: ['dns'],
};

/** The type that is written, or the one that the other keys belong to: `{path: /health}` is http, `{}` is tcp. */
export function healthTypeOf(raw: Partial<RawHealth>): HealthType {
  if (raw.type !== undefined) return raw.type;
  if (raw.tls !== undefined) return 'https';
  for (const [key, types] of Object.entries(TYPES_OF_KEY)) if (raw[key as HealthKey] !== undefined) return types[0];
  return 'tcp';
}

/** A `health:` that has passed checkHealth. */
export function normaliseHealth(raw: RawHealth): HealthConfig {
  const ms = (seconds: number): number => Math.round(seconds * 1000);
  const { half_life: halfLife, suppress, reuse, max_hold: maxHold } = raw.flap;
  return {
    check: checkOf(raw),
    port: raw.port ?? null,
    intervalMs: ms(raw.interval),
    timeoutMs: ms(raw.timeout),
    rise: raw.rise,
    fall: raw.fall,
    jitter: raw.jitter,
    through: raw.through,
    allDown: raw.all_down,
    flap: halfLife === 0 ? null : { halfLifeMs: ms(halfLife), suppress, reuse, maxHoldMs: ms(maxHold) },
  };
}

function checkOf(raw: RawHealth): HealthConfig['check'] {
  const type = healthTypeOf(raw);
  switch (type) {
    case 'tcp':
      return { type };
    case 'http':
    case 'https':
      return {
        type,
        path: raw.path ?? '/',
        method: raw.method ?? 'GET',
        host: raw.host ?? null,
        status: raw.status ?? [{ first: 200, last: 399 }],
        body: raw.body ?? null,
        tls: type === 'http' ? null : { verify: raw.tls?.verify ?? true, serverName: raw.tls?.server_name ?? null },
      };
    case 'udp':
      return { type, request: raw.request ?? new Uint8Array(0), expect: raw.expect ?? null };
    case 'dns':
      return {
        type,
        name: raw.name ?? '',
        record: raw.record ?? h.RECORD_TYPES.NS,
        rcode: raw.rcode ?? 0,
        answer: raw.answer ?? null,
      };
  }
}

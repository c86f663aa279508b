/**
 * The surface: every key that a configuration may have, with its type and default. Keys are snake_case.
 *
 * `recover.ts` walks this schema, `schema_doc.ts` lists it for the documentation, and docs/configuration.md is held to it by
 * a test. What one value alone cannot tell (duplicates, sizes that must fit together) is in the check_*.ts files.
 */
import { z } from 'zod';
import { SANITY_CHECKS, SANITY_DEFAULT } from '../../shared/config.js';
import { DEFAULT_HASH_KEY_TEXT } from './hash_key.js';
import * as s from './scalars.js';
import { encapsulationSchema, type RawEncapsulation } from './schema_encap.js';
import { allowSchema, mitigationSchema, type RecoveredMitigation } from './schema_mitigation.js';
import { listOf, required, short } from './schema_parts.js';
import { ruleSchema, type RawRule, type RecoveredRule } from './schema_rules.js';
import { setSchema, type RecoveredSet } from './schema_sets.js';
import { serviceSchema, type RawBackend, type RawService } from './schema_service.js';

const interfaceSchema = short(
  (raw) => (typeof raw === 'string' ? { name: raw } : raw),
  z.strictObject({
    name: required(s.interfaceName, 'eth0'),
    queues: s.queues.default('all'),
    mode: z.enum(['auto', 'zero-copy', 'copy', 'generic']).default('auto'),
    poll: z.enum(['interrupt', 'busy']).default('interrupt'),
    checksum: z.enum(['auto', 'trust', 'repair']).default('auto'),
    fallback: z.enum(['pass', 'drop']).default('pass'),
    redirect: z.enum(['services', 'all']).default('services'),
    host_path: z.boolean().default(true),
  }),
);

const framesSchema = z.strictObject({
  count: s.integer(64, 1_048_575).default(8192),
  size: s.frameSize.default(2048),
  hugepages: z.boolean().default(false),
  // The kernel takes any power of two; 32,768 slots are 40 ms of the smallest frames at 800 kpps, more is only latency.
  ring: s.powerOfTwo(64, 32768).default(2048),
  burst: s.integer(1, 1024).default(64),
});

const flowsSchema = z.strictObject({
  // A slot takes 64 bytes: 2^24 of them are 1 GiB a worker.
  slots: s.powerOfTwo(1024, 16_777_216).default(1_048_576),
  max_new_per_second: s.integer(0, 0x7fffffff).default(0),
  timeouts: z
    .strictObject({
      tcp_syn: s.duration.default(10),
      tcp_established: s.duration.default(900),
      tcp_closing: s.duration.default(10),
      udp: s.duration.default(30),
      other: s.duration.default(30),
    })
    .prefault({}),
});

/** "sanity" stands for {sanity: {}}, as does a sanity: with nothing behind it; "./my-filter.ts" for {module: ./my-filter.ts}. */
function expandFilter(raw: unknown): unknown {
  if (typeof raw === 'string') return /[./]/.test(raw) ? { module: raw } : { [raw]: {} };
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return raw;
  const expanded = Object.assign(Object.create(null) as Record<string, unknown>, raw);
  for (const key of ['sanity', 'rules']) if (key in expanded) expanded[key] ??= {};
  return expanded;
}

const filterSchema = short(
  expandFilter,
  z.strictObject({
    sanity: z
      .strictObject({
        checks: z.array(z.enum(SANITY_CHECKS)).default([...SANITY_DEFAULT]),
        protocols: listOf(s.protocol).optional(),
      })
      .optional(),
    rules: z.strictObject({}).optional(),
    module: s.filePath.optional(),
    name: s.name.optional(),
    options: z.unknown().optional(),
  }),
);

const icmpSchema = z.strictObject({
  echo: z.enum(['answer', 'forward', 'pass']).default('answer'),
  too_big: z.enum(['reply', 'drop']).default('reply'),
  max_per_second: s.integer(0, 1_000_000).default(1000),
});

/** Frames that a worker may hold for fragments, unless the configuration says more: at most this share of its frames. */
export const DEFAULT_HELD = 256;
export const HELD_SHARE = 1 / 4;

const fragmentsSchema = z.strictObject({
  policy: z.enum(['follow', 'drop']).default('follow'),
  out_of_order: z.enum(['hold', 'drop']).default('hold'),
  slots: s.powerOfTwo(64, 1_048_576).default(4096),
  timeout: s.duration.default(2),
  held: s.integer(1, 65536).default(DEFAULT_HELD),
});

const decapsulateSchema = z.strictObject({
  addresses: listOf(s.hostAddress).prefault([]),
  from: listOf(s.prefix).prefault([]),
  gue_ports: listOf(s.integer(1, 65535)).prefault([6080]),
});

export const configSchema = z.strictObject({
  interfaces: required(z.array(interfaceSchema), '[eth0]'),
  frames: framesSchema.prefault({}),
  flows: flowsSchema.prefault({}),
  encapsulation: encapsulationSchema.prefault({}),
  icmp: icmpSchema.prefault({}),
  fragments: fragmentsSchema.prefault({}),
  decapsulate: decapsulateSchema.prefault({}),
  hash_key: s.hashKey.prefault(DEFAULT_HASH_KEY_TEXT),
  services: z.array(serviceSchema).prefault([]),
  filters: z.array(filterSchema).prefault(['sanity', 'rules']),
  rules: z.array(ruleSchema).prefault([]),
  offload: z.enum(['auto', 'off', 'require']).default('off'),
  flow_offload: z.enum(['auto', 'off']).default('off'),
  sets: z.array(setSchema).prefault([]),
  allow: allowSchema.prefault([]),
  mitigation: mitigationSchema.prefault({}),
  metrics: short(
    (raw) => (raw === 'off' || raw === false ? { listen: 'off' } : raw),
    z.strictObject({ listen: s.endpointOrOff.prefault('127.0.0.1:9477') }),
  ).prefault({}),
  control: z.strictObject({ socket: s.filePath.default('/run/sluice/control.sock') }).prefault({}),
  log: z
    .strictObject({
      level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
      format: z.enum(['auto', 'json', 'text']).default('auto'),
    })
    .prefault({}),
});

/** A configuration as the schema puts it out: values read, defaults filled in, snake_case, not yet checked as a whole. */
export type RawConfig = z.output<typeof configSchema>;
export type { RawBackend, RawRule, RawService, RecoveredRule };
export type RawFilter = z.output<typeof filterSchema>;

/**
 * What is left of a configuration when some of it was refused: what could not be read is undefined, and list positions are
 * those of the file. The checks work on this, so that one mistake does not hide another.
 */
export interface Recovered extends Partial<
  Omit<
    RawConfig,
    | 'interfaces'
    | 'frames'
    | 'encapsulation'
    | 'fragments'
    | 'decapsulate'
    | 'services'
    | 'filters'
    | 'rules'
    | 'sets'
    | 'allow'
    | 'mitigation'
  >
> {
  interfaces?: (Partial<RawConfig['interfaces'][number]> | undefined)[];
  frames?: Partial<RawConfig['frames']>;
  encapsulation?: RecoveredEncapsulation;
  fragments?: Partial<RawConfig['fragments']>;
  decapsulate?: { [K in keyof RawConfig['decapsulate']]?: (RawConfig['decapsulate'][K][number] | undefined)[] };
  services?: (RecoveredService | undefined)[];
  filters?: (RecoveredFilter | undefined)[];
  rules?: (RecoveredRule | undefined)[];
  sets?: (RecoveredSet | undefined)[];
  allow?: (RawConfig['allow'][number] | undefined)[];
  mitigation?: RecoveredMitigation;
}

/** Keys of a service that are more than one value. */
type Compound =
  'port' | 'protocol' | 'backends' | 'encapsulation' | 'drain' | 'flood' | 'health' | 'quic' | 'source_routes';
type RawQuic = NonNullable<RawService['quic']>;

export interface RecoveredService extends Partial<Omit<RawService, Compound>> {
  port?: (RawService['port'] & object)[number][];
  protocol?: (RawService['protocol'][number] | undefined)[];
  backends?: (Partial<RawBackend> | undefined)[];
  encapsulation?: RecoveredEncapsulation;
  drain?: Partial<RawService['drain']>;
  flood?: Partial<RawService['flood']>;
  health?: Partial<NonNullable<RawService['health']>>;
  quic?: { katran?: true; quic_lb?: (Partial<NonNullable<RawQuic['quic_lb']>[number]> | undefined)[] };
  source_routes?: (NonNullable<RawService['source_routes']>[number] | undefined)[];
}

export interface RecoveredEncapsulation extends Partial<Omit<RawEncapsulation, 'source'>> {
  source?: (NonNullable<RawEncapsulation['source']>[number] | undefined)[];
}

export interface RecoveredFilter extends Partial<Omit<RawFilter, 'sanity'>> {
  sanity?: Partial<NonNullable<RawFilter['sanity']>>;
}

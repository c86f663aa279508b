/** From a configuration as the schema puts it out, which has passed all checks, to the one that the control plane reads. */
import { isAbsolute, resolve } from 'node:path';
import {
  HASH_FIELDS,
  type Config,
  type EncapsulationConfig,
  type FilterConfig,
  type HashFieldName,
  type HashName,
  type PortRange,
  type Prefix,
  type QuicConfig,
  type ServiceConfig,
  type SourceRoute,
} from '../../shared/config.js';
import { addressBits } from '../../shared/addr.js';
import { moduleName, modulePath } from './check_policy.js';
import { normaliseMitigation } from './normalise_mitigation.js';
import { normaliseRule } from './normalise_rule.js';
import type { RouteFiles } from './route_files.js';
import type { RulePrograms } from './rule_programs.js';
import { HELD_SHARE, type RawConfig, type RawFilter, type RawService } from './schema.js';
import type { RawEncapsulation } from './schema_encap.js';
import { normaliseHealth } from './schema_health.js';

/** What the checks have read and made already. */
export interface Prepared {
  files: RouteFiles;
  programs: RulePrograms;
}

/** `path` and `directory` are absolute; `directory` is what relative paths in the configuration are relative to. */
export function normalise(raw: RawConfig, path: string, directory: string, { files, programs }: Prepared): Config {
  const timeouts = raw.flows.timeouts;
  const socket = raw.control.socket;
  const encapsulation = encapsulationOf(raw.encapsulation, DEFAULT_ENCAPSULATION);
  const { out_of_order, ...rest } = raw.fragments;
  return {
    path,
    interfaces: raw.interfaces.map(({ host_path, ...rest }) => ({ ...rest, hostPath: host_path })),
    frames: raw.frames,
    flows: {
      slots: raw.flows.slots,
      maxNewPerSecond: raw.flows.max_new_per_second,
      timeouts: {
        tcpSyn: timeouts.tcp_syn,
        tcpEstablished: timeouts.tcp_established,
        tcpClosing: timeouts.tcp_closing,
        udp: timeouts.udp,
        other: timeouts.other,
      },
    },
    encapsulation,
    icmp: { echo: raw.icmp.echo, tooBig: raw.icmp.too_big, maxPerSecond: raw.icmp.max_per_second },
    fragments: {
      ...rest,
      held: Math.min(rest.held, Math.floor(raw.frames.count * HELD_SHARE)),
      outOfOrder: out_of_order,
    },
    decapsulate: {
      addresses: raw.decapsulate.addresses,
      sources: raw.decapsulate.from,
      guePorts: raw.decapsulate.gue_ports,
    },
    hashKey: raw.hash_key,
    services: raw.services.map((service) => serviceOf(service, encapsulation, directory, files)),
    filters: raw.filters.map((filter) => filterOf(filter, directory)),
    rules: raw.rules.map((rule) => normaliseRule(rule, programs)),
    offload: raw.offload,
    flowOffload: raw.flow_offload,
    sets: [],
    allow: {
      prefixes: raw.allow.filter((entry): entry is Prefix => !('set' in entry)),
      sets: [...new Set(raw.allow.flatMap((entry) => ('set' in entry ? [entry.set] : [])))],
    },
    mitigation: normaliseMitigation(raw.mitigation, programs),
    metrics: { listen: raw.metrics.listen },
    control: { socket: isAbsolute(socket) ? socket : resolve(directory, socket) },
    log: raw.log,
    warnings: [],
  };
}

const DEFAULT_ENCAPSULATION: EncapsulationConfig = {
  kind: 'ipip',
  source4: null,
  source6: null,
  // The port that IANA gave GUE is 6080 (draft-ietf-intarea-gue-09 §8.1).
  gue: { port: 6080, variant: 1, checksum: 'zero' },
};

/** What `raw` says, and what it leaves out from `base`. */
function encapsulationOf(raw: RawEncapsulation | undefined, base: EncapsulationConfig): EncapsulationConfig {
  const source = (family: 4 | 6): Prefix | null | undefined => raw?.source?.find((prefix) => prefix.family === family);
  return {
    kind: raw?.kind ?? base.kind,
    source4: source(4) ?? base.source4,
    source6: source(6) ?? base.source6,
    gue: {
      port: raw?.gue?.port ?? base.gue.port,
      variant: (raw?.gue?.variant as 0 | 1 | undefined) ?? base.gue.variant,
      checksum: raw?.gue?.checksum ?? base.gue.checksum,
    },
  };
}

/** What Katran hashes is source, source port and destination port; GLB Director, unless told otherwise, the source alone. */
const DEFAULT_FIELDS: Readonly<Record<HashName, readonly HashFieldName[]>> = {
  sluice: HASH_FIELDS,
  katran: ['src', 'sport', 'dport'],
  'katran-v2': ['src', 'sport', 'dport'],
  glb: ['src'],
};

/** Katran leaves the destination port out for services of any port, and for those of a prefix, also when they have one port. */
function defaultFields({ hash, port, vip }: RawService): readonly HashFieldName[] {
  const whole = vip.length === addressBits(vip.family) && !(port ?? ['any']).includes('any');
  if ((hash === 'katran' || hash === 'katran-v2') && !whole) return ['src', 'sport'];
  return DEFAULT_FIELDS[hash];
}

function serviceOf(
  raw: RawService,
  encapsulation: EncapsulationConfig,
  directory: string,
  files: RouteFiles,
): ServiceConfig {
  const ports = raw.port ?? [];
  return {
    name: raw.name,
    vip: raw.vip,
    ports: ports.filter((port): port is PortRange => port !== 'any').sort((a, b) => a.first - b.first),
    protocols: raw.protocol.filter((protocol) => protocol !== 'any'),
    ringSize: raw.ring_size,
    flowTable: raw.flow_table,
    backends: raw.backends.map(({ server_ids, ...backend }) => ({ ...backend, serverIds: server_ids })),
    encapsulation: encapsulationOf(raw.encapsulation, encapsulation),
    hash: raw.hash,
    hashFields: [...new Set(raw.hash_fields ?? defaultFields(raw))],
    hops: raw.hops,
    glb: raw.glb === undefined ? null : { hashKey: raw.glb.hash_key, seed: raw.glb.seed },
    flood: { maxNewPerSecond: raw.flood.max_new_per_second, above: raw.flood.above },
    drain: raw.drain,
    health: raw.health === undefined ? null : normaliseHealth(raw.health),
    quic: quicOf(raw.quic),
    tcpServerId: raw.tcp_server_id,
    stableUdp: raw.stable_udp,
    sourceRoutes: sourceRoutesOf(raw.source_routes, directory, files),
    mssClamp: raw.mss_clamp,
  };
}

function quicOf(raw: RawService['quic']): QuicConfig | null {
  if (raw === undefined) return null;
  if (raw.quic_lb === undefined) return { scheme: 'katran' };
  const configs = raw.quic_lb.map(({ rotation, server_id_length, nonce_length, key }) => ({
    rotation,
    serverIdLength: server_id_length,
    nonceLength: nonce_length,
    key: key ?? null,
  }));
  return { scheme: 'quic-lb', configs };
}

/** The checks have seen to it that an entry is a file that can be read, or a prefix with its backend. */
function sourceRoutesOf(raw: RawService['source_routes'], directory: string, files: RouteFiles): SourceRoute[] {
  return (raw ?? []).flatMap(({ file, prefix, backend }) =>
    file === undefined
      ? [{ prefix: prefix!, backend: backend! }]
      : (files.read(resolve(directory, file)) as SourceRoute[]),
  );
}

function filterOf(raw: RawFilter, directory: string): FilterConfig {
  if (raw.sanity !== undefined) {
    return { kind: 'sanity', checks: [...new Set(raw.sanity.checks)], protocols: raw.sanity.protocols ?? null };
  }
  if (raw.module === undefined) return { kind: 'rules' };
  return {
    kind: 'module',
    name: raw.name ?? moduleName(raw.module),
    path: modulePath(raw.module, directory),
    // Objects with a prototype again: a filter's author expects ordinary ones. The reader has refused __proto__.
    options: structuredClone(raw.options),
  };
}

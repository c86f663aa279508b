/** What changes in one service. */
import { isDeepStrictEqual } from 'node:util';
import { formatPrefix } from '../../shared/addr.js';
import type { EncapsulationConfig, QuicConfig, ServiceConfig } from '../../shared/config.js';
import { diffFields } from './diff_fields.js';

/** Fields that are one value or a list of them, and their keys. */
const SERVICE_KEYS = {
  vip: 'vip',
  ports: 'port',
  protocols: 'protocol',
  ringSize: 'ring_size',
  flowTable: 'flow_table',
  hash: 'hash',
  hashFields: 'hash_fields',
  hops: 'hops',
  tcpServerId: 'tcp_server_id',
  stableUdp: 'stable_udp',
  mssClamp: 'mss_clamp',
} as const satisfies Partial<Record<keyof ServiceConfig, string>>;
const FLOOD_KEYS = { maxNewPerSecond: 'max_new_per_second', above: 'above' } as const;
const DRAIN_KEYS = { timeout: 'timeout', udp: 'udp' } as const;
const BACKEND_KEYS = { weight: 'weight', state: 'state', serverIds: 'server_ids' } as const;
const GUE_KEYS = { port: 'port', variant: 'variant', checksum: 'checksum' } as const;

/**
 * A line for each thing that changed, starting with its path. `inherits`: its encapsulation is that of the whole configuration in
 * both, where the change is told once.
 */
export function serviceChanges(before: ServiceConfig, after: ServiceConfig, path: string, inherits: boolean): string[] {
  const lines = backendChanges(before, after, path);
  diffFields(path, withAny(before), withAny(after), SERVICE_KEYS, lines);
  if (!inherits)
    lines.push(...encapsulationChanges(`${path}.encapsulation`, before.encapsulation, after.encapsulation));
  diffFields(`${path}.flood`, before.flood, after.flood, FLOOD_KEYS, lines);
  diffFields(`${path}.drain`, before.drain, after.drain, DRAIN_KEYS, lines);
  lines.push(...quicChanges(`${path}.quic`, before.quic, after.quic));
  // The keys themselves stay out of logs, and a million routes too.
  if (!isDeepStrictEqual(before.glb, after.glb)) lines.push(`${path}.glb: keys changed`);
  if (!isDeepStrictEqual(before.health, after.health))
    lines.push(`${path}.health: ${appeared(before.health, after.health)}`);
  if (!isDeepStrictEqual(before.sourceRoutes, after.sourceRoutes)) {
    lines.push(`${path}.source_routes: ${before.sourceRoutes.length} routes → ${after.sourceRoutes.length} routes`);
  }
  return lines;
}

/** An empty list of ports or protocols is any. */
function withAny(service: ServiceConfig): Record<keyof typeof SERVICE_KEYS, unknown> {
  const { ports, protocols } = service;
  return {
    ...service,
    ports: ports.length === 0 ? 'any' : ports,
    protocols: protocols.length === 0 ? 'any' : protocols,
  };
}

function backendChanges(before: ServiceConfig, after: ServiceConfig, path: string): string[] {
  const backends = new Map(before.backends.map((backend) => [backend.address.text, backend]));
  const lines: string[] = [];
  for (const backend of after.backends) {
    const was = backends.get(backend.address.text);
    backends.delete(backend.address.text);
    const at = `${path}.backends[${backend.address.text}]`;
    if (was === undefined) lines.push(`${at}: added`);
    else diffFields(at, was, backend, BACKEND_KEYS, lines);
  }
  for (const address of backends.keys()) lines.push(`${path}.backends[${address}]: removed`);
  return lines;
}

export function encapsulationChanges(path: string, before: EncapsulationConfig, after: EncapsulationConfig): string[] {
  const lines: string[] = [];
  diffFields(path, before, after, { kind: 'kind' }, lines);
  const source = ({ source4, source6 }: EncapsulationConfig) => ({
    source:
      [source4, source6].flatMap((prefix) => (prefix === null ? [] : formatPrefix(prefix))).join(', ') || 'by route',
  });
  diffFields(path, source(before), source(after), { source: 'source' }, lines);
  diffFields(`${path}.gue`, before.gue, after.gue, GUE_KEYS, lines);
  return lines;
}

/** A word of a scheme, and of QUIC-LB's configurations all but the keys. */
function quicChanges(path: string, before: QuicConfig | null, after: QuicConfig | null): string[] {
  if (isDeepStrictEqual(before, after)) return [];
  const lines: string[] = [];
  const shown = (quic: QuicConfig | null): { quic: unknown } => {
    if (quic?.scheme !== 'quic-lb') return { quic: quic?.scheme };
    return {
      quic: quic.configs.map(({ rotation, serverIdLength, nonceLength, key }) => ({
        rotation,
        server_id_length: serverIdLength,
        nonce_length: nonceLength,
        key: key === null ? 'none' : 'given',
      })),
    };
  };
  diffFields(path.slice(0, path.lastIndexOf('.')), shown(before), shown(after), { quic: 'quic' }, lines);
  return lines.length === 0 ? [`${path}: keys changed`] : lines;
}

function appeared(before: unknown, after: unknown): string {
  if (before === null) return 'added';
  return after === null ? 'removed' : 'changed';
}

/** What of a director's configuration means something to sluice. */
import type { Notes } from './draft.js';
import { isMap, type Part } from './glb_parts.js';
import { Unreadable, backendOf } from './places.js';

export interface GlbDirector {
  /** As `hash_fields` of a service; null: the default, the source address. */
  fields: string[] | null;
  /** Outer source address. */
  source: string | null;
  /** What happens to echo requests. */
  echo: 'forward' | 'pass';
}

const FIELDS = { src_addr: 'src', src_port: 'sport', dst_addr: 'dst', dst_port: 'dport' } as const;

/** Keys about DPDK, which AF_XDP has no use for. */
const OF_DPDK = ['num_worker_queues', 'rx_drop_en', 'flow_paths', 'lcores'];

/** Keys by which the file is known. */
export const DIRECTOR_KEYS = ['outbound_src_ip', 'outbound_gateway_mac', 'hash_fields', 'alt_hash_fields', ...OF_DPDK];

export function readDirector(root: Part, notes: Notes): GlbDirector {
  const { json } = root;
  const dpdk = OF_DPDK.filter((key) => json[key] !== undefined);
  if (dpdk.length > 0) {
    notes.changed(
      root.place(dpdk[0]),
      `${dpdk.join(', ')}: a worker serves each queue that the interface has`,
      'See interfaces[].queues.',
    );
  }
  if (json.outbound_gateway_mac !== undefined) {
    notes.changed(root.place('outbound_gateway_mac'), 'the gateway is found by route and neighbour table, not given');
  }
  if (json.statsd_port !== undefined) {
    notes.lost(root.place('statsd_port'), 'statsd', 'Metrics are for Prometheus: metrics.listen.');
  }
  if (json.alt_hash_fields !== undefined) {
    notes.lost(
      root.place('alt_hash_fields'),
      'alt_hash_fields: no third and fourth hop of another hash',
      'Finish the change of hash_fields in GLB first.',
    );
  }
  return {
    fields: fieldsOf(root, notes),
    source: sourceOf(root, notes),
    echo: json.forward_icmp_ping_responses === false ? 'pass' : 'forward',
  };
}

function fieldsOf(root: Part, notes: Notes): string[] | null {
  const given = root.json.hash_fields;
  if (given === undefined) return null;
  const fields = Object.entries(FIELDS).flatMap(([key, field]) => (isMap(given) && given[key] === true ? [field] : []));
  if (fields.length > 0) return fields;
  notes.lost(root.place('hash_fields'), 'hash_fields names no field', 'Here it is the source address.');
  return null;
}

function sourceOf(root: Part, notes: Notes): string | null {
  const given = root.json.outbound_src_ip;
  if (given === undefined) return null;
  try {
    if (typeof given !== 'string') throw new Unreadable('outbound_src_ip is not text');
    return backendOf(given).text;
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    notes.lost(root.place('outbound_src_ip'), error.message, 'Here it is the address that the route prefers.');
    return null;
  }
}

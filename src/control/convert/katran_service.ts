/** VIPs of a Katran as services of sluice: the same backend for the same flow, and the same outer headers. */
import { formatPrefix, prefixContains } from '../../shared/addr.js';
import type { DraftBackend, DraftService, Notes } from './draft.js';
import type { KatranReal, KatranState, KatranVip, VipFlag } from './katran_state.js';
import { Unreadable, backendOf, fitWeights, nameFrom } from './places.js';

export function katranServices(state: KatranState, notes: Notes): DraftService[] {
  const taken = new Set<string>();
  const ids = new Map<string, number[]>();
  for (const [id, { address }] of state.serverIds) {
    // Id 0 can be listed, and names nothing.
    if (id !== 0) ids.set(address, [...(ids.get(address) ?? []), id]);
  }
  const steered = [...state.vips.values()].filter(
    ({ flags, protocol }) => (flags.has('quic') || flags.has('stable-udp')) && protocol === 'udp',
  );
  const placed = new Set(steered.flatMap(({ reals }) => [...reals.keys()]));
  const services = [...state.vips.values()].map((vip) =>
    serviceOf(vip, taken, notes, steered.includes(vip) ? ids : NO_IDS),
  );
  for (const [id, { place, address }] of state.serverIds) {
    if (placed.has(address) || id === 0) continue;
    notes.lost(
      place,
      `server id ${id}: ${address} is a real of no VIP with QUIC or stable routing`,
      'Add it to the service’s backends with server_ids; with weight: 0 it gets only what names it.',
    );
  }
  for (const place of state.checked.values()) {
    notes.lost(
      place,
      'a destination for health checks: sluice makes the checks itself',
      'Add to the service: health: { type: tcp, through: tunnel }, which takes the way that Katran’s checks take.',
    );
  }
  return services;
}

const NO_IDS: ReadonlyMap<string, number[]> = new Map();

function serviceOf(vip: KatranVip, taken: Set<string>, notes: Notes, ids: ReadonlyMap<string, number[]>): DraftService {
  const { place, protocol, address, port, flags } = vip;
  const udp = protocol === 'udp';
  const text = formatPrefix(address);
  const reals = usable(vip, notes);
  const { weights, exact } = fitWeights(reals.map(({ weight }) => weight));
  if (!exact)
    notes.changed(place, 'weights are rounded to proportions of at most 65535: the ring differs from Katran’s');
  for (const [flag, message, remedy] of WITHOUT) if (flags.has(flag)) notes.lost(place, message, remedy);
  if (flags.has('global-lru'))
    notes.changed(place, 'GLOBAL_LRU: a worker knows the flows of its queue only; RSS keeps a flow on one queue');
  for (const flag of ['quic', 'stable-udp', 'udp-migration'] as const) {
    if (flags.has(flag) && !udp) notes.changed(place, `the flag for UDP (${flag}) is left out: the VIP is TCP`);
  }
  if (flags.has('udp-migration') && udp) {
    notes.changed(
      place,
      'UDP_FLOW_MIGRATION: flows leave a backend that drains or is down, by state, not by time (drain: udp: move)',
    );
  }
  const fields = hashFieldsOf(vip);
  return {
    name: nameFrom(`${protocol}-${text}-${port === 0 ? 'any' : port}`, taken),
    vip: text,
    port: port === 0 ? 'any' : [port],
    protocol,
    ...(flags.has('no-lru') && { flow_table: false as const }),
    hash: 'katran',
    ...(fields && { hash_fields: fields }),
    ...(flags.has('udp-migration') && udp && { drain: { udp: 'move' as const } }),
    ...(flags.has('quic') && udp && { quic: 'katran' as const }),
    ...(flags.has('stable-udp') && udp && { stable_udp: true as const }),
    backends: reals.map(({ address: real }, i): DraftBackend => {
      const serverIds = ids.get(real.text);
      return {
        address: real.text,
        ...(weights[i] !== 1 && { weight: weights[i] }),
        ...(serverIds && { server_ids: serverIds }),
      };
    }),
  };
}

const WITHOUT: readonly [flag: VipFlag, message: string, remedy: string][] = [
  [
    'src-routing',
    'SRC_ROUTING: the routes are not in what the client shows',
    'Write them under source_routes: a list of { prefix, backend }, or a file with "PREFIX BACKEND" a line.',
  ],
  [
    'local',
    'LOCAL_VIP: delivery on the load balancer itself',
    'Take the VIP’s packets off on a node that does not balance them.',
  ],
];

/**
 * null: what `hash: katran` has by default. For a VIP of any port or of a prefix, Katran clears the destination port before
 * it hashes, unless a flag says otherwise (balancer.bpf.c, process_packet), and so does the default.
 */
function hashFieldsOf({ flags, port, address }: KatranVip): string[] | null {
  if (flags.has('dport')) return ['dport'];
  const named = port !== 0 && address.length === (address.family === 4 ? 32 : 128);
  const fields = ['src'];
  if (!flags.has('no-sport')) fields.push('sport');
  if (named || flags.has('src-dst-port')) fields.push('dport');
  return !flags.has('no-sport') && named === fields.includes('dport') ? null : fields;
}

function usable(vip: KatranVip, notes: Notes): KatranReal[] {
  return [...vip.reals.values()].filter(({ place, address }) => {
    try {
      backendOf(formatPrefix(address));
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      notes.lost(place, error.message, error.remedy);
      return false;
    }
    if (!prefixContains(vip.address, address) || address.text !== vip.address.text) return true;
    notes.lost(place, `the real ${address.text} is the VIP itself`, 'Give the backend’s own address.');
    return false;
  });
}

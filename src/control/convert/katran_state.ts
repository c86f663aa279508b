/** What a Katran has been told: VIPs with flags and reals, server ids, health checks. */
import type { Prefix } from '../../shared/config.js';
import type { Notes, Place } from './draft.js';
import { cut } from './options.js';
import { Unreadable } from './places.js';

/** F_* of katran/lib/bpf/balancer_consts.h, by the names that client, library and people have for them. */
const VIP_FLAGS: Readonly<Record<string, VipFlag>> = {
  NO_SPORT: 'no-sport',
  NO_PORT: 'no-sport',
  NO_SRC_PORT: 'no-sport',
  NO_LRU: 'no-lru',
  LRU_BYPASS: 'no-lru',
  QUIC_VIP: 'quic',
  QUIC: 'quic',
  DPORT_HASH: 'dport',
  DPORT_ONLY: 'dport',
  HASH_DPORT_ONLY: 'dport',
  SRC_ROUTING: 'src-routing',
  LOCAL_VIP: 'local',
  GLOBAL_LRU: 'global-lru',
  SRC_DST_PORT: 'src-dst-port',
  HASH_SRC_DST_PORT: 'src-dst-port',
  UDP_STABLE_ROUTING: 'stable-udp',
  UDP_FLOW_MIGRATION: 'udp-migration',
};

export type VipFlag =
  | 'no-sport'
  | 'no-lru'
  | 'quic'
  | 'dport'
  | 'src-routing'
  | 'local'
  | 'global-lru'
  | 'src-dst-port'
  | 'stable-udp'
  | 'udp-migration';

export interface KatranReal {
  place: Place;
  address: Prefix;
  weight: number;
}

export interface KatranVip {
  place: Place;
  protocol: 'tcp' | 'udp';
  address: Prefix;
  port: number;
  flags: Set<VipFlag>;
  /** By address text. */
  reals: Map<string, KatranReal>;
}

/** What a Katran has been told. */
export interface KatranState {
  vips: Map<string, KatranVip>;
  /** Reals by QUIC server id. */
  serverIds: Map<number, { place: Place; address: string }>;
  /** Destinations of health checks, by socket mark. */
  checked: Map<string, Place>;
}

export function vipOf(protocol: 'tcp' | 'udp', address: Prefix, port: number) {
  return { key: `${protocol} ${address.text}/${address.length} ${port}`, protocol, address, port };
}

/** Flags as the client takes (one) and prints them (several, between blanks). */
export function vipFlags(text: string): VipFlag[] {
  const names = text.split(/[\s,|]+/).filter((name) => name !== '');
  return names.map((name) => {
    if (Object.hasOwn(VIP_FLAGS, name)) return VIP_FLAGS[name];
    throw new Unreadable(`"${cut(name)}" is not a flag of a VIP`, `Flags are ${Object.keys(VIP_FLAGS).join(', ')}.`);
  });
}

export function localReal(place: Place, notes: Notes): void {
  notes.lost(
    place,
    'LOCAL_REAL: delivery on the load balancer itself',
    'Take the VIP’s packets off on a node that does not balance them.',
  );
}

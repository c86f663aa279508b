/**
 * Test vectors of other projects: `../shared/vectors` beside the project. They are not part of it, so where the folder is absent
 * the loaders return null and tests skip with `NO_VECTORS` as the reason.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = join(dirname(fileURLToPath(import.meta.url)), '../../../shared/vectors');

export const NO_VECTORS = `no ${folder}`;

/** One packet and what Katran makes of it. Frames in hex, from the Ethernet header on. */
export interface KatranCase {
  /** Position in its suite, from 1. */
  n: number;
  description: string;
  verdict: 'XDP_TX' | 'XDP_DROP' | 'XDP_PASS' | 'TC_ACT_UNSPEC' | 'TC_ACT_REDIRECT';
  kind: 'encap' | 'decap' | 'decap+reencap' | 'unchanged' | 'icmp-echo-reply' | 'icmp-too-big' | 'other';
  in: string;
  out: string;
  needs: string[];
  /** Outermost IP header of `out`, for the kinds that encapsulate; udp fields with GUE only. */
  outer?: KatranOuter;
  reproduced_on_6_18?: string;
}

export interface KatranOuter {
  ver: 4 | 6;
  proto: number;
  tos: number;
  ttl: number;
  /** IPv4. */
  id?: number;
  frag_off?: number;
  /** IPv6. */
  flow_label?: number;
  src: string;
  dst: string;
  hlen: number;
  udp_sport?: number;
  udp_dport?: number;
  udp_len?: number;
  udp_csum?: number;
}

export interface KatranVectors {
  meta: {
    default_router_mac: string;
    vips: { vip: string; port: number; proto: 'tcp' | 'udp'; flags?: string[]; reals: string[] }[];
    quic_server_ids: Record<string, string>;
    max_frame: number;
  };
  /** Cases of a suite run in order on one balancer: its connection table carries over. */
  suites: Record<string, KatranCase[]>;
}

export interface GlbVectors {
  director_config: { outbound_src_ip: string; gue_port: number; forward_icmp_ping_responses: boolean };
  tables: {
    /** Keys of 16 bytes in hex. */
    hash_key: string;
    seed: string;
    binds: { ip: string; proto: string; port: number }[];
    backends: { ip: string; state: string; healthy: boolean }[];
  }[];
  rendezvous_vectors: {
    seed: string;
    hosts: string[];
    rows: { index: number; row_seed: string; order: string[] }[];
  };
  packet_cases: {
    name: string;
    in: string;
    mutate?: string;
    expect: { outer_src?: string; outer_dst: string; alternate?: string[]; udp_dport?: number };
  }[];
  /** Routes: source address, source port, backends of the row. All go to 1.1.1.1:80. */
  hash_fields: { fields: string[]; routes: [string, number, string[]][] }[];
  /** What holds for any packets, in words. */
  properties: string[];
  health_dampening: { rise: number; fall: number; in: string; out: string }[];
}

function load(file: string): unknown {
  const path = join(folder, file);
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : null;
}

/** Katran's tests, or null when they are not here. */
export function katranVectors(): KatranVectors | null {
  return load('katran/fixtures.json') as KatranVectors | null;
}

/** GLB Director's tests, or null when they are not here. */
export function glbVectors(): GlbVectors | null {
  return load('glb/cases.json') as GlbVectors | null;
}

/** A frame from its hex text. */
export function frameOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

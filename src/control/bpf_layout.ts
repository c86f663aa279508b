/**
 * The TypeScript side of bpf/types.h: names of counters in order, and the bytes of map keys. test/bpf/layout.test.ts
 * holds the two files equal. Kernel structures are in the machine's byte order; addresses in network byte order.
 */
import { addressFromBytes } from '../shared/addr.js';
import type { Address, Prefix } from '../shared/config.js';

/** Names of the programs in build/bpf, by object. They are the names that bpftool and queryXdp show. */
export const BPF_PROGRAMS = { redirect: 'sluice_redirect', decap: 'sluice_decap', pass: 'sluice_pass' } as const;

/** enum redirect_stat. seen = aborted + drop + pass + tx + redirect, always. */
export const REDIRECT_STATS = [
  'aborted',
  'drop',
  'pass',
  'tx',
  'redirect',
  'seen',
  'no_socket',
  'not_ip',
  'malformed',
] as const;
export type RedirectStat = (typeof REDIRECT_STATS)[number];

/**
 * enum decap_stat. Each packet is in `seen` and in exactly one of those up to `drop_hop_mtu`; the `local_` ones say why a packet
 * with a chain stayed.
 */
export const DECAP_STATS = [
  'seen',
  'passed_other',
  'decap_4in4',
  'decap_6in4',
  'decap_4in6',
  'decap_6in6',
  'decap_gue0',
  'decap_gue1',
  'hop_forwarded',
  'drop_source',
  'drop_malformed',
  'drop_fragment',
  'drop_ecn',
  'drop_udp_checksum',
  'drop_gue_version',
  'drop_gue_control',
  'drop_gue_flags',
  'drop_gue_header',
  'drop_gue_chain',
  'drop_hop_ttl',
  'drop_hop_route',
  'drop_hop_neighbour',
  'drop_hop_mtu',
  'local_syn',
  'local_socket',
  'local_cookie',
  'local_icmp',
  'local_last',
  'local_other',
] as const;
export type DecapStat = (typeof DECAP_STATS)[number];

/** What happened to packets, each in exactly one: DECAP_STATS without `seen` and the details. */
export const DECAP_OUTCOMES = DECAP_STATS.filter((name) => name !== 'seen' && !name.startsWith('local_'));

/** Settings of decap.bpf.c for UDP ports of GUE. */
export const GUE_PORT_SETTINGS = ['gue_port_1', 'gue_port_2', 'gue_port_3', 'gue_port_4'] as const;

/** enum match_all, the setting of redirect.bpf.c: what goes to user space. */
export const MatchAll = { vips: 0, traffic: 1, everything: 2 } as const;

/** sizeof(struct ip_addr) and sizeof(struct lpm_key). */
export const IP_ADDR_BYTES = 16;
export const LPM_KEY_BYTES = 4 + IP_ADDR_BYTES;
/** sizeof(struct hop_value): two __u64, packets forwarded and packets unresolved. */
export const HOP_VALUE_BYTES = 16;

/** struct ip_addr: 16 bytes in network byte order; IPv4 a.b.c.d is ::ffff:a.b.c.d. */
export function encodeIpAddr(address: Address): Uint8Array {
  const bytes = new Uint8Array(IP_ADDR_BYTES);
  const view = new DataView(bytes.buffer);
  if (address.family === 4) {
    view.setUint16(10, 0xffff);
    view.setInt32(12, address.words[0]);
  } else {
    address.words.forEach((word, i) => view.setInt32(4 * i, word));
  }
  return bytes;
}

/** struct lpm_key, for vip_map and decap_src: bits of the prefix (an IPv4 prefix has 96 in front) and the address. */
export function encodeLpmKey(prefix: Prefix): Uint8Array {
  const bytes = new Uint8Array(LPM_KEY_BYTES);
  new Uint32Array(bytes.buffer, 0, 1)[0] = prefix.length + (prefix.family === 4 ? 96 : 0);
  bytes.set(encodeIpAddr(prefix), 4);
  return bytes;
}

/** The opposite of `encodeIpAddr`. */
export function decodeIpAddr(bytes: Uint8Array): Address {
  const view = new DataView(bytes.buffer, bytes.byteOffset, IP_ADDR_BYTES);
  const mapped = view.getInt32(0) === 0 && view.getInt32(4) === 0 && view.getInt32(8) === 0xffff;
  return addressFromBytes(bytes.subarray(mapped ? 12 : 0, IP_ADDR_BYTES));
}

/** Key or value that is one __u32, such as a queue, a descriptor or flags. */
export function encodeU32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/**
 * Sums a per-CPU value that is an array of `count` __u64: the CPUs' arrays, one after the other, become one. Exact up to
 * 2^53. Throws RangeError when `value` is no whole number of such arrays.
 */
export function sumPerCpu(value: Uint8Array, count: number): number[] {
  const size = 8 * count;
  if (count < 1 || value.length % size !== 0) {
    throw new RangeError(`a per-CPU value of ${value.length} bytes is no multiple of ${count} counters of 8 bytes`);
  }
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const sums = new Array<number>(count).fill(0);
  for (let at = 0; at < value.length; at += 8) {
    // Little-endian by definition: the addon builds on nothing else (native/bpf_rodata.cc).
    sums[(at / 8) % count] += view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  }
  return sums;
}

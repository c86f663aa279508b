/** Writes backend records, as `BackendField` in layout.ts says. */
import { ethernetWords } from '../shared/addr.js';
import type { Address } from '../shared/config.js';
import { BackendField, BackendFlag } from '../shared/layout.js';
import type { NextHop } from './routes.js';

export interface BackendRecord {
  /** BackendFlag bits but for `ipv6` and `resolved`, which follow from the rest. */
  flags: number;
  incarnation: number;
  service: number;
  /** Number of the port that leads to it; -1 when none does: the backend is then unresolved. */
  port: number;
  address: Address;
  /** Outer source address, of the same family; null makes the backend unresolved. */
  source: Address | null;
  /** Family of the packets inside: that of the service's address. */
  innerFamily: 4 | 6;
  nextHop: NextHop | null;
}

export function writeBackendRecord(words: Int32Array, number: number, record: BackendRecord): void {
  const at = number * BackendField.STRIDE;
  const { address, source, nextHop, port } = record;
  let flags = record.flags;
  if (address.family === 6) flags |= BackendFlag.ipv6;
  if (nextHop?.resolved && nextHop.smac && nextHop.dmac && port >= 0 && source?.family === address.family) {
    flags |= BackendFlag.resolved;
  }
  words[at + BackendField.flags] = flags;
  words[at + BackendField.incarnation] = record.incarnation;
  words[at + BackendField.service] = record.service;
  words[at + BackendField.port] = Math.max(port, 0);
  words.set(address.words, at + BackendField.addr0);
  // Nothing sends to a backend that is not resolved; what is known of it stays readable for status and dumps.
  if (source) words.set(source.words, at + BackendField.source0);
  if (nextHop?.smac && nextHop.dmac) {
    words.set(ethernetWords(nextHop.dmac, nextHop.smac), at + BackendField.eth0);
  }
  words[at + BackendField.mtu] = nextHop?.mtu ?? 0;
  if (address.family === 4 && source?.family === 4) {
    words[at + BackendField.headerSum] = outerHeaderSum(source.words[0], address.words[0], record.innerFamily);
  }
}

/** IP protocol numbers of IPv4 (RFC 2003) and IPv6 (RFC 4213) inside IPv4. */
const INNER_PROTOCOL = { 4: 4, 6: 41 } as const;

/**
 * Ones' complement sum, folded to 16 bits, of those parts of the outer IPv4 header that are the same for every packet:
 * version and header length 0x45, flags DF with offset 0, TTL 64, protocol, both addresses. The data path adds TOS, total length
 * (id is 0) and complements it.
 */
export function outerHeaderSum(source: number, destination: number, innerFamily: 4 | 6): number {
  let sum = 0x4500 + 0x4000 + ((64 << 8) | INNER_PROTOCOL[innerFamily]);
  for (const address of [source, destination]) sum += (address >>> 16) + (address & 0xffff);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

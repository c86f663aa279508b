import { BackendField, EncapFlag } from '../../shared/layout.js';

/**
 * What an outer header takes from the flow of the packet inside, so that routers and receive queues on the way spread flows
 * and keep each in order. One object a worker, filled for each packet.
 */
export class OuterFlow {
  /**
   * An int32, the same for all packets of a flow and for ICMP errors about it. Where nodes and runs are to give the same bytes it
   * must not depend on a worker's own secret: the hash that picks the ring's slot will do.
   */
  hash = 0;
  /** With EncapFlag.katran: last word of IP in IP's outer source (katran_hash.ts); only bits of the source's prefix count. */
  katranSource = 0;
  /** With EncapFlag.katran: outer UDP source port. */
  katranPort = 0;
}

/** Whether outer headers to the backend are those that Katran would write. `at`: its record. */
export function isKatran(backends: Int32Array, at: number): boolean {
  return (backends[at + BackendField.encapFlags] & EncapFlag.katran) !== 0;
}

/** Outer UDP source port: one of the upper 32768, with 15 bits of the flow. */
export function sourcePort(backends: Int32Array, at: number, flow: OuterFlow): number {
  return isKatran(backends, at) ? flow.katranPort : 0x8000 | (flow.hash & 0x7fff);
}

/** IPv6 flow label of a tunnel (RFC 6438 §3), 20 bits: others than those of the port. Katran's packets have none. */
export function flowLabel(backends: Int32Array, at: number, flow: OuterFlow): number {
  return isKatran(backends, at) ? 0 : flow.hash >>> 12;
}

/**
 * Host bits of the outer IPv4 source, to be put into the bits of it that are 0. Never the network's or the broadcast address of a
 * prefix of 30 bits and shorter (one of 31 bits has two hosts, RFC 3021), and never the destination. Katran's 16 bits are taken
 * as they are.
 */
export function hostBits4(backends: Int32Array, at: number, flow: OuterFlow): number {
  const mask = backends[at + BackendField.entropy0];
  if (mask === 0) return 0;
  if (isKatran(backends, at)) return flow.katranSource & mask & 0xffff;
  let host = mix(flow.hash) & mask;
  if (mask !== 1 && (host === 0 || host === mask)) host = beside(host);
  if ((backends[at + BackendField.source0] | host) !== backends[at + BackendField.addr0]) return host;
  return mask === 1 ? host ^ 1 : beside(host);
}

/**
 * Fills the host bits of the outer IPv6 source, which is written at `offset`. Never the subnet-router anycast address, host bits 0
 * (RFC 4291 §2.6.1; a prefix of 127 bits has two hosts, RFC 6164), and never the destination. Katran's 32 bits are the last word.
 */
export function fillSource6(view: DataView, offset: number, backends: Int32Array, at: number, flow: OuterFlow): void {
  const mask3 = backends[at + BackendField.entropy3];
  // Host bits are the last ones: no mask in the last word, none anywhere.
  if (mask3 === 0) return;
  const source3 = backends[at + BackendField.source3];
  if (isKatran(backends, at)) {
    view.setInt32(offset + 12, source3 | (flow.katranSource & mask3));
    return;
  }
  const hash = flow.hash;
  const host0 = mix(hash ^ 0x6a09e667) & backends[at + BackendField.entropy0];
  const host1 = mix(hash ^ 0x3c6ef372) & backends[at + BackendField.entropy1];
  const host2 = mix(hash ^ 0x510e527f) & backends[at + BackendField.entropy2];
  let host3 = mix(hash) & mask3;
  if (mask3 !== 1 && (host0 | host1 | host2 | host3) === 0) host3 = 1;
  const word0 = backends[at + BackendField.source0] | host0;
  const word1 = backends[at + BackendField.source1] | host1;
  const word2 = backends[at + BackendField.source2] | host2;
  if (
    (source3 | host3) === backends[at + BackendField.addr3] &&
    word2 === backends[at + BackendField.addr2] &&
    word1 === backends[at + BackendField.addr1] &&
    word0 === backends[at + BackendField.addr0]
  ) {
    host3 = mask3 === 1 ? host3 ^ 1 : beside(host3);
  }
  view.setInt32(offset, word0);
  view.setInt32(offset + 4, word1);
  view.setInt32(offset + 8, word2);
  view.setInt32(offset + 12, source3 | host3);
}

/** The next host down, or up from 0 and 1: within any mask of two bits and more, never 0, never all ones. */
function beside(host: number): number {
  return host === 0 || host === 1 ? host + 1 : (host - 1) | 0;
}

/** Spreads all bits of the hash over all bits (MurmurHash3's finalizer): few of them may be host bits. */
function mix(hash: number): number {
  let h = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

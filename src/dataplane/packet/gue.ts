import { fold, sumBytes } from './checksum.js';
import type { Packet } from './packet.js';
import { IpProtocol, Wire } from './wire.js';

/** Generic UDP Encapsulation (draft-ietf-intarea-gue-09). */
export const enum Gue {
  /** The header of variant 0 without its extensions. */
  headerBytes = 4,
  /** In front of the addresses of a chain of hops: type, next hop, number of hops. */
  chainBytes = 4,
  /** The header's length counts its extensions in words, with five bits. */
  maxExtensionWords = 31,
}

/** Type of the private data that is a chain of hops: GLB Director's of IPv4 addresses, or the like of IPv6 addresses. */
export const enum ChainType {
  ipv4 = 0,
  ipv6 = 1,
}

/** Bytes of the variant 0 header with a chain of so many words of addresses. */
export function gueHeaderBytes(hopWords: number): number {
  return hopWords > 0 ? (Gue.headerBytes + Gue.chainBytes + (hopWords << 2)) | 0 : Gue.headerBytes;
}

/** Writes a UDP header without a checksum. `length`: of the datagram, bytes. */
export function writeUdp(view: DataView, l4: number, sport: number, dport: number, length: number): void {
  view.setInt32(l4, (sport << 16) | dport);
  view.setInt32(l4 + 4, length << 16);
}

/**
 * Writes the header of variant 0 at `at`, with no extensions or with a chain of the backends that get the packet when its first one does not
 * take it (github/glb-director, docs/development/gue-header.md):
 *
 *   version 0 | C 0 | length in words    protocol of the packet inside    flags 0        4 bytes
 *   type    next hop 0    number of hops                                                 4 bytes
 *   addresses                                                                            4 or 16 bytes each
 *
 * `hops` has the addresses as words, `hopWords` says how many: one a hop of family 4, four of family 6.
 */
export function writeGueHeader(packet: Packet, at: number, hops: Int32Array, hopWords: number, hopFamily: 4 | 6): void {
  const view = packet.view;
  const protocol = packet.family === 4 ? IpProtocol.ipip : IpProtocol.ipv6;
  if (hopWords === 0) {
    view.setInt32(at, protocol << 16);
    return;
  }
  const type = hopFamily === 4 ? ChainType.ipv4 : ChainType.ipv6;
  const count = hopFamily === 4 ? hopWords : hopWords >> 2;
  view.setInt32(at, ((1 + hopWords) << 24) | (protocol << 16));
  view.setInt32(at + 4, (type << 16) | count);
  for (let word = 0; word < hopWords; word++) view.setInt32(at + 8 + (word << 2), hops[word]);
}

/**
 * Computes the checksum of a UDP datagram over everything in it (RFC 768; RFC 8200 §8.1), which is written but for that field, 0 so far.
 * `addresses`: offset of the IP header's addresses, `addressBytes` of them. Nothing is taken for granted of the checksums inside: those of a client
 * may be wrong, and must be as wrong when they come out.
 */
export function writeUdpChecksum(
  view: DataView,
  addresses: number,
  addressBytes: number,
  l4: number,
  length: number,
): void {
  const sum = sumBytes(view, addresses, addressBytes) + IpProtocol.udp + length + sumBytes(view, l4, length);
  const checksum = ~fold(sum) & 0xffff;
  view.setUint16(l4 + Wire.udpChecksum, checksum === 0 ? 0xffff : checksum);
}

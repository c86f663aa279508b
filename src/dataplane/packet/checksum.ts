import type { Packet } from './packet.js';
import { PacketFlag } from './packet.js';
import { IpProtocol, Wire } from './wire.js';

/**
 * The Internet checksum (RFC 1071). Sums are plain numbers that hold up to 2^31 of carries; `fold` brings them to 16 bits.
 */

/** Sum of `length` bytes from `offset` as 16-bit big-endian words; an odd last byte counts as its word's high half. At most 64 KiB. */
export function sumBytes(view: DataView, offset: number, length: number): number {
  let sum = 0;
  let at = offset;
  const end = offset + length;
  // Four words at a time, in two sums that do not wait for each other: 0.6 ns a word instead of 1.1.
  let low = 0;
  for (const last = end - 16; at <= last; at += 16) {
    const word0 = view.getInt32(at);
    const word1 = view.getInt32(at + 4);
    const word2 = view.getInt32(at + 8);
    const word3 = view.getInt32(at + 12);
    sum = (sum + (word0 >>> 16) + (word1 >>> 16) + (word2 >>> 16) + (word3 >>> 16)) | 0;
    low = (low + (word0 & 0xffff) + (word1 & 0xffff) + (word2 & 0xffff) + (word3 & 0xffff)) | 0;
  }
  sum = (sum + low) | 0;
  for (; at + 4 <= end; at += 4) {
    const word = view.getInt32(at);
    sum = (sum + (word >>> 16) + (word & 0xffff)) | 0;
  }
  if (at + 2 <= end) {
    sum = (sum + view.getUint16(at)) | 0;
    at += 2;
  }
  if (at < end) sum = (sum + (view.getUint8(at) << 8)) | 0;
  return sum;
}

/** Ones-complement fold to 16 bits. Not inverted. */
export function fold(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** Checksum field of an IPv4 header of `headerBytes`, computed as if the field were zero. */
export function ipv4HeaderChecksum(view: DataView, l3: number, headerBytes: number): number {
  const sum = sumBytes(view, l3, headerBytes) - view.getUint16(l3 + 10);
  return ~fold(sum) & 0xffff;
}

/** True when the header's own checksum is right. */
export function ipv4HeaderValid(view: DataView, l3: number, headerBytes: number): boolean {
  return fold(sumBytes(view, l3, headerBytes)) === 0xffff;
}

/** The same of a header without options. The reads are in a row, not in a loop: V8 inlines that. */
export function plainIpv4HeaderValid(view: DataView, l3: number): boolean {
  const word0 = view.getInt32(l3);
  const word1 = view.getInt32((l3 + 4) | 0);
  const word2 = view.getInt32((l3 + 8) | 0);
  const word3 = view.getInt32((l3 + 12) | 0);
  const word4 = view.getInt32((l3 + 16) | 0);
  const high = ((word0 >>> 16) + (word1 >>> 16) + (word2 >>> 16) + (word3 >>> 16) + (word4 >>> 16)) | 0;
  const low = ((word0 & 0xffff) + (word1 & 0xffff) + (word2 & 0xffff) + (word3 & 0xffff) + (word4 & 0xffff)) | 0;
  const sum = (high + low) | 0;
  const once = ((sum & 0xffff) + (sum >>> 16)) | 0;
  return (((once & 0xffff) + (once >>> 16)) | 0) === 0xffff;
}

/**
 * New checksum after a 16-bit field under it changed (RFC 1624, equation 3). Also right for a 32-bit field when called for each half.
 */
export function updateChecksum(checksum: number, before: number, after: number): number {
  return ~fold((~checksum & 0xffff) + (~before & 0xffff) + after) & 0xffff;
}

/** Pseudo-header sum of TCP or UDP over IPv4 (RFC 793, 768) or IPv6 (RFC 8200 §8.1). `length`: transport header and payload, bytes. */
export function pseudoHeaderSum(packet: Packet, length: number): number {
  let sum = (halves(packet.src0) + halves(packet.dst0) + packet.protocol + length) | 0;
  if (packet.family === 6) {
    sum = (sum + halves(packet.src1) + halves(packet.src2) + halves(packet.src3)) | 0;
    sum = (sum + halves(packet.dst1) + halves(packet.dst2) + halves(packet.dst3)) | 0;
  }
  return sum;
}

function halves(word: number): number {
  return (word >>> 16) + (word & 0xffff);
}

/** Offset of the transport checksum in the packet memory, or 0 when the packet has none that can be checked. */
function checksumOffset(packet: Packet): number {
  if (packet.l4 === 0 || (packet.flags & PacketFlag.fragment) !== 0) return 0;
  if (packet.protocol === IpProtocol.tcp) return packet.l4 + Wire.tcpChecksum;
  if (packet.protocol === IpProtocol.udp) return packet.l4 + Wire.udpChecksum;
  return 0;
}

/** The right TCP or UDP checksum for the packet as it is. A UDP checksum that comes out as 0 is 0xffff (RFC 768). */
export function transportChecksum(packet: Packet): number {
  const field = checksumOffset(packet);
  const length = packet.l3 + packet.l3Length - packet.l4;
  const sum = pseudoHeaderSum(packet, length) + sumBytes(packet.view, packet.l4, length) - packet.view.getUint16(field);
  const checksum = ~fold(sum) & 0xffff;
  return checksum === 0 && packet.protocol === IpProtocol.udp ? 0xffff : checksum;
}

/**
 * Completes a checksum that the sender left to its device: Linux then puts the folded pseudo-header sum into the
 * field (CHECKSUM_PARTIAL, include/linux/skbuff.h), which is what a frame from a veth peer carries. Any other value is
 * left alone, right or wrong. Returns true when the field was written.
 */
export function repairChecksum(packet: Packet): boolean {
  const field = checksumOffset(packet);
  if (field === 0) return false;
  const length = packet.l3 + packet.l3Length - packet.l4;
  if (packet.view.getUint16(field) !== fold(pseudoHeaderSum(packet, length))) return false;
  packet.view.setUint16(field, transportChecksum(packet));
  return true;
}

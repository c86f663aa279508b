import { BackendField, BackendFlag } from '../../shared/layout.js';
import { Egress, HeaderWord } from '../balance/egress.js';
import { DropReason } from '../verdict.js';
import { startBefore, writeEthernet } from './ethernet.js';
import { writeOuterIpv4, writeOuterIpv6 } from './outer_ip.js';
import type { Packet } from './packet.js';
import { IpProtocol, Wire } from './wire.js';

/** Header words are stored as they lie in memory; big-endian machines take the byte-wise way. */
export const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/**
 * Puts an outer IP header in front of the packet (IP in IP: RFC 2003, RFC 2473) and the next hop's Ethernet header in front of
 * that, in the frame's headroom. VLAN tags stay. TOS or traffic class is copied, ECN with it (RFC 6040 normal mode).
 * The outer IPv4 header has DF set and id 0 (an atomic datagram, RFC 6864): the MTU is checked here, so nobody needs to
 * fragment it. Bytes behind the IP packet are cut off.
 *
 * `at` is the backend's record in `egress`, `record` the published one in `backends`. Returns a DropReason; on failure the packet
 * is unchanged.
 */
export function encapsulate(
  packet: Packet,
  egress: Int32Array,
  at: number,
  backends: Int32Array,
  record: number,
): DropReason {
  const l2 = (packet.l3 - 34) | 0;
  // The way of nearly all packets: untagged, IPv4 outside, aligned as every driver aligns them.
  const plain =
    LITTLE_ENDIAN &&
    packet.vlanTags === 0 &&
    (l2 & 3) === 0 &&
    l2 >= packet.dataHardStart &&
    (egress[at + Egress.flags] & BackendFlag.ipv6) === 0;
  return plain ? storeIpv4(packet, egress, at, l2) : encapsulateAny(packet, backends, record);
}

/**
 * Ethernet and IPv4 header as eight and a half words. All is read before the first store: V8 then checks the views once. (A store
 * through a DataView makes it check everything again.)
 */
function storeIpv4(packet: Packet, egress: Int32Array, at: number, l2: number): DropReason {
  const inner = packet.l3;
  const innerLength = packet.l3Length;
  const outerLength = (innerLength + 20) | 0;
  if (outerLength > egress[at + Egress.mtu]) return DropReason.tooBig;
  const protocol = packet.family === 4 ? IpProtocol.ipip : IpProtocol.ipv6;
  const tos = packet.tos;
  let sum = (egress[at + Egress.headerSum] + (protocol - IpProtocol.ipip) + tos + outerLength) | 0;
  sum = ((sum & 0xffff) + (sum >>> 16)) | 0;
  sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
  const word0 = egress[at + Egress.word0];
  const word1 = egress[at + Egress.word1];
  const word2 = egress[at + Egress.word2];
  const word3 = HeaderWord.word3 | (tos << 24);
  const word4 = ((outerLength & 0xff) << 8) | (outerLength >>> 8);
  const word5 = HeaderWord.word5 | (protocol << 24);
  const word6 = egress[at + Egress.word6] | ((sum & 0xff) << 8) | (sum >>> 8);
  const word7 = egress[at + Egress.word7];
  const half16 = egress[at + Egress.half16];
  const words = packet.words;
  const halves = packet.halves;
  const word = l2 >> 2;
  words[word] = word0;
  words[(word + 1) | 0] = word1;
  words[(word + 2) | 0] = word2;
  words[(word + 3) | 0] = word3;
  words[(word + 4) | 0] = word4;
  words[(word + 5) | 0] = word5;
  words[(word + 6) | 0] = word6;
  words[(word + 7) | 0] = word7;
  halves[((l2 >> 1) + 16) | 0] = half16;
  packet.data = l2;
  packet.metaLength = 0;
  packet.dataEnd = (inner + innerLength) | 0;
  return DropReason.none;
}

/** Any family outside, any number of tags, any alignment. */
function encapsulateAny(packet: Packet, backends: Int32Array, at: number): DropReason {
  const toIpv6 = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0;
  const outerBytes = toIpv6 ? Wire.ipv6Bytes : Wire.ipv4Bytes;
  const inner = packet.l3;
  const innerLength = packet.l3Length;
  const outerLength = (outerBytes + innerLength) | 0;
  if (outerLength > backends[at + BackendField.mtu]) return DropReason.tooBig;
  const l3 = (inner - outerBytes) | 0;
  const l2 = startBefore(packet, l3);
  if (l2 < 0) return DropReason.noHeadroom;

  writeEthernet(packet, backends, at, l2);
  const protocol = packet.family === 4 ? IpProtocol.ipip : IpProtocol.ipv6;
  if (toIpv6) writeOuterIpv6(packet, backends, at, l3, innerLength, protocol, 0);
  else writeOuterIpv4(packet, backends, at, l3, outerLength, protocol, 0);

  packet.data = l2;
  packet.metaLength = 0;
  packet.dataEnd = inner + innerLength;
  return DropReason.none;
}

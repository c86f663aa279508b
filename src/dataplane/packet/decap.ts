import { DropReason } from '../verdict.js';
import { fold, plainIpv4HeaderValid, pseudoHeaderSum, sumBytes, updateChecksum } from './checksum.js';
import { mergedEcn } from './ecn.js';
import { ChainType, Gue } from './gue.js';
import { PacketFlag, type Packet } from './packet.js';
import { EtherType, IpProtocol, Wire } from './wire.js';

/** What stands at the start of a GUE datagram, instead of a header of variant 0: the first bits of an IP header are 01. */
const VARIANT_1 = 1;

/**
 * Takes the outer headers off a parsed packet that DecapRules calls ours: IP in IP (RFC 2003, 2473, 4213), or GUE of both variants.
 * The packet inside gets the Ethernet header in front, tags and all, one off its TTL (the packet goes on from here: RFC 2003 §3.1), and the ECN
 * field of RFC 6040. It then has to be parsed anew: the packet's fields are still those of the outer headers.
 *
 * The outer headers are checked as a host would check them, because none will: fragments, options, the IPv4 header's
 * checksum, a UDP checksum that is not 0, and lengths, each within the one outside of it. Returns `fragment`, `ttlExpired`,
 * or `decapMalformed` (also for the mark that RFC 6040 says to drop); the packet is then unchanged. bpf/decap.bpf.c does the same on backends.
 */
export function decapsulate(packet: Packet): DropReason {
  const view = packet.view;
  if ((packet.flags & PacketFlag.fragment) !== 0) return DropReason.fragment;
  const headerBytes = packet.family === 4 ? Wire.ipv4Bytes : Wire.ipv6Bytes;
  if (packet.l4 - packet.l3 !== headerBytes) return DropReason.decapMalformed;
  if (packet.family === 4 && !plainIpv4HeaderValid(view, packet.l3)) return DropReason.decapMalformed;

  let inner = packet.l4;
  let end = (packet.l3 + packet.l3Length) | 0;
  if (packet.protocol === IpProtocol.udp) {
    const length = view.getUint16(packet.l4 + 4);
    if (!udpValid(packet, length)) return DropReason.decapMalformed;
    end = (packet.l4 + length) | 0;
    const header = gueHeader(packet, (packet.l4 + Wire.udpBytes) | 0, end);
    if (header < 0) return DropReason.decapMalformed;
    inner = (packet.l4 + Wire.udpBytes + header) | 0;
  } else if (!agrees(view, inner, end, packet.protocol)) {
    return DropReason.decapMalformed;
  }
  return view.getUint8(inner) >>> 4 === 4 ? openIpv4(packet, inner, end) : openIpv6(packet, inner, end);
}

/** 0 is none: RFC 768, and RFC 6935 for tunnels over IPv6. */
function udpValid(packet: Packet, length: number): boolean {
  const view = packet.view;
  if (view.getUint16(packet.l4 + Wire.udpChecksum) === 0) return true;
  return fold(pseudoHeaderSum(packet, length) + sumBytes(view, packet.l4, length)) === 0xffff;
}

/**
 * Bytes of the GUE header at `at`, 0 for variant 1, −1 for what we cannot read: control messages, flags, private data that is no chain
 * of hops, a packet inside that is not what the header says.
 */
function gueHeader(packet: Packet, at: number, end: number): number {
  const view = packet.view;
  const available = (end - at) | 0;
  if (available < Gue.headerBytes) return -1;
  const word = view.getInt32(at);
  if (word >>> 30 === VARIANT_1) {
    const protocol = word >>> 28 === 6 ? IpProtocol.ipv6 : IpProtocol.ipip;
    return agrees(view, at, end, protocol) ? 0 : -1;
  }
  // Version 0 and no control message are three bits of 0; the flags are the low half.
  if (word >>> 29 !== 0 || (word & 0xffff) !== 0) return -1;
  const words = word >>> 24;
  const bytes = (Gue.headerBytes + (words << 2)) | 0;
  if (bytes > available) return -1;
  if (words > 0 && !isChain(view.getInt32(at + Gue.headerBytes), words, packet.family)) return -1;
  return agrees(view, (at + bytes) | 0, end, (word >>> 16) & 0xff) ? bytes : -1;
}

/** `head`: first word of the private data, `words`: how many it has. The hops are of the outer header's family. */
function isChain(head: number, words: number, family: number): boolean {
  const type = head >>> 16;
  if (type !== (family === 4 ? ChainType.ipv4 : ChainType.ipv6)) return false;
  const perHop = type === ChainType.ipv4 ? 1 : 4;
  return words === 1 + Math.imul(head & 0xff, perHop);
}

/** Whether a header of the family that `protocol` says can start at `inner`. */
function agrees(view: DataView, inner: number, end: number, protocol: number): boolean {
  const available = (end - inner) | 0;
  if (protocol === IpProtocol.ipip) return available >= Wire.ipv4Bytes && view.getUint8(inner) >>> 4 === 4;
  return protocol === IpProtocol.ipv6 && available >= Wire.ipv6Bytes && view.getUint8(inner) >>> 4 === 6;
}

function openIpv4(packet: Packet, inner: number, end: number): DropReason {
  const view = packet.view;
  const first = view.getUint16(inner);
  const totalLength = view.getUint16(inner + 2);
  const headerBytes = (first >>> 6) & 0x3c;
  if (headerBytes < Wire.ipv4Bytes || totalLength < headerBytes || totalLength > end - inner) {
    return DropReason.decapMalformed;
  }
  const ecn = mergedEcn(packet.tos & 3, first & 3);
  if (ecn < 0) return DropReason.decapMalformed;
  const ttlAndProtocol = view.getUint16(inner + 8);
  if (ttlAndProtocol >>> 8 <= 1) return DropReason.ttlExpired;

  const marked = (first & 0xfffc) | ecn;
  const checksum = updateChecksum(view.getUint16(inner + 10), first, marked);
  view.setUint16(inner, marked);
  view.setUint16(inner + 8, ttlAndProtocol - 0x100);
  view.setUint16(inner + 10, updateChecksum(checksum, ttlAndProtocol, ttlAndProtocol - 0x100));
  moveEthernet(packet, inner, EtherType.ipv4);
  return DropReason.none;
}

function openIpv6(packet: Packet, inner: number, end: number): DropReason {
  const view = packet.view;
  const first = view.getUint16(inner);
  const hopLimit = view.getUint8(inner + 7);
  if (Wire.ipv6Bytes + view.getUint16(inner + 4) > end - inner) return DropReason.decapMalformed;
  const ecn = mergedEcn(packet.tos & 3, (first >>> 4) & 3);
  if (ecn < 0) return DropReason.decapMalformed;
  if (hopLimit <= 1) return DropReason.ttlExpired;

  view.setUint16(inner, (first & 0xffcf) | (ecn << 4));
  view.setUint8(inner + 7, hopLimit - 1);
  moveEthernet(packet, inner, EtherType.ipv6);
  return DropReason.none;
}

/** Puts the Ethernet header and its tags in front of `inner`, and the packet's start there. All is read first: the two may overlap. */
function moveEthernet(packet: Packet, inner: number, etherType: number): void {
  const view = packet.view;
  const from = packet.data;
  const tags = packet.vlanTags;
  const to = (inner - Wire.ethernetBytes - (tags << 2)) | 0;
  const word0 = view.getInt32(from);
  const word1 = view.getInt32(from + 4);
  const word2 = view.getInt32(from + 8);
  const tag0 = view.getInt32(from + 12);
  const tag1 = view.getInt32(from + 16);
  view.setInt32(to, word0);
  view.setInt32(to + 4, word1);
  view.setInt32(to + 8, word2);
  if (tags > 0) view.setInt32(to + 12, tag0);
  if (tags > 1) view.setInt32(to + 16, tag1);
  view.setUint16(inner - 2, etherType);
  packet.data = to;
  packet.metaLength = 0;
}

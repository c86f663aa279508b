import { DropReason } from '../verdict.js';
import { PacketFlag, type Packet } from './packet.js';
import { EtherType, IpProtocol, Wire } from './wire.js';

/** Longest chain of IPv6 extension headers that is followed. Linux's own hosts send at most four. */
export const MAX_EXTENSION_HEADERS = 8;

/**
 * Reads Ethernet, up to two VLAN tags, IPv4 or IPv6 and the transport header into the packet's fields. Never reads
 * outside `data..dataEnd` and never throws. Returns a DropReason, also left in `packet.malformed`: `none` for
 * a well-formed packet, which includes frames that are not IP at all (`family` 0).
 *
 * Lengths that disagree are errors: an IP length beyond the frame, a TCP data offset beyond the IP packet, a UDP length beyond
 * it. Bytes behind the IP packet (padding, trailers) are allowed and are not counted in `l3Length`.
 */
export function parse(packet: Packet): DropReason {
  return parsePlain(packet) ? DropReason.none : parseAny(packet);
}

/**
 * The packet that nearly all packets are: untagged, IPv4 without options, no fragment, TCP or UDP, lengths that agree. Finds in
 * eight reads what parseAny() would; false, with nothing decided, for every other packet.
 */
function parsePlain(packet: Packet): boolean {
  const view = packet.view;
  const l3 = (packet.data + Wire.ethernetBytes) | 0;
  const available = (packet.dataEnd - l3) | 0;
  if (available < Wire.ipv4Bytes + Wire.udpBytes) return false;
  const typeAndTos = view.getInt32((l3 - 2) | 0);
  if (typeAndTos >>> 8 !== 0x080045) return false;
  const totalLength = view.getUint16((l3 + 2) | 0);
  const fragmentAndProtocol = view.getInt32((l3 + 6) | 0);
  if ((fragmentAndProtocol & 0x3fff0000) !== 0 || totalLength > available) return false;
  const l4 = (l3 + Wire.ipv4Bytes) | 0;
  const rest = (totalLength - Wire.ipv4Bytes) | 0;
  const protocol = fragmentAndProtocol & 0xff;
  if (protocol === IpProtocol.udp) {
    if (rest < Wire.udpBytes) return false;
    const length = view.getUint16((l4 + 4) | 0);
    if (length < Wire.udpBytes || length > rest) return false;
  } else if (protocol === IpProtocol.tcp) {
    if (rest < Wire.tcpBytes) return false;
    const headerBytes = (view.getUint8(l4 + 12) >>> 2) & 0x3c;
    if (headerBytes < Wire.tcpBytes || headerBytes > rest) return false;
  } else {
    return false;
  }
  const src = view.getInt32((l3 + 12) | 0);
  const dst = view.getInt32((l3 + 16) | 0);
  const ports = view.getInt32(l4);
  if (packet.family !== 4) clearHighWords(packet);
  packet.etherType = EtherType.ipv4;
  packet.vlanTags = 0;
  packet.family = 4;
  packet.l3 = l3;
  packet.l3Length = totalLength;
  packet.l4 = l4;
  packet.protocol = protocol;
  packet.src0 = src;
  packet.dst0 = dst;
  packet.ports = ports;
  packet.flags = PacketFlag.hasPorts | ((fragmentAndProtocol >>> 27) & PacketFlag.dontFragment);
  packet.malformed = DropReason.none;
  return true;
}

function parseAny(packet: Packet): DropReason {
  const view = packet.view;
  const data = packet.data;
  packet.vlanTags = 0;
  packet.flags = 0;
  packet.l4 = 0;
  packet.protocol = 0;
  packet.ports = 0;
  if (packet.dataEnd - data < Wire.ethernetBytes) return malformed(packet, DropReason.ethernetTruncated);
  const etherType = view.getUint16(data + 12);
  if (etherType === EtherType.ipv4) return parseIpv4(packet, data + Wire.ethernetBytes);
  if (etherType === EtherType.ipv6) return parseIpv6(packet, data + Wire.ethernetBytes);
  return parseOther(packet, etherType);
}

function malformed(packet: Packet, reason: DropReason): DropReason {
  packet.malformed = reason;
  return reason;
}

/** VLAN tags, and everything that is not IP. */
function parseOther(packet: Packet, firstType: number): DropReason {
  let etherType = firstType;
  let l3 = packet.data + Wire.ethernetBytes;
  while (etherType === EtherType.vlan || etherType === EtherType.serviceVlan) {
    if (packet.vlanTags === 2) return malformed(packet, DropReason.vlanTooDeep);
    if (packet.dataEnd - l3 < Wire.vlanBytes) return malformed(packet, DropReason.vlanTruncated);
    etherType = packet.view.getUint16(l3 + 2);
    l3 += Wire.vlanBytes;
    packet.vlanTags++;
  }
  if (etherType === EtherType.ipv4) return parseIpv4(packet, l3);
  if (etherType === EtherType.ipv6) return parseIpv6(packet, l3);
  packet.etherType = etherType;
  packet.family = 0;
  packet.l3 = l3;
  packet.l3Length = packet.dataEnd - l3;
  packet.malformed = DropReason.none;
  return DropReason.none;
}

/** RFC 791. Reads the fixed header as five words. */
function parseIpv4(packet: Packet, l3: number): DropReason {
  const view = packet.view;
  const available = (packet.dataEnd - l3) | 0;
  packet.etherType = EtherType.ipv4;
  packet.l3 = l3;
  if (packet.family !== 4) clearHighWords(packet);
  packet.family = 4;
  if (available < Wire.ipv4Bytes) return malformed(packet, DropReason.ipv4Truncated);

  const first = view.getInt32(l3);
  const headerBytes = (first >>> 22) & 0x3c;
  const totalLength = first & 0xffff;
  if (first >>> 28 !== 4) return malformed(packet, DropReason.ipv4Version);
  if (headerBytes < Wire.ipv4Bytes || headerBytes > available) return malformed(packet, DropReason.ipv4HeaderLength);
  if (totalLength < headerBytes || totalLength > available) return malformed(packet, DropReason.ipv4TotalLength);

  const fragmentWord = view.getInt32(l3 + 4);
  const third = view.getInt32(l3 + 8);
  packet.l3Length = totalLength;
  packet.protocol = (third >>> 16) & 0xff;
  packet.src0 = view.getInt32(l3 + 12);
  packet.dst0 = view.getInt32(l3 + 16);

  let flags = 0;
  if (headerBytes !== Wire.ipv4Bytes) flags = PacketFlag.options;
  if (fragmentWord & 0x4000) flags |= PacketFlag.dontFragment;
  if (fragmentWord & 0x3fff) {
    flags |= PacketFlag.fragment;
    if (fragmentWord & 0x1fff) {
      packet.flags = flags | PacketFlag.laterFragment;
      packet.malformed = DropReason.none;
      return DropReason.none;
    }
  }
  packet.flags = flags;
  return parseTransport(packet, l3 + headerBytes, l3 + totalLength);
}

/** The slot's packet before this one may have been IPv6. */
function clearHighWords(packet: Packet): void {
  packet.src1 = packet.src2 = packet.src3 = 0;
  packet.dst1 = packet.dst2 = packet.dst3 = 0;
}

/** RFC 8200. */
function parseIpv6(packet: Packet, l3: number): DropReason {
  const view = packet.view;
  const available = (packet.dataEnd - l3) | 0;
  packet.etherType = EtherType.ipv6;
  packet.l3 = l3;
  packet.family = 6;
  if (available < Wire.ipv6Bytes) return malformed(packet, DropReason.ipv6Truncated);

  const first = view.getInt32(l3);
  const second = view.getInt32(l3 + 4);
  const length = (Wire.ipv6Bytes + (second >>> 16)) | 0;
  if (first >>> 28 !== 6) return malformed(packet, DropReason.ipv6Version);
  if (length > available) return malformed(packet, DropReason.ipv6PayloadLength);

  packet.l3Length = length;
  packet.src0 = view.getInt32(l3 + 8);
  packet.src1 = view.getInt32(l3 + 12);
  packet.src2 = view.getInt32(l3 + 16);
  packet.src3 = view.getInt32(l3 + 20);
  packet.dst0 = view.getInt32(l3 + 24);
  packet.dst1 = view.getInt32(l3 + 28);
  packet.dst2 = view.getInt32(l3 + 32);
  packet.dst3 = view.getInt32(l3 + 36);

  const next = (second >>> 8) & 0xff;
  packet.protocol = next;
  if (next === IpProtocol.tcp || next === IpProtocol.udp || next === IpProtocol.icmpv6) {
    return parseTransport(packet, l3 + Wire.ipv6Bytes, l3 + length);
  }
  return parseExtensions(packet, next, l3 + Wire.ipv6Bytes, l3 + length);
}

/** Follows the chain of extension headers (RFC 8200 §4, AH in 4-byte units by RFC 4302) to the transport header. */
function parseExtensions(packet: Packet, first: number, start: number, end: number): DropReason {
  const view = packet.view;
  let next = first;
  let at = start;
  for (let depth = 0; isExtension(next); depth++) {
    if (depth === MAX_EXTENSION_HEADERS) return malformed(packet, DropReason.ipv6ExtensionsTooMany);
    if (end - at < 8) return malformed(packet, DropReason.ipv6ExtensionTruncated);
    let bytes = 8;
    if (next === IpProtocol.fragment) {
      const word = view.getUint16(at + 2);
      if (word & 0xfff9) packet.flags |= PacketFlag.fragment;
      if (word & 0xfff8) {
        packet.flags |= PacketFlag.laterFragment;
        packet.protocol = view.getUint8(at);
        packet.malformed = DropReason.none;
        return DropReason.none;
      }
    } else {
      packet.flags |= PacketFlag.options;
      const units = view.getUint8(at + 1);
      bytes = next === IpProtocol.authentication ? (units + 2) << 2 : (units + 1) << 3;
    }
    if (end - at < bytes) return malformed(packet, DropReason.ipv6ExtensionTruncated);
    next = view.getUint8(at);
    at += bytes;
  }
  packet.protocol = next;
  return parseTransport(packet, at, end);
}

export function isExtension(protocol: number): boolean {
  switch (protocol) {
    case IpProtocol.hopByHop:
    case IpProtocol.routing:
    case IpProtocol.fragment:
    case IpProtocol.authentication:
    case IpProtocol.destinationOptions:
    case IpProtocol.mobility:
    case IpProtocol.hip:
    case IpProtocol.shim6:
      return true;
    default:
      return false;
  }
}

function parseTransport(packet: Packet, l4: number, end: number): DropReason {
  const view = packet.view;
  const available = (end - l4) | 0;
  packet.l4 = l4;
  packet.malformed = DropReason.none;
  switch (packet.protocol) {
    case IpProtocol.tcp: {
      if (available < Wire.tcpBytes) return malformed(packet, DropReason.tcpTruncated);
      const word = view.getInt32(l4 + 12);
      const headerBytes = (word >>> 26) & 0x3c;
      if (headerBytes < Wire.tcpBytes || headerBytes > available) return malformed(packet, DropReason.tcpDataOffset);
      packet.ports = view.getInt32(l4);
      packet.flags |= PacketFlag.hasPorts;
      return DropReason.none;
    }
    case IpProtocol.udp: {
      if (available < Wire.udpBytes) return malformed(packet, DropReason.udpTruncated);
      const length = view.getUint16(l4 + 4);
      if (length < Wire.udpBytes) return malformed(packet, DropReason.udpLength);
      // The length of a fragmented datagram is the whole's, so it may be more than this fragment has.
      if (length > available && (packet.flags & PacketFlag.fragment) === 0) {
        return malformed(packet, DropReason.udpLength);
      }
      packet.ports = view.getInt32(l4);
      packet.flags |= PacketFlag.hasPorts;
      return DropReason.none;
    }
    case IpProtocol.icmp:
    case IpProtocol.icmpv6:
      return available < Wire.icmpBytes ? malformed(packet, DropReason.icmpTruncated) : DropReason.none;
    default:
      return parseOtherTransport(packet, l4, available);
  }
}

function parseOtherTransport(packet: Packet, l4: number, available: number): DropReason {
  const protocol = packet.protocol;
  if (protocol === IpProtocol.sctp || protocol === IpProtocol.dccp || protocol === IpProtocol.udpLite) {
    if (available >= 8) {
      packet.ports = packet.view.getInt32(l4);
      packet.flags |= PacketFlag.hasPorts;
    }
  }
  return DropReason.none;
}

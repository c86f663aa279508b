import { DropReason } from '../verdict.js';
import { IcmpOffset, Icmp6Type } from './icmp.js';
import { PacketFlag, type Packet } from './packet.js';
import { isExtension, MAX_EXTENSION_HEADERS } from './parse.js';
import { swapAddresses } from './turn_around.js';
import { IpProtocol, Wire } from './wire.js';

/**
 * Reads the packet that an ICMP error is about, and leaves in `inner` the flow that the error belongs to: that of the packets
 * *from client to service*. With direct return it is the backend that sent the quoted packet, from the service's address to the client, so what
 * is the quoted packet's source is the flow's destination, and the other way round.
 *
 * `inner` is a packet object for nothing else, over any memory. Set are the fields that hashes, flow table and service table read: `family`, addresses,
 * `ports`, `protocol`, `flags` (hasPorts), and `l3`. Its `l4` is 0: of a transport header no more than 8 bytes need be there (RFC 792).
 *
 * `icmpInner` when it does not hold enough: a quote cut before the ports, of another IP version, of a fragment behind the first (no
 * ports), with a chain of extension headers that does not end, or of a packet that was not sent from the address that the error went to.
 *
 * The packet must have been parsed, and isIcmpError().
 */
export function readInner(packet: Packet, inner: Packet): DropReason {
  const at = (packet.l4 + IcmpOffset.quote) | 0;
  const l4 = readQuote(packet, inner, at, quoteEnd(packet), packet.family);
  if (l4 === 0 || !isSourceOfQuote(packet, inner)) return DropReason.icmpInner;
  swapDirection(inner);
  return DropReason.none;
}

/** Shortest quote that objects may follow (RFC 4884 §3). */
const MIN_PADDED_QUOTE = 128;

/** Behind the last byte of the quote: the message's end, or where the objects of RFC 4884 start. */
export function quoteEnd(packet: Packet): number {
  const { view, l4 } = packet;
  const end = (packet.l3 + packet.l3Length) | 0;
  let bytes = 0;
  if (packet.family === 4) {
    bytes = view.getUint8(l4 + IcmpOffset.quoteWords4) << 2;
  } else {
    const type = view.getUint8(l4);
    const mayBeLong = type === Icmp6Type.unreachable || type === Icmp6Type.timeExceeded;
    if (mayBeLong) bytes = view.getUint8(l4 + IcmpOffset.quoteWords6) << 3;
  }
  const objects = (l4 + IcmpOffset.quote + bytes) | 0;
  return bytes >= MIN_PADDED_QUOTE && objects < end ? objects : end;
}

/**
 * Fills `quoted` with the flow of the IP packet of `family` whose first bytes lie at `at`..`end`, as its sender wrote it. Returns the offset of
 * its transport header, 0 when there is too little of it. `carrier`: the packet that it lies in.
 */
export function readQuote(carrier: Packet, quoted: Packet, at: number, end: number, family: number): number {
  quoted.data = carrier.data;
  quoted.dataEnd = end;
  quoted.metaLength = 0;
  quoted.port = carrier.port;
  quoted.vlanTags = carrier.vlanTags;
  quoted.family = family;
  quoted.l3 = at;
  quoted.l3Length = (end - at) | 0;
  quoted.l4 = 0;
  quoted.ports = 0;
  quoted.flags = 0;
  quoted.malformed = DropReason.none;
  quoted.flow = -1;
  const l4 = family === 4 ? readIpv4(carrier.view, quoted, at, end) : readIpv6(carrier.view, quoted, at, end);
  if (l4 === 0) return 0;
  return readPorts(carrier.view, quoted, l4, end) ? l4 : 0;
}

function readIpv4(view: DataView, quoted: Packet, at: number, end: number): number {
  if (end - at < Wire.ipv4Bytes) return 0;
  const version = view.getUint8(at);
  const headerBytes = (version & 15) << 2;
  if (version >>> 4 !== 4 || headerBytes < Wire.ipv4Bytes || headerBytes > end - at) return 0;
  const fragment = view.getUint16(at + 6);
  if ((fragment & 0x1fff) !== 0) return 0;
  quoted.flags = (fragment & 0x4000) !== 0 ? PacketFlag.dontFragment : 0;
  quoted.protocol = view.getUint8(at + 9);
  quoted.src0 = view.getInt32(at + 12);
  quoted.dst0 = view.getInt32(at + 16);
  quoted.src1 = quoted.src2 = quoted.src3 = 0;
  quoted.dst1 = quoted.dst2 = quoted.dst3 = 0;
  return (at + headerBytes) | 0;
}

function readIpv6(view: DataView, quoted: Packet, at: number, end: number): number {
  if (end - at < Wire.ipv6Bytes || view.getUint8(at) >>> 4 !== 6) return 0;
  quoted.src0 = view.getInt32(at + 8);
  quoted.src1 = view.getInt32(at + 12);
  quoted.src2 = view.getInt32(at + 16);
  quoted.src3 = view.getInt32(at + 20);
  quoted.dst0 = view.getInt32(at + 24);
  quoted.dst1 = view.getInt32(at + 28);
  quoted.dst2 = view.getInt32(at + 32);
  quoted.dst3 = view.getInt32(at + 36);
  let next = view.getUint8(at + 6);
  let header = (at + Wire.ipv6Bytes) | 0;
  for (let depth = 0; isExtension(next); depth++) {
    if (depth === MAX_EXTENSION_HEADERS || end - header < 8) return 0;
    let bytes = 8;
    if (next === IpProtocol.fragment) {
      if ((view.getUint16(header + 2) & 0xfff8) !== 0) return 0;
    } else {
      const units = view.getUint8(header + 1);
      bytes = next === IpProtocol.authentication ? (units + 2) << 2 : (units + 1) << 3;
    }
    if (bytes > end - header) return 0;
    next = view.getUint8(header);
    header = (header + bytes) | 0;
  }
  quoted.protocol = next;
  return header;
}

/** False for a transport that has ports, of which they are not there. */
function readPorts(view: DataView, quoted: Packet, l4: number, end: number): boolean {
  switch (quoted.protocol) {
    case IpProtocol.tcp:
    case IpProtocol.udp:
    case IpProtocol.sctp:
    case IpProtocol.dccp:
    case IpProtocol.udpLite:
      if (end - l4 < 4) return false;
      quoted.ports = view.getInt32(l4);
      quoted.flags |= PacketFlag.hasPorts;
      return true;
    default:
      return true;
  }
}

/** An error goes to the source of what it is about; one that does not was made up. */
export function isSourceOfQuote(packet: Packet, quoted: Packet): boolean {
  return (
    packet.dst0 === quoted.src0 &&
    packet.dst1 === quoted.src1 &&
    packet.dst2 === quoted.src2 &&
    packet.dst3 === quoted.src3
  );
}

function swapDirection(packet: Packet): void {
  swapAddresses(packet);
  packet.ports = (packet.ports << 16) | (packet.ports >>> 16);
}

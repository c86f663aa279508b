/**
 * The outer headers of a check's packets, as the data path makes them (docs/encapsulation.md). This one is for some thousand
 * packets a second and makes a new frame for each; the data path's is for millions and works in place.
 */
import { addressToBytes } from '../../../shared/addr.js';
import type { Address } from '../../../shared/config.js';

/** The way of a backend's packets, as the tables in force have it. */
export interface TunnelRoute {
  /** Interface that leads there. */
  interface: string;
  /** Hardware addresses: the interface's, and the next hop's; 6 bytes each. */
  smac: Uint8Array;
  dmac: Uint8Array;
  /** Outer source, of the destination's family. */
  sourceAddress: Address;
  /** Outer destination: the backend. */
  destination: Address;
  /** As `ServiceConfig.encapsulation`: `gue` counts for that kind only. */
  encapsulation: {
    kind: 'ipip' | 'gue' | 'l2';
    gue: { port: number; variant: 0 | 1; checksum: 'zero' | 'computed' };
  };
}

/** What is to be known of a packet that the host has sent into the device. */
export interface InnerPacket {
  family: 4 | 6;
  /** IP packet, without Ethernet header and padding; a view of the frame. */
  bytes: Buffer;
  /** TOS or traffic class. */
  tos: number;
  /** TCP or UDP source port: whose check it is. */
  sport: number;
}

const ETHERNET_BYTES = 14;
const ETHERTYPE = { 4: 0x0800, 6: 0x86dd } as const;
const IP_HEADER_BYTES = { 4: 20, 6: 40 } as const;
const TTL = 64;
const PROTO_TCP = 6;
const PROTO_UDP = 17;
/** IPv4 and IPv6 in IP (RFC 2003, RFC 2473, RFC 4213). */
const PROTO_INNER = { 4: 4, 6: 41 } as const;
const UDP_BYTES = 8;
const GUE_BYTES = 4;

/** A TCP or UDP packet in an Ethernet frame; null for everything else that a host sends by itself. */
export function readInner(frame: Uint8Array): InnerPacket | null {
  const all = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  if (all.length < ETHERNET_BYTES + 20) return null;
  const type = all.readUInt16BE(12);
  const ip = all.subarray(ETHERNET_BYTES);
  if (type === ETHERTYPE[4]) {
    const header = (ip[0] & 15) * 4;
    const length = ip.readUInt16BE(2);
    // Later fragments have no ports; requests are too short to be cut.
    const fragment = (ip.readUInt16BE(6) & 0x3fff) !== 0;
    if (ip[0] >> 4 !== 4 || header < 20 || fragment || !hasPorts(ip[9]) || length > ip.length || length < header + 8)
      return null;
    return { family: 4, bytes: ip.subarray(0, length), tos: ip[1], sport: ip.readUInt16BE(header) };
  }
  if (type !== ETHERTYPE[6] || ip.length < 48 || ip[0] >> 4 !== 6 || !hasPorts(ip[6])) return null;
  const length = 40 + ip.readUInt16BE(4);
  if (length > ip.length || length < 48) return null;
  return { family: 6, bytes: ip.subarray(0, length), tos: (ip.readUInt16BE(0) >> 4) & 255, sport: ip.readUInt16BE(40) };
}

function hasPorts(protocol: number): boolean {
  return protocol === PROTO_TCP || protocol === PROTO_UDP;
}

/** The frame to send for a packet of a check. */
export function wrap(inner: InnerPacket, route: TunnelRoute): Uint8Array {
  const { kind, gue } = route.encapsulation;
  const family = kind === 'l2' ? inner.family : route.destination.family;
  const ethernet = Buffer.alloc(ETHERNET_BYTES);
  ethernet.set(route.dmac, 0);
  ethernet.set(route.smac, 6);
  ethernet.writeUInt16BE(ETHERTYPE[family], 12);
  if (kind === 'l2') return Buffer.concat([ethernet, inner.bytes]);
  if (kind === 'ipip') {
    const ip = outerIp(route, PROTO_INNER[inner.family], inner.bytes.length, inner.tos);
    return Buffer.concat([ethernet, ip, inner.bytes]);
  }
  const payload = gue.variant === 1 ? [inner.bytes] : [gueHeader(inner.family), inner.bytes];
  const length = UDP_BYTES + payload.reduce((sum, part) => sum + part.length, 0);
  const ip = outerIp(route, PROTO_UDP, length, inner.tos);
  const udp = Buffer.alloc(UDP_BYTES);
  // The data path's way: the upper half of the ports, and the same for all packets of a flow.
  udp.writeUInt16BE(0x8000 | (inner.sport & 0x7fff), 0);
  udp.writeUInt16BE(gue.port, 2);
  udp.writeUInt16BE(length, 4);
  if (gue.checksum === 'computed') {
    const sum = checksum([pseudoHeader(route, length), udp, ...payload]);
    // 0 would say that there is none (RFC 768).
    udp.writeUInt16BE(sum === 0 ? 0xffff : sum, 6);
  }
  return Buffer.concat([ethernet, ip, udp, ...payload]);
}

/** GUE variant 0 without private data (draft-ietf-intarea-gue-09 §3.1). */
function gueHeader(family: 4 | 6): Buffer {
  const header = Buffer.alloc(GUE_BYTES);
  header[1] = PROTO_INNER[family];
  return header;
}

function outerIp({ sourceAddress, destination }: TunnelRoute, protocol: number, length: number, tos: number): Buffer {
  const ip = Buffer.alloc(IP_HEADER_BYTES[destination.family]);
  if (destination.family === 4) {
    ip[0] = 0x45;
    ip[1] = tos;
    ip.writeUInt16BE(ip.length + length, 2);
    // An atomic datagram (RFC 6864): id 0, don't fragment.
    ip.writeUInt16BE(0x4000, 6);
    ip[8] = TTL;
    ip[9] = protocol;
    ip.set(addressToBytes(sourceAddress), 12);
    ip.set(addressToBytes(destination), 16);
    ip.writeUInt16BE(checksum([ip]), 10);
    return ip;
  }
  ip.writeUInt32BE(((6 << 28) | (tos << 20)) >>> 0, 0);
  ip.writeUInt16BE(length, 4);
  ip[6] = protocol;
  ip[7] = TTL;
  ip.set(addressToBytes(sourceAddress), 8);
  ip.set(addressToBytes(destination), 24);
  return ip;
}

/** RFC 768, and RFC 8200 §8.1: sums are equal for both ways to write the length. */
function pseudoHeader({ sourceAddress, destination }: TunnelRoute, length: number): Buffer {
  const tail = Buffer.alloc(8);
  tail.writeUInt32BE(length, 0);
  tail[7] = PROTO_UDP;
  return Buffer.concat([addressToBytes(sourceAddress), addressToBytes(destination), tail]);
}

/** RFC 1071 over parts of which all but the last have an even length. */
function checksum(parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += (part[i] << 8) | (part[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

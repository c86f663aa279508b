import type { Packet } from './packet.js';
import { isToGroup } from './turn_around.js';
import { IpProtocol } from './wire.js';

/** ICMP types (RFC 792). */
export const enum IcmpType {
  echoReply = 0,
  unreachable = 3,
  /** Withdrawn; hosts ignore it (RFC 6633). */
  sourceQuench = 4,
  redirect = 5,
  echoRequest = 8,
  timeExceeded = 11,
  parameterProblem = 12,
}

/** Codes of IcmpType.unreachable. */
export const enum UnreachableCode {
  host = 1,
  fragmentationNeeded = 4,
}

/** ICMPv6 types (RFC 4443). Errors are those below 128. */
export const enum Icmp6Type {
  unreachable = 1,
  packetTooBig = 2,
  timeExceeded = 3,
  parameterProblem = 4,
  firstInformational = 128,
  echoRequest = 128,
  echoReply = 129,
  /** Neighbour discovery's; treated as an error where errors must not be answered (RFC 4443 §2.4). */
  redirect = 137,
}

/** Codes of Icmp6Type.unreachable. */
export const enum Unreachable6Code {
  address = 3,
}

/** Offsets in an ICMP message. */
export const enum IcmpOffset {
  checksum = 2,
  /** IPv4, types 3, 11 and 12: words of the quote when something follows it, else 0 (RFC 4884 §4.1). */
  quoteWords4 = 5,
  /** IPv6, types 1 and 3: the same in units of 8 bytes. */
  quoteWords6 = 4,
  /** Fragmentation needed: next-hop MTU, 16 bits (RFC 1191). */
  mtu4 = 6,
  /** Packet too big: MTU, 32 bits. */
  mtu6 = 4,
  quote = 8,
}

/**
 * Whether the packet is an ICMP error that tells of a packet of somebody: unreachable, too big, time exceeded, parameter problem. Not
 * so redirects, which are the business of the link, and source quench.
 */
export function isIcmpError(packet: Packet): boolean {
  if (packet.l4 === 0) return false;
  if (packet.protocol === IpProtocol.icmp && packet.family === 4) {
    const type = packet.view.getUint8(packet.l4);
    return type === IcmpType.unreachable || type === IcmpType.timeExceeded || type === IcmpType.parameterProblem;
  }
  if (packet.protocol === IpProtocol.icmpv6 && packet.family === 6) {
    const type = packet.view.getUint8(packet.l4);
    return type >= Icmp6Type.unreachable && type <= Icmp6Type.parameterProblem;
  }
  return false;
}

/** Whether the packet is an ICMP message of its own family that asks for an echo. */
export function isEchoRequest(packet: Packet): boolean {
  if (packet.l4 === 0) return false;
  if (packet.protocol === IpProtocol.icmp && packet.family === 4) {
    return packet.view.getUint8(packet.l4) === IcmpType.echoRequest;
  }
  return (
    packet.protocol === IpProtocol.icmpv6 &&
    packet.family === 6 &&
    packet.view.getUint8(packet.l4) === Icmp6Type.echoRequest
  );
}

/**
 * Whether its sender may be told that the packet went wrong (RFC 1122 §3.2.2, RFC 4443 §2.4 e). Not about ICMP errors and redirects, not
 * about what went to a group, not to an address that is no single host's. `type`: of an ICMP message its type, else −1.
 */
export function mayReport(packet: Packet, type: number): boolean {
  if (isToGroup(packet) || !isUnicastSource(packet)) return false;
  if (packet.protocol === IpProtocol.icmp) {
    return type >= 0 && (type < IcmpType.unreachable || (type > IcmpType.redirect && !isLateError(type)));
  }
  if (packet.protocol === IpProtocol.icmpv6) return type >= Icmp6Type.firstInformational && type !== Icmp6Type.redirect;
  return true;
}

function isLateError(type: number): boolean {
  return type === IcmpType.timeExceeded || type === IcmpType.parameterProblem;
}

/** Whether the source can be an answer's destination: not unspecified, loopback, group, reserved. */
export function isUnicastSource(packet: Packet): boolean {
  const { src0, src1, src2, src3 } = packet;
  const first = src0 >>> 24;
  if (packet.family === 4) return first !== 0 && first !== 127 && first < 224;
  return first !== 0xff && !(src0 === 0 && src1 === 0 && src2 === 0 && (src3 === 0 || src3 === 1));
}

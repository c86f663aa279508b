/** What sets want to know of a packet. */

/** The fields of the data plane's Packet that a look-up reads; its class has them all. */
export interface SetPacket {
  readonly view: DataView;
  readonly family: number;
  readonly l3Length: number;
  readonly l4: number;
  readonly protocol: number;
  readonly src0: number;
  readonly src1: number;
  readonly src2: number;
  readonly src3: number;
  readonly dst0: number;
  readonly dst1: number;
  readonly dst2: number;
  readonly dst3: number;
  readonly ports: number;
  readonly malformed: number;
}

/** Which side's address and port are looked up: what iptables' `--match-set NAME src,dst` lists. 0: both of the source. */
export const enum SetSides {
  source = 0,
  addressDestination = 1,
  portDestination = 2,
  destination = 3,
}

/** IP protocols that a set's port element treats each in its way. */
export const enum PortProtocol {
  icmp = 1,
  tcp = 6,
  udp = 17,
  icmpv6 = 58,
  sctp = 132,
  udpLite = 136,
}

/**
 * Protocol << 16 | port of a packet as ipset sees it (ip_set_getport.c): TCP, UDP, SCTP and UDP-Lite have their port, ICMP and ICMPv6 type << 8 | code, every
 * other protocol port 0. −1 when the packet cannot say: it is malformed, or a later fragment of one of those (IPv4) or of anything (IPv6).
 */
export function portKeyOf(packet: SetPacket, destination: boolean): number {
  const { protocol, l4 } = packet;
  if (packet.malformed !== 0) return -1;
  if (protocol === PortProtocol.tcp || protocol === PortProtocol.udp) {
    if (l4 === 0) return -1;
    return (protocol << 16) | (destination ? packet.ports & 0xffff : packet.ports >>> 16);
  }
  return otherPortKey(packet, destination);
}

function otherPortKey({ view, family, protocol, l4, ports }: SetPacket, destination: boolean): number {
  switch (protocol) {
    case PortProtocol.sctp:
    case PortProtocol.udpLite:
      // A header cut short leaves `ports` 0, which no port of either has on the wire.
      if (l4 === 0 || ports === 0) return -1;
      return (protocol << 16) | (destination ? ports & 0xffff : ports >>> 16);
    case PortProtocol.icmp:
      return l4 === 0 ? -1 : (protocol << 16) | view.getUint16(l4);
    case PortProtocol.icmpv6:
      if (l4 !== 0) return (protocol << 16) | view.getUint16(l4);
      break;
  }
  return l4 === 0 && family === 6 ? -1 : protocol << 16;
}

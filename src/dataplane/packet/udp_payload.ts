import type { Packet } from './packet.js';
import { IpProtocol, Wire } from './wire.js';

/** Offset of the first byte behind the UDP header, or 0: not UDP, or a later fragment. The payload may be empty. */
export function udpPayload(packet: Packet): number {
  return packet.protocol === IpProtocol.udp && packet.l4 !== 0 ? (packet.l4 + Wire.udpBytes) | 0 : 0;
}

/**
 * Offset behind the last byte of the UDP payload that is in this packet. Call when `udpPayload` found one. Bytes that the IP packet has
 * behind the datagram do not belong to it; a first fragment has less than its UDP header says.
 */
export function udpPayloadEnd(packet: Packet): number {
  const bySelf = (packet.l4 + packet.view.getUint16(packet.l4 + 4)) | 0;
  const byIp = (packet.l3 + packet.l3Length) | 0;
  return bySelf < byIp ? bySelf : byIp;
}

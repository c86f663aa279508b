import { DropReason } from '../verdict.js';
import { PacketFlag, type Packet } from './packet.js';

/**
 * Sends a packet back where it came from: swaps source and destination of the Ethernet and IP headers and, where there are
 * any, the ports. No checksum changes by that. The payload, TTL and everything else stay: they are the answer's business.
 *
 * False, and nothing changed, for what must not be answered this way: a malformed packet, one that is not IP, and one to a
 * group address (RFC 1122 §3.2.1.3).
 */
export function turnAround(packet: Packet): boolean {
  const { view, data, l3 } = packet;
  if (packet.malformed !== DropReason.none || packet.family === 0 || isToGroup(packet)) return false;
  // Destination and source address of the Ethernet header, 6 bytes each.
  const high = view.getInt32(data);
  const low = view.getInt16(data + 4);
  view.setInt32(data, view.getInt32(data + 6));
  view.setInt16(data + 4, view.getInt16(data + 10));
  view.setInt32(data + 6, high);
  view.setInt16(data + 10, low);
  swapAddresses(packet);
  const first = l3 + (packet.family === 4 ? 12 : 8);
  const words = packet.family === 4 ? 4 : 16;
  for (let i = 0; i < words; i += 4) swapWords(view, first + i, first + words + i);
  if ((packet.flags & PacketFlag.hasPorts) !== 0) {
    packet.ports = (packet.ports << 16) | (packet.ports >>> 16);
    view.setInt32(packet.l4, packet.ports);
  }
  return true;
}

/** Whether the packet went to a group: a multicast or broadcast address of either layer. */
export function isToGroup(packet: Packet): boolean {
  if ((packet.view.getUint8(packet.data) & 1) !== 0) return true;
  const first = packet.dst0 >>> 24;
  return packet.family === 4 ? first >= 224 : first === 0xff;
}

/** In the parse results only; the bytes stay. */
export function swapAddresses(packet: Packet): void {
  const { src0, src1, src2, src3 } = packet;
  packet.src0 = packet.dst0;
  packet.src1 = packet.dst1;
  packet.src2 = packet.dst2;
  packet.src3 = packet.dst3;
  packet.dst0 = src0;
  packet.dst1 = src1;
  packet.dst2 = src2;
  packet.dst3 = src3;
}

function swapWords(view: DataView, a: number, b: number): void {
  const kept = view.getInt32(a);
  view.setInt32(a, view.getInt32(b));
  view.setInt32(b, kept);
}

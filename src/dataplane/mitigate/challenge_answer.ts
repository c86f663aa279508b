import { sumBytes, transportChecksum } from '../packet/checksum.js';
import { REPLY_TTL } from '../packet/echo.js';
import { isUnicastSource } from '../packet/icmp.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { isToGroup, turnAround } from '../packet/turn_around.js';
import { TcpFlag, Wire } from '../packet/wire.js';

/** Shortest Ethernet frame without its checksum (IEEE 802.3 §3.2.8). Frames that came in longer are not cut below. */
const SHORTEST_FRAME = 60;

/** First word of an IPv4 header without options, TOS 0, of 40 bytes in all; second word: no identification, don't fragment. */
const IPV4_FIRST = 0x45000028;
const IPV4_SECOND = 0x4000;
const IPV6_FIRST = 0x60000000;

/** Data offset and flags of a bare ACK, window 0. */
const TCP_FOURTH = (5 << 28) | (TcpFlag.ack << 16);

/** Whether a SYN can be answered: whole, without IP options or extension headers, from and to one host each. */
export function isAnswerable(syn: Packet): boolean {
  return (syn.flags & (PacketFlag.fragment | PacketFlag.options)) === 0 && isUnicastSource(syn) && !isToGroup(syn);
}

/**
 * Turns a SYN into its challenge, in place: a bare ACK with acknowledgement number `ack`, sequence number 0, window 0 and no options, back to
 * where the SYN came from; VLAN tags stay. Never longer than the SYN: headers alone, and padding to the shortest Ethernet frame
 * where the SYN had as much.
 *
 * False, and nothing changed, for a SYN that `isAnswerable` refuses.
 */
export function writeChallenge(packet: Packet, ack: number): boolean {
  if (!isAnswerable(packet) || !turnAround(packet)) return false;
  const { view, l3, l4 } = packet;
  const end = (l4 + Wire.tcpBytes) | 0;
  view.setInt32(l4 + 4, 0);
  view.setInt32(l4 + 8, ack);
  view.setInt32(l4 + 12, TCP_FOURTH);
  view.setInt32(l4 + 16, 0);
  packet.l3Length = (end - l3) | 0;
  view.setUint16(l4 + Wire.tcpChecksum, transportChecksum(packet));
  if (packet.family === 4) writeIpv4(packet);
  else writeIpv6(packet);
  trim(packet, end);
  return true;
}

/** All but the addresses, which are in place. */
function writeIpv4(packet: Packet): void {
  const { view, l3 } = packet;
  view.setInt32(l3, IPV4_FIRST);
  view.setInt32(l3 + 4, IPV4_SECOND);
  view.setInt32(l3 + 8, (REPLY_TTL << 24) | (packet.protocol << 16));
  const sum = sumBytes(view, l3, Wire.ipv4Bytes);
  // A sum of 40 bytes: folded in two steps at most.
  const once = (sum & 0xffff) + (sum >>> 16);
  const checksum = ~((once & 0xffff) + (once >>> 16)) & 0xffff;
  view.setUint16(l3 + 10, checksum);
  packet.flags |= PacketFlag.dontFragment;
}

function writeIpv6(packet: Packet): void {
  const { view, l3 } = packet;
  view.setInt32(l3, IPV6_FIRST);
  view.setInt32(l3 + 4, (Wire.tcpBytes << 16) | (packet.protocol << 8) | REPLY_TTL);
}

/** Ends the frame behind `end`, padded with zeros to the shortest frame as far as it had that. */
function trim(packet: Packet, end: number): void {
  const shortest = packet.data + SHORTEST_FRAME;
  const dataEnd = Math.max(end, Math.min(packet.dataEnd, shortest));
  for (let at = end; at < dataEnd; at++) packet.view.setUint8(at, 0);
  packet.dataEnd = dataEnd;
}

import { updateChecksum } from './checksum.js';
import { IcmpOffset, Icmp6Type, IcmpType, isEchoRequest, isUnicastSource } from './icmp.js';
import { PacketFlag, type Packet } from './packet.js';
import { turnAround } from './turn_around.js';

/** TTL and hop limit of what is made here (RFC 1700, Linux's default). */
export const REPLY_TTL = 64;

/**
 * Turns an echo request into its reply, in place: Ethernet and IP addresses swapped, TTL 64, checksums updated (RFC 1624); identifier, sequence
 * number and data as they came. A wrong checksum stays wrong, so that the asker sees it.
 *
 * False, and nothing changed, for all that is not an echo request, and for requests that are not answered: to a group, from an address
 * that is no host's, fragments, and with IP options or extension headers (a source route would have to be reversed, RFC 1122 §3.2.2.6).
 */
export function answerEcho(packet: Packet): boolean {
  if (!isEchoRequest(packet) || !isUnicastSource(packet)) return false;
  if ((packet.flags & (PacketFlag.fragment | PacketFlag.options)) !== 0 || !turnAround(packet)) return false;
  const { view, l3, l4 } = packet;
  const before = view.getUint16(l4);
  const type = packet.family === 4 ? IcmpType.echoReply : Icmp6Type.echoReply;
  const after = (type << 8) | (before & 0xff);
  const checksum = view.getUint16(l4 + IcmpOffset.checksum);
  view.setUint16(l4, after);
  const updated = updateChecksum(checksum, before, after);
  // A reply may be all zeros, of which no receiver takes 0 for the checksum: its sum never becomes 0xffff then. Where 0 is right, so is 0xffff.
  view.setUint16(l4 + IcmpOffset.checksum, updated === 0 ? 0xffff : updated);
  if (packet.family === 4) setTtl4(view, l3);
  else view.setUint8(l3 + 7, REPLY_TTL);
  return true;
}

function setTtl4(view: DataView, l3: number): void {
  const before = view.getUint16(l3 + 8);
  const after = (REPLY_TTL << 8) | (before & 0xff);
  view.setUint16(l3 + 8, after);
  view.setUint16(l3 + 10, updateChecksum(view.getUint16(l3 + 10), before, after));
}

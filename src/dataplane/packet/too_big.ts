import { IcmpType, Icmp6Type, mayReport, UnreachableCode } from './icmp.js';
import { MIN_MTU_4, MIN_MTU_6, writeIcmpError } from './icmp_write.js';
import { PacketFlag, type Packet } from './packet.js';
import { IpProtocol } from './wire.js';

/**
 * Turns a packet that does not fit on its way to the backend into the message that tells its sender, in place: ICMP fragmentation needed (type
 * 3 code 4, RFC 1191) or ICMPv6 packet too big (type 2, RFC 4443), from the address that the packet went to. The caller sends it out of the
 * port that the packet came in on (Verdict.Tx). `mtu`: the largest packet that fits, bytes from its IP header on.
 *
 * IPv4 packets without DF get it, too. A router would fragment them; this path does not, and senders that learn a path MTU (Linux)
 * then fragment by themselves, while all others lose nothing. An MTU below 1280 is told to IPv6 senders as 1280, as they must
 * not go below (RFC 8201 §4).
 *
 * False, and nothing changed, where nothing must or need be told: about ICMP errors, fragments behind the first, what went to a group
 * or came from no host's address (RFC 1122 §3.2.2, RFC 4443 §2.4 e); and where it would not help: the packet is within what is
 * told. Then it can only be dropped.
 */
export function makeTooBig(packet: Packet, mtu: number): boolean {
  if (packet.family === 0 || (packet.flags & PacketFlag.laterFragment) !== 0) return false;
  const isIpv4 = packet.family === 4;
  const least = isIpv4 ? MIN_MTU_4 : MIN_MTU_6;
  const told = mtu < least ? least : mtu;
  if (packet.l3Length <= told || !mayReport(packet, icmpTypeOf(packet))) return false;
  return isIpv4
    ? writeIcmpError(
        packet,
        packet,
        packet.l3,
        packet.l3Length,
        IcmpType.unreachable,
        UnreachableCode.fragmentationNeeded,
        told & 0xffff,
      )
    : writeIcmpError(packet, packet, packet.l3, packet.l3Length, Icmp6Type.packetTooBig, 0, told);
}

/** Type of an ICMP message, −1 of anything else. */
function icmpTypeOf(packet: Packet): number {
  const isIcmp = packet.protocol === IpProtocol.icmp || packet.protocol === IpProtocol.icmpv6;
  return isIcmp && packet.l4 !== 0 ? packet.view.getUint8(packet.l4) : -1;
}

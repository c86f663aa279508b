import { PacketFlag, type Packet } from './packet.js';
import { isExtension, MAX_EXTENSION_HEADERS } from './parse.js';
import { IpProtocol, Wire } from './wire.js';

/**
 * The number that all fragments of a datagram have in common: 16 bits of the IPv4 header, 32 of the IPv6 fragment header, as int32. The
 * packet must be a well-formed fragment; 0 for everything else. Encapsulation may have written in front of the packet, not over it.
 */
export function fragmentId(packet: Packet): number {
  if ((packet.flags & PacketFlag.fragment) === 0) return 0;
  const { view, l3 } = packet;
  if (packet.family === 4) return view.getUint16(l3 + 4);
  const end = (l3 + packet.l3Length) | 0;
  let next = view.getUint8(l3 + 6);
  let at = (l3 + Wire.ipv6Bytes) | 0;
  for (let depth = 0; depth < MAX_EXTENSION_HEADERS && isExtension(next) && end - at >= 8; depth++) {
    if (next === IpProtocol.fragment) return view.getInt32(at + 4);
    const units = view.getUint8(at + 1);
    const bytes = next === IpProtocol.authentication ? (units + 2) << 2 : (units + 1) << 3;
    next = view.getUint8(at);
    at = (at + bytes) | 0;
  }
  return 0;
}

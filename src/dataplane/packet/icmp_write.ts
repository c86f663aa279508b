import { fold, pseudoHeaderSum, sumBytes } from './checksum.js';
import { REPLY_TTL } from './echo.js';
import type { Packet } from './packet.js';
import { EtherType, IpProtocol, Wire } from './wire.js';

/** Bytes of an IPv4 error message that every host takes whole (RFC 1812 §4.3.2.3). */
const MAX_ERROR_4 = 576;
/** Bytes of an IPv6 error message: every link carries them (RFC 4443 §2.4 c). */
export const MIN_MTU_6 = 1280;
/** Every IPv4 link carries this much (RFC 791). */
export const MIN_MTU_4 = 68;
/** TOS of IPv4 error messages: internetwork control (RFC 1812 §4.3.2.5). */
const ERROR_TOS = 0xc0;

/**
 * Writes an ICMP error in front of the bytes that it quotes, which stay where they are, and makes it the frame's packet: Ethernet addresses of
 * the frame swapped, its tags kept, from the destination to the source of `about`, quoting of `quoteBytes` bytes at `quoteAt` as many as such a message
 * holds. `rest`: second word of the message. Atomic datagram (id 0, DF), checksums right.
 *
 * False, and nothing changed, when there is no room in front of the quote. What parse() found in `packet` no longer holds then.
 */
export function writeIcmpError(
  packet: Packet,
  about: Packet,
  quoteAt: number,
  quoteBytes: number,
  type: number,
  code: number,
  rest: number,
): boolean {
  const isIpv4 = about.family === 4;
  const l4 = (quoteAt - Wire.icmpBytes) | 0;
  const l3 = (l4 - (isIpv4 ? Wire.ipv4Bytes : Wire.ipv6Bytes)) | 0;
  const l2 = (l3 - Wire.ethernetBytes - (packet.vlanTags << 2)) | 0;
  if (l2 < packet.dataHardStart) return false;
  const room = isIpv4 ? MAX_ERROR_4 - Wire.ipv4Bytes - Wire.icmpBytes : MIN_MTU_6 - Wire.ipv6Bytes - Wire.icmpBytes;
  const quoted = quoteBytes < room ? quoteBytes : room;
  const length = (Wire.icmpBytes + quoted) | 0;

  const view = packet.view;
  turnEthernet(packet, l2);
  view.setUint16(l3 - 2, isIpv4 ? EtherType.ipv4 : EtherType.ipv6);
  if (isIpv4) writeIpv4(view, about, l3, length);
  else writeIpv6(view, about, l3, length);
  view.setInt32(l4, (type << 24) | (code << 16));
  view.setInt32(l4 + 4, rest);
  let sum = sumBytes(view, l4, length);
  if (!isIpv4) sum = (sum + pseudoHeaderSum(about, length) - about.protocol + IpProtocol.icmpv6) | 0;
  view.setUint16(l4 + 2, ~fold(sum) & 0xffff);

  packet.data = l2;
  packet.metaLength = 0;
  packet.dataEnd = (quoteAt + quoted) | 0;
  return true;
}

/** Moves the frame's Ethernet header with its tags to `to`, turned around. All is read before it is written: both may overlap. */
function turnEthernet(packet: Packet, to: number): void {
  const view = packet.view;
  const from = packet.data;
  const dstHigh = view.getInt32(from);
  const dstLow = view.getInt16(from + 4);
  const srcHigh = view.getInt32(from + 6);
  const srcLow = view.getInt16(from + 10);
  const tags = packet.vlanTags;
  const tag0 = tags > 0 ? view.getInt32(from + 12) : 0;
  const tag1 = tags > 1 ? view.getInt32(from + 16) : 0;
  view.setInt32(to, srcHigh);
  view.setInt16(to + 4, srcLow);
  view.setInt32(to + 6, dstHigh);
  view.setInt16(to + 10, dstLow);
  if (tags > 0) view.setInt32(to + 12, tag0);
  if (tags > 1) view.setInt32(to + 16, tag1);
}

function writeIpv4(view: DataView, about: Packet, l3: number, length: number): void {
  view.setInt32(l3, 0x45000000 | (ERROR_TOS << 16) | (Wire.ipv4Bytes + length));
  view.setInt32(l3 + 4, 0x00004000);
  view.setInt32(l3 + 8, (REPLY_TTL << 24) | (IpProtocol.icmp << 16));
  view.setInt32(l3 + 12, about.dst0);
  view.setInt32(l3 + 16, about.src0);
  view.setUint16(l3 + 10, ~fold(sumBytes(view, l3, Wire.ipv4Bytes)) & 0xffff);
}

function writeIpv6(view: DataView, about: Packet, l3: number, length: number): void {
  view.setInt32(l3, 0x60000000);
  view.setInt32(l3 + 4, (length << 16) | (IpProtocol.icmpv6 << 8) | REPLY_TTL);
  view.setInt32(l3 + 8, about.dst0);
  view.setInt32(l3 + 12, about.dst1);
  view.setInt32(l3 + 16, about.dst2);
  view.setInt32(l3 + 20, about.dst3);
  view.setInt32(l3 + 24, about.src0);
  view.setInt32(l3 + 28, about.src1);
  view.setInt32(l3 + 32, about.src2);
  view.setInt32(l3 + 36, about.src3);
}

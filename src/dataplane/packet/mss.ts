import { updateChecksum } from './checksum.js';
import type { Packet } from './packet.js';
import { mssOptionOffset } from './tcp_options.js';
import { IpProtocol, TcpFlag, Wire } from './wire.js';

/** No host has to take less (RFC 9293 §3.7.1: the MSS of a peer that names none). */
const MIN_MSS = 64;

/**
 * The largest MSS whose segments fit into packets of `mtu` bytes without IP and TCP options (RFC 9293 §3.7.1, RFC 6691).
 */
export function mssOf(mtu: number, family: number): number {
  const mss = (mtu - (family === 4 ? Wire.ipv4Bytes : Wire.ipv6Bytes) - Wire.tcpBytes) | 0;
  return mss < MIN_MSS ? MIN_MSS : mss;
}

/**
 * Lowers the MSS option of a SYN or SYN-ACK to `mss` bytes and updates the checksum (RFC 1624). Never raises one, and adds none where
 * there is none. True when it was lowered.
 *
 * The option says what its *sender* is willing to receive: on the way from client to service it limits what the backend sends to the
 * client, and nothing in the other direction.
 */
export function clampMss(packet: Packet, mss: number): boolean {
  if (packet.protocol !== IpProtocol.tcp || (packet.tcpFlags & TcpFlag.syn) === 0) return false;
  const option = mssOptionOffset(packet);
  if (option === 0) return false;
  const { view, l4 } = packet;
  const at = (option + 2) | 0;
  const before = view.getUint16(at);
  if (before <= mss) return false;
  view.setUint16(at, mss);
  const field = l4 + Wire.tcpChecksum;
  // At an odd place the value's bytes lie in two words of the sum, which is the same as one word with its bytes swapped.
  const isOdd = ((at - l4) & 1) !== 0;
  const removed = isOdd ? swapBytes(before) : before;
  const added = isOdd ? swapBytes(mss) : mss;
  view.setUint16(field, updateChecksum(view.getUint16(field), removed, added));
  return true;
}

function swapBytes(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

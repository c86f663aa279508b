import { BackendField, BackendFlag } from '../../shared/layout.js';
import { DropReason } from '../verdict.js';
import type { Packet } from './packet.js';
import { EtherType, IpProtocol, Wire } from './wire.js';

/** Time to live of the outer header: the internal network's own, not the client's (RFC 2003 §3.1). */
const OUTER_TTL = 64;

/**
 * Puts an outer IP header in front of the packet (IP in IP: RFC 2003, RFC 2473) and the next hop's Ethernet header in front of
 * that, in the frame's headroom. VLAN tags stay. TOS or traffic class is copied, ECN with it (RFC 6040 normal mode).
 * The outer IPv4 header has DF set and id 0 (an atomic datagram, RFC 6864): the MTU is checked here, so nobody needs to
 * fragment it. Bytes behind the IP packet are cut off.
 *
 * `at` is the backend's record in `backends`. Returns a DropReason; on failure the packet is unchanged.
 */
export function encapsulate(packet: Packet, backends: Int32Array, at: number): DropReason {
  const toIpv6 = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0;
  const outerBytes = toIpv6 ? Wire.ipv6Bytes : Wire.ipv4Bytes;
  const inner = packet.l3;
  const innerLength = packet.l3Length;
  const outerLength = (outerBytes + innerLength) | 0;
  if (outerLength > backends[at + BackendField.mtu]) return DropReason.tooBig;
  const l3 = (inner - outerBytes) | 0;
  const tagBytes = packet.vlanTags << 2;
  const l2 = (l3 - Wire.ethernetBytes - tagBytes) | 0;
  if (l2 < packet.dataHardStart) return DropReason.noHeadroom;

  const view = packet.view;
  // Tags first: the outer IP header will lie over where they are now.
  for (let tag = 0; tag < tagBytes; tag += 4) view.setInt32(l2 + 12 + tag, view.getInt32(packet.data + 12 + tag));
  view.setInt32(l2, backends[at + BackendField.eth0]);
  view.setInt32(l2 + 4, backends[at + BackendField.eth1]);
  view.setInt32(l2 + 8, backends[at + BackendField.eth2]);
  if (toIpv6) writeIpv6(packet, backends, at, l3, innerLength);
  else writeIpv4(packet, backends, at, l3, outerLength);

  packet.data = l2;
  packet.dataMeta = l2;
  packet.dataEnd = inner + innerLength;
  return DropReason.none;
}

function writeIpv4(packet: Packet, backends: Int32Array, at: number, l3: number, totalLength: number): void {
  const view = packet.view;
  const protocol = packet.family === 4 ? IpProtocol.ipip : IpProtocol.ipv6;
  const tos = packet.tos;
  // The control plane has summed all that is the same for every packet to this backend.
  let sum = backends[at + BackendField.headerSum] + tos + totalLength;
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(l3 - 2, EtherType.ipv4);
  view.setInt32(l3, 0x45000000 | (tos << 16) | totalLength);
  view.setInt32(l3 + 4, 0x00004000);
  view.setInt32(l3 + 8, (OUTER_TTL << 24) | (protocol << 16) | (~sum & 0xffff));
  view.setInt32(l3 + 12, backends[at + BackendField.source0]);
  view.setInt32(l3 + 16, backends[at + BackendField.addr0]);
}

function writeIpv6(packet: Packet, backends: Int32Array, at: number, l3: number, payloadLength: number): void {
  const view = packet.view;
  const protocol = packet.family === 4 ? IpProtocol.ipip : IpProtocol.ipv6;
  view.setUint16(l3 - 2, EtherType.ipv6);
  view.setInt32(l3, 0x60000000 | (packet.tos << 20));
  view.setInt32(l3 + 4, (payloadLength << 16) | (protocol << 8) | OUTER_TTL);
  for (let word = 0; word < 4; word++) {
    view.setInt32(l3 + 8 + (word << 2), backends[at + BackendField.source0 + word]);
    view.setInt32(l3 + 24 + (word << 2), backends[at + BackendField.addr0 + word]);
  }
}

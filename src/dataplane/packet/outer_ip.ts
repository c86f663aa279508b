import { BackendField } from '../../shared/layout.js';
import { Outer } from '../balance/egress.js';
import { fold } from './checksum.js';
import { isKatran } from './outer_flow.js';
import type { Packet } from './packet.js';
import { EtherType, IpProtocol } from './wire.js';

/**
 * Writes the EtherType and an outer IPv4 header at `l3`: TOS of the packet inside with its ECN field (RFC 6040 §4.1, normal mode), TTL of our
 * own, id 0. DF is set (an atomic datagram, RFC 6864 §4.1: nobody on the way fragments what was checked against the MTU), but for
 * Katran's. `host`: bits of the source that are the flow's (outer_flow.ts).
 */
export function writeOuterIpv4(
  packet: Packet,
  backends: Int32Array,
  at: number,
  l3: number,
  totalLength: number,
  protocol: number,
  host: number,
): void {
  const view = packet.view;
  const tos = packet.tos;
  // The control plane has summed all that is the same for every packet to this backend.
  const inside = protocol === IpProtocol.ipv6 ? IpProtocol.ipv6 - IpProtocol.ipip : 0;
  const changing = tos + totalLength + inside + (host >>> 16) + (host & 0xffff);
  const sum = fold(backends[at + BackendField.headerSum] + changing);
  view.setUint16(l3 - 2, EtherType.ipv4);
  view.setInt32(l3, 0x45000000 | (tos << 16) | totalLength);
  view.setInt32(l3 + 4, isKatran(backends, at) ? 0 : 0x00004000);
  view.setInt32(l3 + 8, (Outer.TTL << 24) | (protocol << 16) | (~sum & 0xffff));
  view.setInt32(l3 + 12, backends[at + BackendField.source0] | host);
  view.setInt32(l3 + 16, backends[at + BackendField.addr0]);
}

/**
 * The same with IPv6: traffic class of the packet inside, hop limit of our own. The source is the record's; fillSource6() completes
 * it where host bits are the flow's.
 */
export function writeOuterIpv6(
  packet: Packet,
  backends: Int32Array,
  at: number,
  l3: number,
  payloadLength: number,
  protocol: number,
  label: number,
): void {
  const view = packet.view;
  view.setUint16(l3 - 2, EtherType.ipv6);
  view.setInt32(l3, 0x60000000 | (packet.tos << 20) | label);
  view.setInt32(l3 + 4, (payloadLength << 16) | (protocol << 8) | Outer.TTL);
  for (let word = 0; word < 4; word++) {
    view.setInt32(l3 + 8 + (word << 2), backends[at + BackendField.source0 + word]);
    view.setInt32(l3 + 24 + (word << 2), backends[at + BackendField.addr0 + word]);
  }
}

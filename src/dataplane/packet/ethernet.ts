import { BackendField } from '../../shared/layout.js';
import { DropReason } from '../verdict.js';
import type { Packet } from './packet.js';
import { Wire } from './wire.js';

/** A frame without its checksum has at least 60 bytes; shorter packets come padded (IEEE 802.3 §3.2.8). */
const MIN_FRAME = 60;

/**
 * Writes the next hop's Ethernet addresses and the packet's VLAN tags at `l2`, in front of where the packet is now or over it. The
 * EtherType that ends the header is left to the IP header's writer. `at`: the backend's record in `backends`.
 */
export function writeEthernet(packet: Packet, backends: Int32Array, at: number, l2: number): void {
  const view = packet.view;
  const tagBytes = packet.vlanTags << 2;
  // Tags first: what is written next may lie over where they are now.
  for (let tag = 0; tag < tagBytes; tag += 4) view.setInt32(l2 + 12 + tag, view.getInt32(packet.data + 12 + tag));
  view.setInt32(l2, backends[at + BackendField.eth0]);
  view.setInt32(l2 + 4, backends[at + BackendField.eth1]);
  view.setInt32(l2 + 8, backends[at + BackendField.eth2]);
}

/**
 * Sends the packet to a backend on the link as it is, with new Ethernet addresses (EncapKind.l2, direct routing). Tags, and
 * padding up to the shortest frame, stay. TTL stays too: for the IP layer there is no hop here, no more than in a switch, and what
 * arrives with TTL 1 or is checked for 255 (RFC 5082) was meant for the VIP, which the backend has.
 */
export function rewriteEthernet(packet: Packet, backends: Int32Array, at: number): DropReason {
  if (packet.l3Length > backends[at + BackendField.mtu]) return DropReason.tooBig;
  const view = packet.view;
  const data = packet.data;
  view.setInt32(data, backends[at + BackendField.eth0]);
  view.setInt32(data + 4, backends[at + BackendField.eth1]);
  view.setInt32(data + 8, backends[at + BackendField.eth2]);
  let end = (packet.l3 + packet.l3Length) | 0;
  const shortest = (data + MIN_FRAME) | 0;
  if (end < shortest) end = packet.dataEnd < shortest ? packet.dataEnd : shortest;
  packet.metaLength = 0;
  packet.dataEnd = end;
  return DropReason.none;
}

/** Offset of the Ethernet header when the outermost IP header is at `l3`, or −1 when that is outside of the packet's chunk. */
export function startBefore(packet: Packet, l3: number): number {
  const l2 = (l3 - Wire.ethernetBytes - (packet.vlanTags << 2)) | 0;
  return l2 < packet.dataHardStart ? -1 : l2;
}

import { BackendField, BackendFlag, EncapFlag, EncapKind } from '../../shared/layout.js';
import { DropReason } from '../verdict.js';
import { outerOverhead } from './encap_size.js';
import { rewriteEthernet, startBefore, writeEthernet } from './ethernet.js';
import { writeGueHeader, writeUdp, writeUdpChecksum } from './gue.js';
import { writeOuterIpv4, writeOuterIpv6 } from './outer_ip.js';
import { fillSource6, flowLabel, hostBits4, sourcePort, type OuterFlow } from './outer_flow.js';
import type { Packet } from './packet.js';
import { IpProtocol, Wire } from './wire.js';

/**
 * Puts in front of the packet whatever its backend wants there, by the backend's record at `at`: IP in IP, GUE, or nothing but
 * other Ethernet addresses. `encapsulate()` does the common case, IP in IP from one source address, in less time.
 *
 * VLAN tags stay, bytes behind the IP packet are cut off; see writeOuterIpv4() for what is copied. A fragment is wrapped like any
 * packet. `flow`: see OuterFlow. `hops`, `hopWords`, `hopFamily`: the chain of a GUE header of variant 0, see
 * writeGueHeader(); `hopWords` 0 for none. Returns a DropReason; on failure the packet is unchanged.
 */
export function encapsulateSpecial(
  packet: Packet,
  backends: Int32Array,
  at: number,
  flow: OuterFlow,
  hops: Int32Array,
  hopWords: number,
  hopFamily: 4 | 6,
): DropReason {
  const kind = backends[at + BackendField.encap];
  if (kind === EncapKind.l2) return rewriteEthernet(packet, backends, at);
  const inner = packet.l3;
  const innerLength = packet.l3Length;
  const overhead = outerOverhead(backends, at, hopWords);
  if (((overhead + innerLength) | 0) > backends[at + BackendField.mtu]) return DropReason.tooBig;
  const l3 = (inner - overhead) | 0;
  const l2 = startBefore(packet, l3);
  if (l2 < 0) return DropReason.noHeadroom;

  writeEthernet(packet, backends, at, l2);
  const outerLength = (overhead + innerLength) | 0;
  if (kind === EncapKind.ipip) {
    const protocol = packet.family === 4 ? IpProtocol.ipip : IpProtocol.ipv6;
    writeOuterIp(packet, backends, at, l3, outerLength, protocol, flow);
  } else {
    const l4 = writeOuterIp(packet, backends, at, l3, outerLength, IpProtocol.udp, flow);
    const length = (l3 + outerLength - l4) | 0;
    writeUdp(packet.view, l4, sourcePort(backends, at, flow), backends[at + BackendField.guePort], length);
    if (kind === EncapKind.gueVariant0) writeGueHeader(packet, l4 + Wire.udpBytes, hops, hopWords, hopFamily);
    if ((backends[at + BackendField.encapFlags] & EncapFlag.udpChecksum) !== 0) {
      // Headers of both families end with their two addresses.
      const addressBytes = l4 - l3 === Wire.ipv4Bytes ? 8 : 32;
      writeUdpChecksum(packet.view, l4 - addressBytes, addressBytes, l4, length);
    }
  }
  packet.data = l2;
  packet.metaLength = 0;
  packet.dataEnd = (inner + innerLength) | 0;
  return DropReason.none;
}

/** `length`: from the outer header to the packet's end. Returns the offset behind the header. */
function writeOuterIp(
  packet: Packet,
  backends: Int32Array,
  at: number,
  l3: number,
  length: number,
  protocol: number,
  flow: OuterFlow,
): number {
  if ((backends[at + BackendField.flags] & BackendFlag.ipv6) === 0) {
    writeOuterIpv4(packet, backends, at, l3, length, protocol, hostBits4(backends, at, flow));
    return (l3 + Wire.ipv4Bytes) | 0;
  }
  writeOuterIpv6(packet, backends, at, l3, length - Wire.ipv6Bytes, protocol, flowLabel(backends, at, flow));
  fillSource6(packet.view, l3 + 8, backends, at, flow);
  return (l3 + Wire.ipv6Bytes) | 0;
}

/** Which key of a service a packet has found. */
import { PacketFlag, type Packet } from '../../dataplane/packet/packet.js';
import { formatPrefix } from '../../shared/addr.js';
import type { ServiceConfig } from '../../shared/config.js';
import { protocolName } from '../config/protocols.js';
import type { Step } from './document.js';

export function serviceStep({ name, vip, ports, protocols }: ServiceConfig, packet: Packet): Step {
  const hasPorts = (packet.flags & PacketFlag.hasPorts) !== 0;
  const port = packet.destinationPort;
  const range = hasPorts ? ports.find(({ first, last }) => first <= port && port <= last) : undefined;
  const portText =
    range === undefined
      ? 'any port'
      : range.first === range.last
        ? `port ${port}`
        : `ports ${range.first}-${range.last}`;
  const protocol = protocols.length === 0 ? 'any protocol' : protocolName(packet.protocol);
  const detail = {
    service: name,
    vip: formatPrefix(vip),
    prefixLength: vip.length,
    port: range === undefined ? 'any' : range.first === range.last ? 'exact' : 'range',
    protocol: protocols.length === 0 ? 'any' : 'exact',
  };
  const because = [`${formatPrefix(vip)} (prefix length ${vip.length}), ${protocol}, ${portText}`];
  return { stage: 'service', result: name, because, detail };
}

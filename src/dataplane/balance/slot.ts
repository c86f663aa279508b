import { HashField, ServiceField, ServiceFlag } from '../../shared/layout.js';
import type { Packet } from '../packet/packet.js';
import type { Snapshot } from '../snapshot.js';
import type { FlowHash } from './hash.js';
import { katranHash4, katranHash6 } from './katran_hash.js';

/**
 * Hash of a flow that picks its slot in its service's ring: the same on every node with the same configuration. An int32; the
 * slot is `(hash >>> 0) % slots`. `record` is the word index of the service's record.
 */
export function slotHash(snapshot: Snapshot, packet: Packet, record: number): number {
  const flags = snapshot.services[record + ServiceField.flags];
  const fields = snapshot.services[record + ServiceField.hashFields];
  if ((flags & (ServiceFlag.katranHash | ServiceFlag.glbHash)) === 0) {
    return fields === HashField.all ? hashOf(snapshot.ringHash, packet) : hashFields(snapshot.ringHash, packet, fields);
  }
  if ((flags & ServiceFlag.katranHash) !== 0) return katranHash(packet, fields);
  const glb = snapshot.glbHashes[snapshot.services[record + ServiceField.glbKey]];
  // GLB hashes no ports but those of whole headers.
  return packet.family === 4
    ? glb.ipv4(packet.src0, packet.dst0, packet.ports)
    : glb.ipv6(
        packet.src0,
        packet.src1,
        packet.src2,
        packet.src3,
        packet.dst0,
        packet.dst1,
        packet.dst2,
        packet.dst3,
        packet.ports,
      );
}

/** Hash of an IP packet's five-tuple. */
export function hashOf(hash: FlowHash, packet: Packet): number {
  if (packet.family === 4) return hash.ipv4(packet.src0, packet.dst0, packet.ports, packet.protocol);
  return hash.ipv6(
    packet.src0,
    packet.src1,
    packet.src2,
    packet.src3,
    packet.dst0,
    packet.dst1,
    packet.dst2,
    packet.dst3,
    packet.ports,
    packet.protocol,
  );
}

/** Of some of the five-tuple: the others count as 0. */
function hashFields(hash: FlowHash, packet: Packet, fields: number): number {
  const src = -(fields & HashField.src) | 0;
  const dst = (fields & HashField.dst) !== 0 ? -1 : 0;
  const ports = packet.ports & portMask(fields);
  const protocol = (fields & HashField.protocol) !== 0 ? packet.protocol : 0;
  if (packet.family === 4) return hash.ipv4(packet.src0 & src, packet.dst0 & dst, ports, protocol);
  return hash.ipv6(
    packet.src0 & src,
    packet.src1 & src,
    packet.src2 & src,
    packet.src3 & src,
    packet.dst0 & dst,
    packet.dst1 & dst,
    packet.dst2 & dst,
    packet.dst3 & dst,
    ports,
    protocol,
  );
}

function portMask(fields: number): number {
  return ((fields & HashField.sport) !== 0 ? 0xffff0000 : 0) | ((fields & HashField.dport) !== 0 ? 0xffff : 0);
}

/** Katran hashes source and ports. With the destination port alone it puts that in the place of the source port too. */
function katranHash(packet: Packet, fields: number): number {
  const ports =
    fields === HashField.dport ? (packet.ports << 16) | (packet.ports & 0xffff) : packet.ports & portMask(fields);
  const src = -(fields & HashField.src) | 0;
  if (packet.family === 4) return katranHash4(packet.src0 & src, ports);
  return katranHash6(packet.src0 & src, packet.src1 & src, packet.src2 & src, packet.src3 & src, ports);
}

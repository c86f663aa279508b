import { BackendField, BackendFlag } from '../../shared/layout.js';
import type { Packet } from '../packet/packet.js';

/** Whether a packet goes to a backend's address. `backends`: the published records. */
export function isAddressOf(backends: Int32Array, backend: number, packet: Packet): boolean {
  const at = Math.imul(backend, BackendField.STRIDE);
  const family = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0 ? 6 : 4;
  return (
    packet.family === family &&
    packet.dst0 === backends[at + BackendField.addr0] &&
    packet.dst1 === backends[at + BackendField.addr1] &&
    packet.dst2 === backends[at + BackendField.addr2] &&
    packet.dst3 === backends[at + BackendField.addr3]
  );
}

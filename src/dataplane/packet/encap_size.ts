import { BackendField, BackendFlag, EncapKind } from '../../shared/layout.js';
import { gueHeaderBytes } from './gue.js';
import { Wire } from './wire.js';

/**
 * Bytes that stand between the Ethernet header (with its tags) and the packet on its way to the backend. `at`: the backend's record in
 * `backends`. `hopWords`: words of addresses in the chain of hops, 0 for none; only GUE variant 0 carries one.
 */
export function outerOverhead(backends: Int32Array, at: number, hopWords: number): number {
  const kind = backends[at + BackendField.encap];
  if (kind === EncapKind.l2) return 0;
  const toIpv6 = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0;
  const ip = toIpv6 ? Wire.ipv6Bytes : Wire.ipv4Bytes;
  if (kind === EncapKind.ipip) return ip;
  const udp = (ip + Wire.udpBytes) | 0;
  return kind === EncapKind.gueVariant1 ? udp : (udp + gueHeaderBytes(hopWords)) | 0;
}

/** The largest packet that fits into one to the backend, bytes from its IP header on. For MSS, and for what a sender is told. */
export function innerMtu(backends: Int32Array, at: number, hopWords: number): number {
  return (backends[at + BackendField.mtu] - outerOverhead(backends, at, hopWords)) | 0;
}

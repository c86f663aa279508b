import { createHash } from 'node:crypto';
import { addressToBytes, parseAddress } from '../shared/addr.js';
import type { Address } from '../shared/config.js';
import type { NextHop } from './routes.js';

/** Outer source addresses of a replay, when the config sets none: of the blocks for benchmarks (RFC 2544, RFC 5180). */
const SOURCE = { 4: parseAddress('198.18.0.1'), 6: parseAddress('2001:2::1') } as const;

/** Address of the interface that packets leave by. */
const SMAC = Uint8Array.of(0x02, 0x73, 0x6c, 0x75, 0x69, 0x63);

const MTU = 1500;

/**
 * A next hop for a backend that nobody has looked up: on the link of `interfaceName`, with a locally administered hardware address
 * that tells which one it is. 02:00 and the IPv4 address itself; 02 and five bytes of a hash for IPv6.
 */
export function syntheticNextHop(address: Address, interfaceName: string, mtu = MTU): NextHop {
  const bytes = addressToBytes(address);
  const dmac =
    address.family === 4
      ? Uint8Array.of(0x02, 0x00, ...bytes)
      : Uint8Array.of(0x02, ...createHash('sha256').update(bytes).digest().subarray(0, 5));
  return {
    address: address.text,
    interface: interfaceName,
    gateway: null,
    source: SOURCE[address.family],
    smac: SMAC,
    dmac,
    mtu,
    resolved: true,
    error: null,
  };
}

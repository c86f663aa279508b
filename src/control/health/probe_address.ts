import { addressFromWords } from '../../shared/addr.js';
import type { Address, Prefix } from '../../shared/config.js';

/**
 * The address to check of a VIP: the VIP itself. Of a prefix, the one after its first, which of a subnet is the network's (or in
 * IPv6 its routers') own address; point-to-point prefixes of two have no such thing (RFC 3021, RFC 6164).
 */
export function probeAddress(vip: Prefix): Address {
  const [w0, w1, w2, w3] = vip.words;
  const bits = vip.family === 4 ? 32 : 128;
  if (vip.length >= bits - 1) return addressFromWords(vip.family, vip.words);
  // Host bits are zero: the lowest can be set without a carry.
  return addressFromWords(vip.family, vip.family === 4 ? [w0 | 1, 0, 0, 0] : [w0, w1, w2, w3 | 1]);
}

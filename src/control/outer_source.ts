/** Which source address the outer header of a packet to a backend has. */
import { addressBits, maskWords, parsePrefix, type Words } from '../shared/addr.js';
import type { Address, EncapsulationConfig, Prefix } from '../shared/config.js';
import type { NextHop } from './routes.js';

export interface OuterSource {
  /** Network byte order; bits of `entropy` are 0. */
  words: Words;
  /** Host bits that the data path fills from the flow's hash, by word; all 0 when the source is one address. */
  entropy: Words;
}

/** What Katran's IP in IP comes from, and its receivers let in (katran/lib/bpf/balancer_consts.h IPIP_V4_PREFIX, IPIP_V6_PREFIX1). */
const KATRAN_PREFIX = { 4: parsePrefix('172.16.0.0/16'), 6: parsePrefix('100::/96') } as const;

/**
 * The configured address or prefix of the backend's family; else Katran's own for IP in IP when the service hashes as Katran
 * does; else the address that the route prefers. Null when there is none.
 */
export function outerSource(
  encapsulation: EncapsulationConfig,
  katran: boolean,
  address: Address,
  nextHop: NextHop | null,
): OuterSource | null {
  const { family } = address;
  const configured = family === 4 ? encapsulation.source4 : encapsulation.source6;
  if (configured) return fromPrefix(configured);
  if (katran && encapsulation.kind === 'ipip') return fromPrefix(KATRAN_PREFIX[family]);
  // A route by a router of the other family (RFC 5549) may prefer an address of that one.
  return nextHop?.source?.family === family ? { words: nextHop.source.words, entropy: [0, 0, 0, 0] } : null;
}

function fromPrefix({ family, words, length }: Prefix): OuterSource {
  const mask = maskWords(length);
  const used = addressBits(family) / 32;
  const host = (i: number): number => (i < used ? ~mask[i] : 0);
  return { words, entropy: [host(0), host(1), host(2), host(3)] };
}

/** Whether it is one address for all flows. */
export function isFixed({ entropy }: OuterSource): boolean {
  return entropy.every((word) => word === 0);
}

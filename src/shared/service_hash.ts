/**
 * Hash of a service key: where in the table that `layout.ts` documents the search for it starts. Both planes must agree, the
 * control plane when it builds the table and the data plane when it looks up, so it is here.
 *
 * Not keyed: what is in the table comes from the config alone, and a look-up is bounded by the table's `maxProbe`
 * whatever a packet holds.
 */

/** Mixes the words of a key to an int32. Mask it to the table's size. */
export function serviceKeyHash(a0: number, a1: number, a2: number, a3: number, scope: number, port: number): number {
  let hash = Math.imul(a0 ^ Math.imul(a1, 0x9e3779b1), 0x85ebca6b);
  hash = Math.imul((hash ^ (hash >>> 15) ^ a2) + Math.imul(a3, 0xc2b2ae35), 0x27d4eb2f);
  hash = Math.imul((hash ^ (hash >>> 13) ^ scope) + Math.imul(port, 0x165667b1), 0x2c1b3c6d);
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  return hash ^ (hash >>> 15);
}

/**
 * Which kinds of key a table holds: word 3 of its header, 0 when the table does not say. A look-up skips the probes for kinds that are not there, so that
 * a table of plain (address, protocol, port) keys costs one probe a prefix length.
 */
export const enum ServiceKeyKind {
  /** Port-specific keys with a protocol, and with protocol 0 (any). */
  exact = 1,
  exactAnyProtocol = 2,
  ranges = 4,
  rangesAnyProtocol = 8,
  anyPort = 16,
  anyPortAnyProtocol = 32,
}

import { ANY_PORT, PORT_RANGES, ServiceKey, type Tables } from '../../shared/layout.js';
import { ServiceKeyKind, serviceKeyHash } from '../../shared/service_hash.js';

/** A packet that has no ports to look at: ICMP, a later fragment, any protocol without ports. Finds any-port services only. */
export const NO_PORT = -1;

// Words of the header of the key table.
const MASK = 0;
const MAX_PROBE = 1;
const KINDS = 3;

const PORT_SPECIFIC =
  ServiceKeyKind.exact | ServiceKeyKind.exactAnyProtocol | ServiceKeyKind.ranges | ServiceKeyKind.rangesAnyProtocol;
/** A table that does not say which kinds it has may have any. */
const ALL_KINDS = 63;
const ANY_PORTS = ServiceKeyKind.anyPort | ServiceKeyKind.anyPortAnyProtocol;

/**
 * The service that a packet is for, or -1 when there is none. Hot: int32 arithmetic only, nothing allocated.
 *
 * Port-specific services come before any-port ones, whatever their prefix lengths; among equals the longest prefix wins;
 * then the packet's own protocol before "any protocol"; then an exact port before a range:
 *
 *   for each of [port-specific, any-port]
 *     for each prefix length, longest first
 *       for each of [protocol, 0]
 *         exact port, then range  |  any port
 *
 * @param keys Tables.serviceKeys
 * @param lengths the table's distinct prefix lengths of this family, longest first
 * @param a0 destination address in network byte order, IPv4 in `a0` with the others 0; host bits need not be masked
 * @param protocol IP protocol number
 * @param port destination port, or NO_PORT
 */
export function lookupService(
  keys: Int32Array,
  lengths: readonly number[],
  family: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  protocol: number,
  port: number,
): number {
  const kinds = keys[KINDS] === 0 ? ALL_KINDS : keys[KINDS] | 0;
  // Twice over the lengths: for the port, where that can find something, and for any port.
  let wanted = (kinds & PORT_SPECIFIC) === 0 ? NO_PORT : port;
  for (;;) {
    for (let i = 0; i < lengths.length; i++) {
      const length = lengths[i] | 0;
      const m0 = a0 & maskWord(length);
      const m1 = a1 & maskWord((length - 32) | 0);
      const m2 = a2 & maskWord((length - 64) | 0);
      const m3 = a3 & maskWord((length - 96) | 0);
      const scope = (family << 24) | (length << 16);
      const service =
        wanted === NO_PORT
          ? findAnyPort(keys, kinds, m0, m1, m2, m3, scope, protocol)
          : findPort(keys, kinds, m0, m1, m2, m3, scope, protocol, wanted);
      if (service >= 0) return service;
    }
    if (wanted === NO_PORT || (kinds & ANY_PORTS) === 0) return -1;
    wanted = NO_PORT;
  }
}

/** The high `bits` bits of a word; none when `bits` is 0 or less, all from 32 on. */
function maskWord(bits: number): number {
  // A shift by 32 is a shift by 0 in JavaScript, so both ends are cases of their own.
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}

function findPort(
  keys: Int32Array,
  kinds: number,
  m0: number,
  m1: number,
  m2: number,
  m3: number,
  scope: number,
  protocol: number,
  port: number,
): number {
  let at: number;
  if ((kinds & ServiceKeyKind.exact) !== 0) {
    at = probe(keys, m0, m1, m2, m3, scope | protocol, port);
    if (at >= 0) return keys[at + ServiceKey.service] | 0;
  }
  if ((kinds & ServiceKeyKind.ranges) !== 0) {
    at = probe(keys, m0, m1, m2, m3, scope | protocol, PORT_RANGES);
    if (at >= 0) at = findRange(keys, at, port);
    if (at >= 0) return at;
  }
  if ((kinds & ServiceKeyKind.exactAnyProtocol) !== 0) {
    at = probe(keys, m0, m1, m2, m3, scope, port);
    if (at >= 0) return keys[at + ServiceKey.service] | 0;
  }
  if ((kinds & ServiceKeyKind.rangesAnyProtocol) !== 0) {
    at = probe(keys, m0, m1, m2, m3, scope, PORT_RANGES);
    if (at >= 0) return findRange(keys, at, port);
  }
  return -1;
}

function findAnyPort(
  keys: Int32Array,
  kinds: number,
  m0: number,
  m1: number,
  m2: number,
  m3: number,
  scope: number,
  protocol: number,
): number {
  let at = -1;
  if ((kinds & ServiceKeyKind.anyPort) !== 0) at = probe(keys, m0, m1, m2, m3, scope | protocol, ANY_PORT);
  if (at < 0 && (kinds & ServiceKeyKind.anyPortAnyProtocol) !== 0) at = probe(keys, m0, m1, m2, m3, scope, ANY_PORT);
  return at < 0 ? -1 : keys[at + ServiceKey.service] | 0;
}

/** Word index of the slot with this key, or -1. */
function probe(keys: Int32Array, m0: number, m1: number, m2: number, m3: number, scope: number, port: number): number {
  const mask = keys[MASK] | 0;
  let slot = serviceKeyHash(m0, m1, m2, m3, scope, port) & mask;
  for (let left = keys[MAX_PROBE] | 0; left > 0; left--) {
    const at = (ServiceKey.HEADER + Math.imul(slot, ServiceKey.STRIDE)) | 0;
    if (
      keys[at + ServiceKey.addr0] === m0 &&
      keys[at + ServiceKey.scope] === scope &&
      keys[at + ServiceKey.port] === port &&
      keys[at + ServiceKey.addr1] === m1 &&
      keys[at + ServiceKey.addr2] === m2 &&
      keys[at + ServiceKey.addr3] === m3
    ) {
      // An empty slot is all zeros but for its service; no key has scope 0, so it cannot get here.
      return at;
    }
    if (keys[at + ServiceKey.service] === -1) return -1;
    slot = (slot + 1) & mask;
  }
  return -1;
}

/** Binary search in the ranges that a PORT_RANGES slot leads to: the service, or -1. */
function findRange(keys: Int32Array, at: number, port: number): number {
  const start = keys[at + ServiceKey.service] | 0;
  let low = 0;
  let high = (keys[at + ServiceKey.rangeCount] - 1) | 0;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const range = (start + Math.imul(middle, 3)) | 0;
    if (port < keys[range]) high = (middle - 1) | 0;
    else if (port > keys[range + 1]) low = (middle + 1) | 0;
    else return keys[range + 2] | 0;
  }
  return -1;
}

/** Look-up in the service keys of one generation. Make one when adopting tables, never per packet. */
export class ServiceTable {
  readonly keys: Int32Array;
  readonly lengths4: readonly number[];
  readonly lengths6: readonly number[];

  constructor(tables: Pick<Tables, 'serviceKeys' | 'prefixLengths4' | 'prefixLengths6'>) {
    this.keys = new Int32Array(tables.serviceKeys);
    this.lengths4 = tables.prefixLengths4;
    this.lengths6 = tables.prefixLengths6;
  }

  /** Service number for an IPv4 destination, or -1. */
  find4(dst0: number, protocol: number, port: number): number {
    return lookupService(this.keys, this.lengths4, 4, dst0, 0, 0, 0, protocol, port);
  }

  /** Service number for an IPv6 destination, or -1. */
  find6(dst0: number, dst1: number, dst2: number, dst3: number, protocol: number, port: number): number {
    return lookupService(this.keys, this.lengths6, 6, dst0, dst1, dst2, dst3, protocol, port);
  }
}

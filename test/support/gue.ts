/** GUE as bytes, for packets of tests: `.udp({ dport: GUE_PORT }).payload(gue0(inner, …))`. Every field can lie. */
import { addressBytes } from './packet_builder.js';

export const GUE_PORT = 6080;

export interface Gue0Options {
  /** Variant, 2 bits; default 0. */
  variant?: number;
  control?: boolean;
  /** Words after the first, as the header claims it. */
  hlen?: number;
  /** Default: from the first nibble of the inner packet. */
  protocol?: number;
  flags?: number;
  /** Addresses of a chain, all of one family. None: no private data. */
  hops?: readonly string[];
  /** Default 0. */
  nextHop?: number;
  hopCount?: number;
  /** Private type; default 0 for IPv4 hops and 1 for IPv6. */
  type?: number;
  /** Private data instead of a chain. */
  private?: readonly number[];
}

/** A GUE variant 0 header with the inner packet (layer 3) behind it. */
export function gue0(inner: Uint8Array, o: Gue0Options = {}): Uint8Array {
  const data = o.private ?? (o.hops ? chain(o.hops, o) : []);
  const hlen = o.hlen ?? data.length / 4;
  const first = ((o.variant ?? 0) << 6) | (o.control ? 0x20 : 0) | hlen;
  const protocol = o.protocol ?? (inner[0] >> 4 === 6 ? 41 : 4);
  const flags = o.flags ?? 0;
  return Uint8Array.of(first, protocol, flags >> 8, flags & 0xff, ...data, ...inner);
}

function chain(hops: readonly string[], o: Gue0Options): number[] {
  const family = hops[0]?.includes(':') ? 6 : 4;
  const type = o.type ?? (family === 6 ? 1 : 0);
  const bytes = hops.flatMap((hop) => [...addressBytes(hop, family)]);
  return [type >> 8, type & 0xff, o.nextHop ?? 0, o.hopCount ?? hops.length, ...bytes];
}

/** A set as a worker looks it up. Hot: nothing is allocated behind the constructors. */
import { HostView4, HostView6 } from './host_view.js';
import type { SetBuffers, SetCounters, SetType } from './layout.js';
import { NetView4 } from './net_view4.js';
import { NetView6 } from './net_view6.js';
import { portKeyOf, SetSides, type SetPacket } from './packet_key.js';

/** No entry matches. Hot code here says -1: an exported name is read from its module's cell, and checked. */
export const NO_ENTRY = -1;

/** The entry that a look-up's result speaks of: the one that matched, or the `nomatch` entry that decided; 0: none. */
export function entryOf(result: number): number {
  return result > 0 ? result : -1 - result;
}

/**
 * A worker's eyes on a set; made anew when `SetBuffers.version` is another, or the set is another one (swap).
 *
 * Look-ups return the entry number (above 0) of the entry that matches; NO_ENTRY when none does; or −1 − n when the most specific network is entry
 * n with `nomatch`, which is no match either: callers test for > 0. Numbers are by family.
 */
export class SetView {
  readonly type: SetType;
  /** Entries have a protocol and a port. */
  readonly hasPort: boolean;
  private readonly ipv4: HostView4 | NetView4 | null;
  private readonly ipv6: HostView6 | NetView6 | null;
  /** `ipv4`, where that is hosts. */
  readonly hosts4: HostView4 | null;
  private readonly counters4: Float64Array | null;
  private readonly counters6: Float64Array | null;

  /** `counters`: this worker's own, null when the set has none. */
  constructor({ type, ipv4, ipv6 }: SetBuffers, counters: SetCounters | null = null) {
    this.type = type;
    this.hasPort = type === 'hash:ip,port' || type === 'hash:net,port';
    const isNet = type === 'hash:net' || type === 'hash:net,port';
    this.ipv4 = ipv4 && new (isNet ? NetView4 : HostView4)(ipv4, this.hasPort);
    this.ipv6 = ipv6 && new (isNet ? NetView6 : HostView6)(ipv6, this.hasPort);
    this.hosts4 = this.ipv4 instanceof HostView4 ? this.ipv4 : null;
    this.counters4 = counters?.ipv4 ? new Float64Array(counters.ipv4) : null;
    this.counters6 = counters?.ipv6 ? new Float64Array(counters.ipv6) : null;
  }

  /** Whether IPv4 entries have counters. */
  get countsEntries4(): boolean {
    return this.counters4 !== null;
  }

  /**
   * Looks a parsed packet up by the sides that `sides` names, at `now` (see SecondsClock). Packets that are not IP, and those whose port the set
   * needs and the packet has not (later fragments), match nothing, as in the kernel.
   */
  lookup(packet: SetPacket, sides: SetSides, now: number): number {
    const { family } = packet;
    if (family !== 4 && family !== 6) return -1;
    let port = 0;
    if (this.hasPort === true) {
      port = portKeyOf(packet, (sides & SetSides.portDestination) !== 0);
      if (port < 0) return -1;
    }
    const isDestination = (sides & SetSides.addressDestination) !== 0;
    if (family === 4) return this.lookup4(isDestination ? packet.dst0 : packet.src0, port, now);
    if (isDestination) return this.lookup6(packet.dst0, packet.dst1, packet.dst2, packet.dst3, port, now);
    return this.lookup6(packet.src0, packet.src1, packet.src2, packet.src3, port, now);
  }

  /** `lookup`, and the entry's counters go up, also those of a `nomatch` entry. Bytes are the IP packet's, without its link header. */
  match(packet: SetPacket, sides: SetSides, now: number): number {
    const result = this.lookup(packet, sides, now);
    if (result !== -1) this.count(result, packet.family, packet.l3Length);
    return result;
  }

  /** Counts a packet of so many bytes that a look-up of this family found in an entry, plain or `nomatch`. */
  count(result: number, family: number, bytes: number): void {
    const counters = family === 4 ? this.counters4 : this.counters6;
    if (counters === null) return;
    const at = entryOf(result) << 1;
    counters[at] += 1;
    counters[at + 1] += bytes;
  }

  /** Whether IPv4 look-ups of a burst should be touched first, so that their cache misses overlap. Not for networks, whose way is of several steps. */
  get isLarge4(): boolean {
    return this.hosts4 !== null && this.hosts4.isLarge;
  }

  /** Reads the words that `lookup4` is likely to read; what it returns only keeps them from being optimised away. */
  touch4(a0: number, port: number): number {
    return this.hosts4 === null ? 0 : this.hosts4.touch4(a0, port);
  }

  /** By an IPv4 address and protocol << 16 | port (0 for sets without ports). */
  lookup4(a0: number, port: number, now: number): number {
    return this.ipv4 === null ? -1 : this.ipv4.lookup4(a0, port, now);
  }

  lookup6(a0: number, a1: number, a2: number, a3: number, port: number, now: number): number {
    return this.ipv6 === null ? -1 : this.ipv6.lookup6(a0, a1, a2, a3, port, now);
  }
}

/** A set as a worker looks it up. Hot: nothing is allocated behind the constructors. */
// Not from addr.ts: the data plane has no use for its parser.
import { maskWords } from '../mask_words.js';
import { findEntry4, findEntry6 } from './exact_lookup.js';
import { RecordField, type SetBuffers, type SetCounters, type SetType, type TableBuffers } from './layout.js';
import { findRoot, lookupNet4, lookupNet6, NetWord } from './net_lookup.js';
import { portKeyOf, SetSides, type SetPacket } from './packet_key.js';

/** No entry matches. */
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
  private readonly hasPort: boolean;
  private readonly ipv4: TableView | null;
  private readonly ipv6: TableView | null;
  private readonly counters4: Float64Array | null;
  private readonly counters6: Float64Array | null;

  /** `counters`: this worker's own, null when the set has none. */
  constructor({ type, ipv4, ipv6 }: SetBuffers, counters: SetCounters | null = null) {
    this.type = type;
    this.hasPort = type === 'hash:ip,port' || type === 'hash:net,port';
    const isNet = type === 'hash:net' || type === 'hash:net,port';
    this.ipv4 = ipv4 && new TableView(ipv4, isNet, this.hasPort);
    this.ipv6 = ipv6 && new TableView(ipv6, isNet, this.hasPort);
    this.counters4 = counters?.ipv4 ? new Float64Array(counters.ipv4) : null;
    this.counters6 = counters?.ipv6 ? new Float64Array(counters.ipv6) : null;
  }

  /**
   * Looks a parsed packet up by the sides that `sides` names, at `now` (see SecondsClock). Packets that are not IP, and those whose port the set
   * needs and the packet has not (later fragments), match nothing, as in the kernel.
   */
  lookup(packet: SetPacket, sides: SetSides, now: number): number {
    const table = packet.family === 4 ? this.ipv4 : packet.family === 6 ? this.ipv6 : null;
    if (table === null) return NO_ENTRY;
    let port = 0;
    if (this.hasPort) {
      port = portKeyOf(packet, (sides & SetSides.portDestination) !== 0);
      if (port < 0) return NO_ENTRY;
    }
    if (packet.family === 4) {
      return table.lookup4((sides & SetSides.addressDestination) !== 0 ? packet.dst0 : packet.src0, port, now);
    }
    if ((sides & SetSides.addressDestination) !== 0) {
      return table.lookup6(packet.dst0, packet.dst1, packet.dst2, packet.dst3, port, now);
    }
    return table.lookup6(packet.src0, packet.src1, packet.src2, packet.src3, port, now);
  }

  /** `lookup`, and the entry's counters go up, also those of a `nomatch` entry. Bytes are the IP packet's, without its link header. */
  match(packet: SetPacket, sides: SetSides, now: number): number {
    const result = this.lookup(packet, sides, now);
    if (result !== NO_ENTRY) {
      const counters = packet.family === 4 ? this.counters4 : this.counters6;
      if (counters !== null) {
        const at = entryOf(result) << 1;
        counters[at] += 1;
        counters[at + 1] += packet.l3Length;
      }
    }
    return result;
  }

  /** By an IPv4 address and protocol << 16 | port (0 for sets without ports). */
  lookup4(a0: number, port: number, now: number): number {
    return this.ipv4 === null ? NO_ENTRY : this.ipv4.lookup4(a0, port, now);
  }

  lookup6(a0: number, a1: number, a2: number, a3: number, port: number, now: number): number {
    return this.ipv6 === null ? NO_ENTRY : this.ipv6.lookup6(a0, a1, a2, a3, port, now);
  }
}

/** One family of a set. */
class TableView {
  private readonly records: Int32Array;
  private readonly slots: Int32Array;
  private readonly arena: Int32Array;
  private readonly roots: Int32Array;
  private readonly seed: number;
  private readonly mask0: number;
  private readonly mask1: number;
  private readonly mask2: number;
  private readonly mask3: number;

  constructor(
    { records, slots, arena, roots, mask, seed }: TableBuffers,
    private readonly isNet: boolean,
    private readonly hasPort: boolean,
  ) {
    this.records = new Int32Array(records);
    this.slots = new Int32Array(slots);
    this.arena = arena ? new Int32Array(arena) : EMPTY;
    this.roots = roots ? new Int32Array(roots) : EMPTY;
    this.seed = seed;
    [this.mask0, this.mask1, this.mask2, this.mask3] = mask;
  }

  lookup4(a0: number, port: number, now: number): number {
    if (this.isNet) {
      const root = this.root(port);
      const found = root === 0 ? 0 : lookupNet4(this.arena, root, a0);
      if (found >= 0) return found > 0 ? found : NO_ENTRY;
      return this.decide4(found & NetWord.ENTRY_MASK, a0, port, now);
    }
    const { records } = this;
    const entry = findEntry4(this.slots, records, this.seed, a0 & this.mask0, HOST4 | port | 0);
    if (entry === 0) return NO_ENTRY;
    const state = records[(entry << RecordField.STRIDE4_SHIFT) + RecordField.state4];
    return state === 0 || state >>> 1 > now ? entry : NO_ENTRY;
  }

  lookup6(a0: number, a1: number, a2: number, a3: number, port: number, now: number): number {
    const { records } = this;
    if (this.isNet) {
      const root = this.root(port);
      const found = root === 0 ? 0 : lookupNet6(this.arena, records, root, a0, a1, a2, a3);
      if (found >= 0) return found > 0 ? found : NO_ENTRY;
      return this.decide6(found & NetWord.ENTRY_MASK, a0, a1, a2, a3, port, now);
    }
    const entry = findEntry6(
      this.slots,
      records,
      this.seed,
      a0 & this.mask0,
      a1 & this.mask1,
      a2 & this.mask2,
      a3 & this.mask3,
      HOST6 | port | 0,
    );
    if (entry === 0) return NO_ENTRY;
    const state = records[(entry << RecordField.STRIDE6_SHIFT) + RecordField.state6];
    return state === 0 || state >>> 1 > now ? entry : NO_ENTRY;
  }

  /** The trie to look in, 0: none. */
  private root(port: number): number {
    if (!this.hasPort) return this.roots[1];
    const at = findRoot(this.roots, port);
    return at < 0 ? 0 : this.roots[at];
  }

  /**
   * The longest network is one of `nomatch` or one that ends. When it has ended and the writer has not come round yet, the next shorter network counts,
   * which the trie does not show: it is looked for length by length. So is it in the kernel, for every packet.
   */
  private decide4(first: number, a0: number, port: number, now: number): number {
    const { records, slots, seed } = this;
    const result = judge(first, records[(first << RecordField.STRIDE4_SHIFT) + RecordField.state4], now);
    if (result !== NO_ENTRY) return result;
    const lengths = records[0];
    for (
      let length = (records[(first << RecordField.STRIDE4_SHIFT) + RecordField.scope4] >>> 24) - 1;
      length > 0;
      length--
    ) {
      if (((lengths >>> (length - 1)) & 1) === 0) continue;
      const entry = findEntry4(slots, records, seed, a0 & (-1 << (32 - length)), (length << 24) | port);
      if (entry === 0) continue;
      const next = judge(entry, records[(entry << RecordField.STRIDE4_SHIFT) + RecordField.state4], now);
      if (next !== NO_ENTRY) return next;
    }
    return NO_ENTRY;
  }

  private decide6(first: number, a0: number, a1: number, a2: number, a3: number, port: number, now: number): number {
    const { records, slots, seed } = this;
    const result = judge(first, records[(first << RecordField.STRIDE6_SHIFT) + RecordField.state6], now);
    if (result !== NO_ENTRY) return result;
    for (
      let length = (records[(first << RecordField.STRIDE6_SHIFT) + RecordField.scope6] >>> 24) - 1;
      length > 0;
      length--
    ) {
      if (((records[(length - 1) >> 5] >>> ((length - 1) & 31)) & 1) === 0) continue;
      const mask = MASKS[length];
      const scope = (length << 24) | port;
      const entry = findEntry6(slots, records, seed, a0 & mask[0], a1 & mask[1], a2 & mask[2], a3 & mask[3], scope);
      if (entry === 0) continue;
      const next = judge(entry, records[(entry << RecordField.STRIDE6_SHIFT) + RecordField.state6], now);
      if (next !== NO_ENTRY) return next;
    }
    return NO_ENTRY;
  }
}

const EMPTY = new Int32Array(2);
const HOST4 = 32 << 24;
const HOST6 = 128 << 24;
/** Netmasks of IPv6 by length. */
const MASKS = Array.from({ length: 129 }, (_, length) => maskWords(length));

/** What a state makes of a match: the entry, −1 − entry for nomatch, NO_ENTRY when it has ended. */
function judge(entry: number, state: number, now: number): number {
  const until = state >>> 1;
  if (until !== 0 && until <= now) return NO_ENTRY;
  return (state & 1) === 0 ? entry : (-1 - entry) | 0;
}

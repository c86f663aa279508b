/** What a match of a network means whose state is not plain. Rare, or where entries have times: one more read, and seldom more than that. */
// Not from addr.ts: the data plane has no use for its parser.
import { maskWords } from '../mask_words.js';
import { findEntry4, findEntry6 } from './exact_lookup.js';
import { RecordField, type TableBuffers } from './layout.js';

/** Netmasks of IPv6 by length. */
const MASKS = Array.from({ length: 129 }, (_, length) => maskWords(length));

/** What every set of networks has. */
export class NetTable {
  protected readonly records: Int32Array;
  protected readonly arena: Int32Array;
  protected readonly roots: Int32Array;
  private readonly slots: Int32Array;
  private readonly seed: number;

  constructor(
    { records, slots, arena, roots, seed }: TableBuffers,
    protected readonly hasPort: boolean,
  ) {
    this.records = new Int32Array(records);
    this.arena = arena ? new Int32Array(arena) : EMPTY;
    this.roots = roots ? new Int32Array(roots) : EMPTY;
    this.slots = new Int32Array(slots);
    this.seed = seed;
  }

  /**
   * The longest network is `first`, one of `nomatch` or one that ends. When it has ended and the writer has not come round yet, the next shorter network
   * counts, which the trie does not show: it is looked for length by length. So is it in the kernel, for every packet. Returns as SetView's look-ups do.
   */
  protected decide4(first: number, a0: number, port: number, now: number): number {
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

  protected decide6(first: number, a0: number, a1: number, a2: number, a3: number, port: number, now: number): number {
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
/** As in set_view.ts, which has it from here. */
const NO_ENTRY = -1;

/** What a state makes of a match: the entry, −1 − entry for nomatch, NO_ENTRY when it has ended. */
function judge(entry: number, state: number, now: number): number {
  const until = state >>> 1;
  if (until !== 0 && until <= now) return NO_ENTRY;
  return (state & 1) === 0 ? entry : (-1 - entry) | 0;
}

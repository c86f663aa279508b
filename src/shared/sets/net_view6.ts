import { bitsOf, windowAt } from '../lpm_lookup.js';
import { RecordField } from './layout.js';
import { NetTable } from './net_decide.js';
import { findRoot, NetNode, NetWord } from './net_lookup.js';

/** The IPv6 networks of a set, as a worker looks them up: the trie of net_lookup.ts. Hot, and written as host_view.ts is. */
export class NetView6 extends NetTable {
  /**
   * As SetView.lookup6. In most tries the first node is about bits of the address's first word and ends in buckets: these are looked up here, all others
   * in `further`.
   */
  lookup6(a0: number, a1: number, a2: number, a3: number, port: number, now: number): number {
    const { arena } = this;
    const root = this.hasPort === true ? this.rootOf(port) : this.roots[1];
    const node = (root & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
    const kind = arena[node + NetNode.kind];
    let best = 0;
    if (kind >= NetNode.SHORT && root < 0) {
      if (((a0 ^ arena[node + NetNode.prefix]) & arena[node + NetNode.mask]) !== 0) return -1;
      const pair = (node + NetNode.HEADER + (((a0 >>> kind) & arena[node + NetNode.indexMask6]) << 1)) | 0;
      const child = arena[pair + 1];
      if (child >= 0) {
        best = arena[pair];
        // The 32 bits behind the node; shifts are by their last five bits, so one by 32 has to be two.
        const window = ((a0 << 1) << (NetNode.SHORT + 31 - kind)) | (a1 >>> kind);
        let at = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
        for (let left = child >> NetWord.COUNT_SHIFT; left > 0; left--) {
          const item = arena[at + 1];
          const behind = (item >>> NetWord.LENGTH_SHIFT) & NetWord.LENGTH_MASK;
          const difference = window ^ arena[at];
          if (
            behind < 32
              ? difference >>> (31 - behind) === 0
              : difference === 0 && this.holds(item, NetNode.SHORT + 33 + behind - kind, a1, a2, a3)
          ) {
            best = item & NetWord.RESULT_MASK;
            break;
          }
          at = (at + 2) | 0;
        }
        if (best > 0) return best;
        if (best === 0) return -1;
      }
    }
    return this.further(best, a0, a1, a2, a3, port, now);
  }

  /** Whether an item's prefix, of `length` bits, more than 32, has the address's bits behind the first word. */
  private holds(item: number, length: number, a1: number, a2: number, a3: number): boolean {
    const { records } = this;
    const record = ((item & NetWord.ENTRY_MASK) << RecordField.STRIDE6_SHIFT) | 0;
    const second = a1 ^ records[record + 1];
    if (length <= 64) return second >>> (64 - length) === 0;
    if (second !== 0) return false;
    const third = a2 ^ records[record + 2];
    if (length <= 96) return third >>> (96 - length) === 0;
    return third === 0 && (a3 ^ records[record + 3]) >>> (128 - length) === 0;
  }

  /** `found`: value or item that asks for a closer look (CHECK), 0: look it up. */
  private further(found: number, a0: number, a1: number, a2: number, a3: number, port: number, now: number): number {
    const root = this.hasPort ? this.rootOf(port) : this.roots[1];
    const best = found !== 0 || root === 0 ? found : lookupNet6(this.arena, this.records, root, a0, a1, a2, a3);
    if (best >= 0) return best > 0 ? best : -1;
    return this.decide6(best & NetWord.ENTRY_MASK, a0, a1, a2, a3, port, now);
  }

  private rootOf(port: number): number {
    const at = findRoot(this.roots, port);
    return at < 0 ? 0 : this.roots[at];
  }
}

/**
 * Value or item without its length (entry number, perhaps CHECK) of the longest prefix that holds the address, 0: none. For any trie. `records` decides where a bucket's 32 bits are too few.
 */
function lookupNet6(
  arena: Int32Array,
  records: Int32Array,
  root: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
): number {
  let best = 0;
  let child = root;
  let end = 0;
  while (child < 0) {
    const node = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
    const kind = arena[node + NetNode.kind];
    const place = arena[node + NetNode.place6];
    const position = (place >>> 8) & 255;
    if (kind >= NetNode.SHORT) {
      if (((a0 ^ arena[node + NetNode.prefix]) & arena[node + NetNode.mask]) !== 0) return best;
    } else if (kind !== 0 && !startsWith(arena, node + NetNode.prefix, position, a0, a1, a2, a3)) {
      return best;
    }
    const bits = place & 255;
    const pair = (node + NetNode.HEADER + (bitsOf(position, bits, a0, a1, a2, a3) << 1)) | 0;
    end = (position + bits) | 0;
    const value = arena[pair];
    if (value !== 0) best = value;
    child = arena[pair + 1];
  }
  if (child === 0) return best;
  const window = windowAt(end, a0, a1, a2, a3);
  let at = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
  for (let left = child >>> NetWord.COUNT_SHIFT; left > 0; left--) {
    const item = arena[at + 1];
    const behind = (item >>> NetWord.LENGTH_SHIFT) & NetWord.LENGTH_MASK;
    if (behind < 32) {
      if ((window ^ arena[at]) >>> (31 - behind) === 0) return item & NetWord.RESULT_MASK;
    } else if (window === arena[at]) {
      const record = (item & NetWord.ENTRY_MASK) << RecordField.STRIDE6_SHIFT;
      if (startsWith(records, record, (end + behind + 1) | 0, a0, a1, a2, a3)) return item & NetWord.RESULT_MASK;
    }
    at = (at + 2) | 0;
  }
  return best;
}

/** Whether the first `length` (1-128) bits of the address are those of the four words at `at`. */
function startsWith(
  words: Int32Array,
  at: number,
  length: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
): boolean {
  if (length <= 32) return (a0 ^ words[at]) >>> (32 - length) === 0;
  if (a0 !== words[at]) return false;
  if (length <= 64) return (a1 ^ words[at + 1]) >>> (64 - length) === 0;
  if (a1 !== words[at + 1]) return false;
  if (length <= 96) return (a2 ^ words[at + 2]) >>> (96 - length) === 0;
  return a2 === words[at + 2] && (a3 ^ words[at + 3]) >>> (128 - length) === 0;
}

import { findRoot, NetNode, NetWord } from './net_lookup.js';
import { NetTable } from './net_decide.js';

/** The IPv4 networks of a set, as a worker looks them up: the trie of net_lookup.ts. Hot, and written as host_view.ts is. */
export class NetView4 extends NetTable {
  /** As SetView.lookup4. */
  lookup4(a0: number, port: number, now: number): number {
    const { arena } = this;
    let best = 0;
    let child = this.hasPort === true ? this.rootOf(port) : this.roots[1];
    while (child < 0) {
      const node = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
      if (((a0 ^ arena[node + NetNode.prefix]) & arena[node + NetNode.mask]) !== 0) {
        child = 0;
        break;
      }
      const pair =
        (node + NetNode.HEADER + (((a0 >>> arena[node + NetNode.shift]) & arena[node + NetNode.indexMask]) << 1)) | 0;
      const value = arena[pair];
      if (value !== 0) best = value;
      child = arena[pair + 1];
    }
    let at = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
    for (let left = child >>> NetWord.COUNT_SHIFT; left > 0; left--) {
      const item = arena[at + 1];
      if ((a0 ^ arena[at]) >>> (31 - ((item >>> NetWord.LENGTH_SHIFT) & NetWord.LENGTH_MASK)) === 0) {
        best = item & NetWord.RESULT_MASK;
        break;
      }
      at = (at + 2) | 0;
    }
    if (best > 0) return best;
    return best === 0 ? -1 : this.decide4(best & NetWord.ENTRY_MASK, a0, port, now);
  }

  private rootOf(port: number): number {
    const at = findRoot(this.roots, port);
    return at < 0 ? 0 : this.roots[at];
  }
}

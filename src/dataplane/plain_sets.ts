/** Sets on the short way: those that drop, and those on the allow list. */
import type { PlainStages } from './filter/plain_stages.js';
import { Heading, type PlainHeaders } from './plain_headers.js';
import type { Burst } from './port.js';
import { Verdict } from './verdict.js';

/** In PlainHeaders.home: the packet has its verdict. */
export const JUDGED = -2;

/** What one packet's look-ups come to. */
const enum Say {
  goesOn = 0,
  /** Only the steps know, or must count. */
  steps = 1,
  drop = 2,
}

/**
 * What the steps ask of sets, asked of plain packets by their bytes: the allow list, then the sets that drop. A packet that a set drops gets its verdict and
 * is counted here. One that is in a set on the allow list, or that an entry with `nomatch` decides, is left to the steps, which ask again, and count; all
 * that is in none of these is counted nowhere.
 */
export class PlainSets {
  private readonly prefixes: PlainStages['prefixes'];
  private readonly allows: PlainStages['allows'];
  private readonly drops: PlainStages['drops'];
  /** Those of them whose look-ups wait for memory. */
  private readonly large: PlainStages['drops'];
  protected touched = 0;

  /** `dropsAtOnce`: what is in a set may be dropped by what its outer header says; not so where packets are decapsulated. */
  constructor(
    private readonly view: DataView,
    { prefixes, allows, drops }: PlainStages,
    private readonly dropsAtOnce: boolean,
  ) {
    this.prefixes = prefixes;
    this.allows = allows;
    this.drops = drops;
    this.large = drops.filter(({ set }) => set.isLarge4);
  }

  /** Judges the packets that have a home. Returns how many were dropped; those have JUDGED for a home, and their verdict. */
  judge({ offset, verdict }: Burst, count: number, { home, heading }: PlainHeaders): number {
    if (this.large.length > 0) this.touch(offset, count, home, heading);
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      if (home[i] < 0) continue;
      const head = heading[i];
      // The sign says IPv6.
      const said = head < 0 ? this.ask6(offset[i], head) : this.ask4(offset[i], head);
      if (said === Say.goesOn) continue;
      if (said === Say.drop) {
        home[i] = JUDGED;
        verdict[i] = Verdict.Drop;
        dropped++;
      } else {
        home[i] = -1;
      }
    }
    return dropped;
  }

  /** A loop of its own, so that the cache misses of a burst overlap. */
  private touch(offset: Int32Array, count: number, home: Int32Array, heading: Int32Array): void {
    const { view, large } = this;
    let seen = 0;
    for (let i = 0; i < count; i++) {
      const head = heading[i];
      if (home[i] < 0 || head < 0) continue;
      const data = offset[i];
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      const src = view.getInt32(data + 26);
      const dst = view.getInt32(data + 30);
      const ports = view.getInt32(data + 34);
      for (let s = 0; s < large.length; s++) seen |= large[s].set.touch4(src, dst, protocol, ports, large[s].sides);
    }
    // Only so that the reads are not optimised away.
    this.touched = seen;
  }

  private ask4(data: number, head: number): Say {
    const { view, allows, drops } = this;
    const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
    const src = view.getInt32(data + 26);
    const dst = view.getInt32(data + 30);
    const ports = view.getInt32(data + 34);
    if (this.prefixes !== null && this.prefixes.has4(src)) return Say.goesOn;
    for (let i = 0; i < allows.length; i++) if (allows[i].find4(src, dst, protocol, ports, 0) !== -1) return Say.steps;
    for (let i = 0; i < drops.length; i++) {
      const { set, sides } = drops[i];
      const found = set.find4(src, dst, protocol, ports, sides);
      if (found === -1) continue;
      if (found < 0 || !this.dropsAtOnce) return Say.steps;
      set.count(found, 4, head & 0xffff);
      return Say.drop;
    }
    return Say.goesOn;
  }

  private ask6(data: number, head: number): Say {
    const { view, allows, drops } = this;
    const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
    if (this.prefixes !== null && this.prefixes.has6(view, data + 22)) return Say.goesOn;
    for (let i = 0; i < allows.length; i++) if (allows[i].find6(view, data + 22, protocol, 0) !== -1) return Say.steps;
    for (let i = 0; i < drops.length; i++) {
      const { set, sides } = drops[i];
      const found = set.find6(view, data + 22, protocol, sides);
      if (found === -1) continue;
      if (found < 0 || !this.dropsAtOnce) return Say.steps;
      set.count(found, 6, head & 0xffff);
      return Say.drop;
    }
    return Say.goesOn;
  }
}

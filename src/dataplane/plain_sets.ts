/** Sets on the short way: those that drop, and those on the allow list. */
import { SetSides, SlotWord } from '../shared/sets/index.js';
import type { PlainHosts, PlainSet, PlainStages } from './filter/plain_stages.js';
import { Heading, Home } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';
import {
  hasher4,
  hostDropper4,
  nextDropper4,
  SetSum,
  toucher,
  type Hasher,
  type HostDropper,
  type NextDropper,
  type SetFinding,
  type Toucher,
} from './plain_set_loops.js';
import type { Burst } from './port.js';
import { Verdict } from './verdict.js';

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
  private prefixes: PlainStages['prefixes'] = null;
  private allows: PlainStages['allows'] = [];
  private drops: PlainStages['drops'] = [];
  /** Those of them whose look-ups wait for memory. */
  private large: PlainStages['drops'] = [];
  private dropsAtOnce = false;
  protected touched = 0;
  private readonly finding: SetFinding;
  private readonly hash: Hasher;
  private readonly touchEntries: Toucher;
  private readonly dropHosts: HostDropper;
  private readonly dropNext: NextDropper;

  constructor(
    private readonly view: DataView,
    private readonly headers: PlainHeaders,
    slots: number,
  ) {
    const array = (): Int32Array => new Int32Array(slots);
    this.finding = {
      keys: array(),
      hashes: array(),
      slots: array(),
      next: array(),
      others: array(),
      dropped: array(),
      sums: new Int32Array(SetSum.SIZE),
    };
    this.hash = hasher4(headers, this.finding);
    this.touchEntries = toucher(this.finding);
    this.dropHosts = hostDropper4(headers, this.finding);
    this.dropNext = nextDropper4(headers, this.finding);
  }

  /** `dropsAtOnce`: what is in a set may be dropped by what its outer header says; not so where packets are decapsulated. */
  adopt({ prefixes, allows, drops }: PlainStages, dropsAtOnce: boolean): void {
    this.prefixes = prefixes;
    this.allows = allows;
    this.drops = drops;
    this.large = drops.filter(({ set }) => set.isLarge4 && set.hosts4 === null);
    this.dropsAtOnce = dropsAtOnce;
  }

  /** Judges the packets that have a home. Returns how many were dropped; those have Home.judged, and their verdict. */
  judge(burst: Burst, count: number): number {
    if (this.large.length > 0) this.touch(count);
    const { drops } = this;
    if (this.prefixes !== null || this.allows.length > 0 || !this.dropsAtOnce) return this.judgeEach(burst, count);
    let dropped = 0;
    for (let i = 0; i < drops.length; i++) {
      const { set, sides } = drops[i];
      const { hosts4 } = set;
      dropped +=
        hosts4 !== null ? this.judgeHosts(burst, count, set, hosts4, sides) : this.judgeOne(burst, count, set, sides);
    }
    return this.headers.hasIpv6 ? dropped + this.judgeEach(burst, count, 6) : dropped;
  }

  /** Each packet by itself; of IPv6 only, where that is said. */
  private judgeEach({ verdict }: Burst, count: number, family = 0): number {
    const { home, heading, start } = this.headers;
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      const head = heading[i];
      if (home[i] < 0 || (family === 6 && head >= 0)) continue;
      // The sign says IPv6.
      const said = head < 0 ? this.ask6(start[i], head) : this.ask4(i, head);
      if (said === Say.goesOn) continue;
      if (said === Say.drop) {
        home[i] = Home.judged;
        verdict[i] = Verdict.Drop;
        dropped++;
      } else {
        home[i] = -1;
      }
    }
    return dropped;
  }

  /** IPv4 packets by one set of hosts: loops over the burst, so that its reads from memory overlap. */
  private judgeHosts({ verdict }: Burst, count: number, set: PlainSet, hosts: PlainHosts, sides: number): number {
    const { slots, others, dropped, sums } = this.finding;
    const { heading } = this.headers;
    this.hash(count, (sides & SetSides.addressDestination) !== 0, hosts);
    if (set.isLarge4) this.touched = this.touchEntries(count, hosts.records);
    let next = this.dropHosts(count, hosts.records, verdict);
    for (let distance = 1; next > 0; distance++) next = this.dropNext(next, distance, hosts, verdict);
    let packets = sums[SetSum.packets];
    if (set.countsEntries4) {
      for (let n = 0; n < packets; n++) {
        const i = dropped[n];
        set.count(slots[i] & SlotWord.ENTRY_MASK, 4, heading[i] & 0xffff);
      }
    } else {
      set.countAll(packets, sums[SetSum.bytes]);
    }
    const left = sums[SetSum.others];
    for (let n = 0; n < left; n++) packets += this.dropsIn(others[n], set, sides, verdict);
    return packets;
  }

  /** IPv4 packets by one set of another kind. */
  private judgeOne({ verdict }: Burst, count: number, set: PlainSet, sides: number): number {
    const { home, heading } = this.headers;
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      if (home[i] >= 0 && heading[i] >= 0) dropped += this.dropsIn(i, set, sides, verdict);
    }
    return dropped;
  }

  /** Looks one IPv4 packet up in a set; 1 when that drops it, else 0. */
  private dropsIn(i: number, set: PlainSet, sides: number, verdict: Int32Array): number {
    const { home, heading, src0, dst0, ports } = this.headers;
    const head = heading[i];
    const found = set.find4(src0[i], dst0[i], head >>> Heading.PROTOCOL_SHIFT, ports[i], sides);
    if (found === -1) return 0;
    if (found < 0) {
      home[i] = -1;
      return 0;
    }
    set.count(found, 4, head & 0xffff);
    home[i] = Home.judged;
    verdict[i] = Verdict.Drop;
    return 1;
  }

  /** A loop of its own, so that the cache misses of a burst overlap. */
  private touch(count: number): void {
    const { large } = this;
    const { home, heading, src0, dst0, ports } = this.headers;
    let seen = 0;
    for (let i = 0; i < count; i++) {
      const head = heading[i];
      if (home[i] < 0 || head < 0) continue;
      const protocol = head >>> Heading.PROTOCOL_SHIFT;
      for (let s = 0; s < large.length; s++) {
        seen |= large[s].set.touch4(src0[i], dst0[i], protocol, ports[i], large[s].sides);
      }
    }
    // Only so that the reads are not optimised away.
    this.touched = seen;
  }

  private ask4(i: number, head: number): Say {
    const { allows, drops } = this;
    const protocol = head >>> Heading.PROTOCOL_SHIFT;
    const src = this.headers.src0[i];
    const dst = this.headers.dst0[i];
    const ports = this.headers.ports[i];
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

import { FlowField, Lodgers } from './balance/flow_entry.js';
import { Heading } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';

/** Goes over a number of packets; returns how many are in `farther` then. */
type Loop = (count: number) => number;

/** Where flows are looked for beside their home slots. */
interface Search {
  /** Positions of packets whose flow is not in its home slot, though it may be in its first window. */
  farther: Int32Array;
  /** By position in the burst: slots of that window that have a flow of this home and are still to be looked at, a bit each. */
  lodgers: Int32Array;
  /** PlainFlows.missed. */
  missed: Int32Array;
}

/** Where the flows of a burst's plain packets are. */
export class PlainFlows {
  /** By position in the burst, where the packet has a home: word index of its flow; −1: not in its first window. */
  readonly place: Int32Array;
  /** One word: packets with a home whose place is −1. */
  readonly missed = new Int32Array(1);
  private readonly prefetch: (count: number) => number;
  private readonly find4: Loop;
  private readonly find6: Loop;
  private readonly search4: Loop;
  private readonly search6: Loop;
  private seen = 0;

  /** `words`: of the flow table. */
  constructor(
    words: Int32Array,
    private readonly headers: PlainHeaders,
    slots: number,
  ) {
    this.place = new Int32Array(slots);
    const search = { farther: new Int32Array(slots), lodgers: new Int32Array(slots), missed: this.missed };
    this.prefetch = prefetcher(words, headers.home);
    this.find4 = finder4(words, headers, this.place, search);
    this.find6 = finder6(words, headers, this.place, search);
    this.search4 = searcher4(words, headers, this.place, search);
    this.search6 = searcher6(words, headers, this.place, search);
  }

  find(count: number): void {
    // Kept only so that the reads are not optimised away.
    this.seen &= this.prefetch(count);
    // Who is in the second window is found by PlainFresh.
    this.missed[0] = 0;
    if (this.headers.hasIpv4) for (let farther = this.find4(count); farther > 0;) farther = this.search4(farther);
    if (this.headers.hasIpv6) for (let farther = this.find6(count); farther > 0;) farther = this.search6(farther);
  }
}

/** So short that the processor has all slots under way at once. */
function prefetcher(words: Int32Array, home: Int32Array): (count: number) => number {
  return (count) => {
    const end = count | 0;
    let seen = 0;
    for (let i = 0; i < end; i++) {
      const at = home[i];
      seen |= words[at < 0 ? 0 : at];
    }
    return seen;
  };
}

/** Looks at the home slots alone. */
function finder4(words: Int32Array, headers: PlainHeaders, place: Int32Array, search: Search): Loop {
  const { farther, lodgers, missed } = search;
  const { home, heading, src0, dst0, ports } = headers;
  return (count) => {
    const end = count | 0;
    let misses = 0;
    let entries = 0;
    for (let i = 0; i < end; i++) {
      const from = home[i];
      const head = heading[i];
      if (from < 0 || head < 0) continue;
      if (
        words[from] === (0x10400 | (head >>> Heading.PROTOCOL_SHIFT)) &&
        words[(from + FlowField.src0) | 0] === src0[i] &&
        words[(from + FlowField.ports) | 0] === ports[i] &&
        words[(from + FlowField.dst0) | 0] === dst0[i]
      ) {
        place[i] = from;
      } else {
        place[i] = -1;
        misses = (misses + 1) | 0;
        const here = words[(from + FlowField.lodgers) | 0] & (Lodgers.HERE - 1);
        if (here === 0) continue;
        lodgers[i] = here;
        farther[entries++] = i;
      }
    }
    missed[0] = (missed[0] + misses) | 0;
    return entries;
  };
}

function finder6(words: Int32Array, headers: PlainHeaders, place: Int32Array, search: Search): Loop {
  const { farther, lodgers, missed } = search;
  const { home, heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports } = headers;
  return (count) => {
    const end = count | 0;
    let misses = 0;
    let entries = 0;
    for (let i = 0; i < end; i++) {
      const from = home[i];
      const head = heading[i];
      if (from < 0 || head >= 0) continue;
      if (
        words[from] === (0x10600 | ((head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK)) &&
        words[(from + FlowField.src0) | 0] === src0[i] &&
        words[(from + FlowField.src3) | 0] === src3[i] &&
        words[(from + FlowField.ports) | 0] === ports[i] &&
        words[(from + FlowField.src1) | 0] === src1[i] &&
        words[(from + FlowField.src2) | 0] === src2[i] &&
        words[(from + FlowField.dst0) | 0] === dst0[i] &&
        words[(from + FlowField.dst1) | 0] === dst1[i] &&
        words[(from + FlowField.dst2) | 0] === dst2[i] &&
        words[(from + FlowField.dst3) | 0] === dst3[i]
      ) {
        place[i] = from;
      } else {
        place[i] = -1;
        misses = (misses + 1) | 0;
        const here = words[(from + FlowField.lodgers) | 0] & (Lodgers.HERE - 1);
        if (here === 0) continue;
        lodgers[i] = here;
        farther[entries++] = i;
      }
    }
    missed[0] = (missed[0] + misses) | 0;
    return entries;
  };
}

/** Looks at one more slot of each packet in `farther`. */
function searcher4(words: Int32Array, headers: PlainHeaders, place: Int32Array, search: Search): Loop {
  const { home, heading, src0, dst0, ports } = headers;
  const { farther, lodgers, missed } = search;
  const mask = (words.length - 1) | 0;
  return (count) => {
    const end = count | 0;
    let found = 0;
    let entries = 0;
    for (let entry = 0; entry < end; entry++) {
      const i = farther[entry];
      const here = lodgers[i];
      const at = (home[i] + ((31 - Math.clz32(here & -here)) << FlowField.STRIDE_SHIFT)) & mask;
      if (
        words[at] === (0x10400 | (heading[i] >>> Heading.PROTOCOL_SHIFT)) &&
        words[(at + FlowField.src0) | 0] === src0[i] &&
        words[(at + FlowField.ports) | 0] === ports[i] &&
        words[(at + FlowField.dst0) | 0] === dst0[i]
      ) {
        place[i] = at;
        found = (found + 1) | 0;
        continue;
      }
      const rest = here & (here - 1);
      if (rest === 0) continue;
      lodgers[i] = rest;
      farther[entries++] = i;
    }
    missed[0] = (missed[0] - found) | 0;
    return entries;
  };
}

function searcher6(words: Int32Array, headers: PlainHeaders, place: Int32Array, search: Search): Loop {
  const { home, heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports } = headers;
  const { farther, lodgers, missed } = search;
  const mask = (words.length - 1) | 0;
  return (count) => {
    const end = count | 0;
    let found = 0;
    let entries = 0;
    for (let entry = 0; entry < end; entry++) {
      const i = farther[entry];
      const here = lodgers[i];
      const at = (home[i] + ((31 - Math.clz32(here & -here)) << FlowField.STRIDE_SHIFT)) & mask;
      if (
        words[at] === (0x10600 | ((heading[i] >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK)) &&
        words[(at + FlowField.src0) | 0] === src0[i] &&
        words[(at + FlowField.src3) | 0] === src3[i] &&
        words[(at + FlowField.ports) | 0] === ports[i] &&
        words[(at + FlowField.src1) | 0] === src1[i] &&
        words[(at + FlowField.src2) | 0] === src2[i] &&
        words[(at + FlowField.dst0) | 0] === dst0[i] &&
        words[(at + FlowField.dst1) | 0] === dst1[i] &&
        words[(at + FlowField.dst2) | 0] === dst2[i] &&
        words[(at + FlowField.dst3) | 0] === dst3[i]
      ) {
        place[i] = at;
        found = (found + 1) | 0;
        continue;
      }
      const rest = here & (here - 1);
      if (rest === 0) continue;
      lodgers[i] = rest;
      farther[entries++] = i;
    }
    missed[0] = (missed[0] - found) | 0;
    return entries;
  };
}

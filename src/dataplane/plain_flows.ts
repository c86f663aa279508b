import { FlowField, Lodgers } from './balance/flow_entry.js';
import { Heading, type PlainHeaders } from './plain_headers.js';

/** Goes over the first `count` packets of a burst. Appends to `farther`, which has so many entries; returns how many it has then. */
type Loop = (count: number, entries: number) => number;

/** Where the flows of a burst's plain packets are. */
export class PlainFlows {
  /** By position in the burst, where the packet has a home: word index of its flow; −1: not in its first window. */
  readonly place: Int32Array;
  /** Positions of packets whose flow is not in its home slot. */
  private readonly farther: Int32Array;
  private readonly prefetch: (count: number) => number;
  private readonly find4: Loop;
  private readonly find6: Loop;
  private seen = 0;

  /** `words`: of the flow table. */
  constructor(
    private readonly words: Int32Array,
    private readonly headers: PlainHeaders,
    slots: number,
  ) {
    this.place = new Int32Array(slots);
    this.farther = new Int32Array(slots);
    this.prefetch = prefetcher(words, headers.home);
    this.find4 = finder4(words, headers, this.place, this.farther);
    this.find6 = finder6(words, headers, this.place, this.farther);
  }

  find(count: number): void {
    // Kept only so that the reads are not optimised away.
    this.seen &= this.prefetch(count);
    let entries = this.find4(count, 0);
    if (this.headers.hasIpv6) entries = this.find6(count, entries);
    if (entries > 0) this.findFarther(entries);
  }

  /** The other slots of the first window that have a flow of this home. One in its second window takes the steps. */
  private findFarther(entries: number): void {
    const { words, place, farther } = this;
    const { home, heading } = this.headers;
    const mask = (words.length - 1) | 0;
    for (let entry = 0; entry < entries; entry++) {
      const i = farther[entry];
      const from = home[i];
      let lodgers = words[(from + FlowField.lodgers) | 0] & (Lodgers.HERE - 1);
      while (lodgers !== 0) {
        const at = (from + ((31 - Math.clz32(lodgers & -lodgers)) << FlowField.STRIDE_SHIFT)) & mask;
        if (heading[i] < 0 ? this.is6(at, i) : this.is4(at, i)) {
          place[i] = at;
          break;
        }
        lodgers &= (lodgers - 1) | 0;
      }
    }
  }

  private is4(at: number, i: number): boolean {
    const { words } = this;
    const { heading, src0, dst0, ports } = this.headers;
    return (
      words[at] === (0x10400 | (heading[i] >>> Heading.PROTOCOL_SHIFT)) &&
      words[(at + FlowField.src0) | 0] === src0[i] &&
      words[(at + FlowField.ports) | 0] === ports[i] &&
      words[(at + FlowField.dst0) | 0] === dst0[i]
    );
  }

  private is6(at: number, i: number): boolean {
    const { words } = this;
    const { heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports } = this.headers;
    return (
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
    );
  }
}

/** So short that the processor has all slots under way at once. */
function prefetcher(words: Int32Array, home: Int32Array): (count: number) => number {
  return (count) => {
    let seen = 0;
    for (let i = 0; i < count; i++) {
      const at = home[i];
      seen |= words[at < 0 ? 0 : at];
    }
    return seen;
  };
}

/** Looks at the home slots alone. */
function finder4(words: Int32Array, headers: PlainHeaders, place: Int32Array, farther: Int32Array): Loop {
  const { home, heading, src0, dst0, ports } = headers;
  return (count, entries) => {
    for (let i = 0; i < count; i++) {
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
        farther[entries++] = i;
      }
    }
    return entries;
  };
}

function finder6(words: Int32Array, headers: PlainHeaders, place: Int32Array, farther: Int32Array): Loop {
  const { home, heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports } = headers;
  return (count, entries) => {
    for (let i = 0; i < count; i++) {
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
        farther[entries++] = i;
      }
    }
    return entries;
  };
}

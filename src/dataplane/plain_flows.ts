import { FlowField, Lodgers } from './balance/flow_entry.js';
import { Heading, type PlainHeaders } from './plain_headers.js';

/** Goes over the first `count` packets of a burst. */
type Loop = (count: number) => void;

/** Where the flows of a burst's plain packets are. */
export class PlainFlows {
  /** By position in the burst, where the packet has a home: word index of its flow; −1: not in its first window. */
  readonly place: Int32Array;
  private readonly prefetch: (count: number) => number;
  private readonly find4: Loop;
  private readonly find6: Loop;
  private seen = 0;

  /** `words`: of the flow table. */
  constructor(
    words: Int32Array,
    private readonly headers: PlainHeaders,
    slots: number,
  ) {
    this.place = new Int32Array(slots);
    this.prefetch = prefetcher(words, headers.home);
    this.find4 = finder4(words, headers, this.place);
    this.find6 = finder6(words, headers, this.place);
  }

  find(count: number): void {
    // Kept only so that the reads are not optimised away.
    this.seen &= this.prefetch(count);
    this.find4(count);
    if (this.headers.hasIpv6) this.find6(count);
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

function finder4(words: Int32Array, headers: PlainHeaders, place: Int32Array): Loop {
  const { home, heading, src0, dst0, ports } = headers;
  const mask = (words.length - 1) | 0;
  return (count) => {
    for (let i = 0; i < count; i++) {
      const from = home[i];
      const head = heading[i];
      if (from < 0 || head < 0) continue;
      const kind = 0x10400 | (head >>> Heading.PROTOCOL_SHIFT);
      let lodgers = -1;
      let flow = from;
      while (
        words[flow] !== kind ||
        words[(flow + FlowField.src0) | 0] !== src0[i] ||
        words[(flow + FlowField.ports) | 0] !== ports[i] ||
        words[(flow + FlowField.dst0) | 0] !== dst0[i]
      ) {
        // The next slot of the window with a flow of this home. One in its second window takes the steps.
        if (lodgers === -1) lodgers = words[(from + FlowField.lodgers) | 0] & (Lodgers.HERE - 1);
        if (lodgers === 0) {
          flow = -1;
          break;
        }
        flow = (from + ((31 - Math.clz32(lodgers & -lodgers)) << FlowField.STRIDE_SHIFT)) & mask;
        lodgers &= (lodgers - 1) | 0;
      }
      place[i] = flow;
    }
  };
}

function finder6(words: Int32Array, headers: PlainHeaders, place: Int32Array): Loop {
  const { home, heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports } = headers;
  const mask = (words.length - 1) | 0;
  return (count) => {
    for (let i = 0; i < count; i++) {
      const from = home[i];
      const head = heading[i];
      if (from < 0 || head >= 0) continue;
      const kind = 0x10600 | ((head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK);
      let lodgers = -1;
      let flow = from;
      while (
        words[flow] !== kind ||
        words[(flow + FlowField.src0) | 0] !== src0[i] ||
        words[(flow + FlowField.src3) | 0] !== src3[i] ||
        words[(flow + FlowField.ports) | 0] !== ports[i] ||
        words[(flow + FlowField.src1) | 0] !== src1[i] ||
        words[(flow + FlowField.src2) | 0] !== src2[i] ||
        words[(flow + FlowField.dst0) | 0] !== dst0[i] ||
        words[(flow + FlowField.dst1) | 0] !== dst1[i] ||
        words[(flow + FlowField.dst2) | 0] !== dst2[i] ||
        words[(flow + FlowField.dst3) | 0] !== dst3[i]
      ) {
        if (lodgers === -1) lodgers = words[(from + FlowField.lodgers) | 0] & (Lodgers.HERE - 1);
        if (lodgers === 0) {
          flow = -1;
          break;
        }
        flow = (from + ((31 - Math.clz32(lodgers & -lodgers)) << FlowField.STRIDE_SHIFT)) & mask;
        lodgers &= (lodgers - 1) | 0;
      }
      place[i] = flow;
    }
  };
}

import { FirstPackets } from './first_packets.js';

/**
 * Picks packets: the first so many of each flow, and of the others one in so many. Of every `oneIn` packets in a row exactly one is picked, at a place
 * that is drawn anew each time: the number is exact, and traffic with a period of its own does not hide from it.
 */
export class Sampling {
  private readonly flows: FirstPackets | null;
  private position = 0;
  private pick: number;
  private state: number;

  /** `oneIn`, `first`: 0: not so. `seed`: any int32. */
  constructor(
    private readonly oneIn: number,
    private readonly first: number,
    seed: number,
  ) {
    this.flows = first > 0 ? new FirstPackets() : null;
    // 0 is the one state that xorshift never leaves.
    this.state = (seed | 0) === 0 ? 0x6c078965 : seed | 0;
    this.pick = this.draw();
  }

  /** `flowHash`: hash of the packet's flow. `nowMs`: monotonic, wrapping int32. */
  judge(flowHash: number, nowMs: number): boolean {
    if (this.flows !== null && this.flows.admit(flowHash, this.first, nowMs)) return true;
    if (this.oneIn === 0) return false;
    const picked = this.position === this.pick;
    this.position = (this.position + 1) | 0;
    if (this.position === this.oneIn) {
      this.position = 0;
      this.pick = this.draw();
    }
    return picked;
  }

  /** A place in a row of `oneIn`: xorshift32 (Marsaglia, "Xorshift RNGs", 2003). */
  private draw(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return this.oneIn === 0 ? 0 : (x >>> 0) % this.oneIn;
  }
}

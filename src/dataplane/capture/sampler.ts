import type { SampleSpec } from '../../shared/rule_layout.js';
import type { Packet } from '../packet/packet.js';
import { Sampling } from './sampling.js';
import type { CaptureTap } from './tap.js';

/** What rules with `action: sample` hand their packets to. Whether somebody captures them or not, the same ones are sampled. */
export class Sampler {
  private readonly sampling: Sampling;
  private readonly snaplen: number;

  constructor(
    { oneIn, first, snaplen }: SampleSpec,
    private readonly tap: CaptureTap,
    seed: number,
  ) {
    this.sampling = new Sampling(oneIn, first, seed);
    this.snaplen = snaplen;
  }

  /** Whether the packet is one of those that are sampled. `nowMs`: monotonic, wrapping int32. */
  judge(packet: Packet, nowMs: number): boolean {
    return this.sampling.judge(packet.flowHash, nowMs);
  }

  /** Hands a packet that is sampled to captures of the rule. */
  take(packet: Packet, rule: number): void {
    this.tap.take(packet, rule, this.snaplen);
  }
}

import type { FairShareShared } from '../../shared/limits/fair_share.js';
import { FlowHash } from '../balance/hash.js';
import type { Packet } from '../packet/packet.js';
import { CountMin } from './count_min.js';
import { ladder, type Ladder } from './ladder.js';
import { LimitVerdict } from './limit_verdict.js';
import { Lottery } from './lottery.js';
import { ShareControl } from './share_control.js';

/** By how much all together may exceed the limit before everybody pays: above the noise of the rates, so that only a flood without a mark does. */
const HEADROOM = 1.04;

/**
 * Fair share in one worker (spec, ladder and sources: src/shared/limits/fair_share.ts). Level by level a packet's nodes are counted; when one has more
 * than it may, the packet gets through with probability may / has.
 *
 * - Nodes that say something of the source may have the share; the two that everybody is in, the limit and a little more.
 * - Higher levels see only what the lower ones let through, and of keys that were cut only those two nodes. With `fixed` not even these.
 *
 * The sketches are this worker's own: shared ones would pass some 30 cache lines from CPU to CPU with every packet. A flow comes to one worker, so
 * its rate is known there; only what all workers have of a destination is shared, once a window.
 */
export class FairShare {
  /** Packets dropped, by level. */
  readonly dropped = new Float64Array(8);
  /** Level that judged the last packet, -1: none had too much. */
  level = -1;

  private readonly hash: FlowHash;
  private readonly ladder4: Ladder;
  private readonly ladder6: Ladder;
  private readonly sketches4: CountMin;
  private readonly sketches6: CountMin;
  private readonly control: ShareControl;
  private readonly spec: FairShareShared;
  private readonly lottery: Lottery;
  /** Source by step, folded to one word. */
  private readonly sources: Int32Array;

  /** `worker`: this worker's number, 0 to `workers` - 1, as many as the spec was allocated for. */
  constructor(spec: FairShareShared, worker: number, workers: number, lottery = new Lottery(spec.hashKey[0] ^ worker)) {
    this.spec = spec;
    this.lottery = lottery;
    this.hash = new FlowHash(spec.hashKey);
    this.ladder4 = ladder(spec.prefixes4, 4, spec.fair);
    this.ladder6 = ladder(spec.prefixes6, 6, spec.fair);
    this.sketches4 = new CountMin(this.ladder4.nodes, spec.columns, spec.firstInterval);
    this.sketches6 = new CountMin(this.ladder6.nodes, spec.columns, spec.firstInterval);
    this.control = new ShareControl(spec, worker, workers);
    this.sources = new Int32Array(Math.max(this.ladder4.steps, this.ladder6.steps));
  }

  /** Judges and counts one packet. What is not IP is within. `nowMs`: monotonic; wraps as int32 does, fractions allowed. */
  judge(packet: Packet, nowMs: number): LimitVerdict {
    this.level = -1;
    if (packet.family === 0) return LimitVerdict.within;
    const weight = this.spec.bytes ? packet.l3Length : 1;
    return packet.family === 4
      ? this.walk(packet, this.ladder4, this.sketches4, packet.dst0, weight, nowMs)
      : this.walk(packet, this.ladder6, this.sketches6, this.foldDestination(packet), weight, nowMs);
  }

  private walk(
    packet: Packet,
    rungs: Ladder,
    sketches: CountMin,
    destination: number,
    weight: number,
    nowMs: number,
  ): LimitVerdict {
    const { control, hash } = this;
    this.setSources(packet, rungs);
    const cell = hash.ipv4(0, destination, 0, 255);
    control.offer(cell, weight, nowMs);
    const { fair } = this.spec;
    const share = fair ? control.share(cell) : this.spec.limit;
    const whole = control.whole(cell);
    let worst = 0;
    let cut = false;
    for (let node = 0; node < rungs.judged; node++) {
      const rate = this.count(node, packet, rungs, sketches, destination, weight, nowMs);
      const has = rate / (rungs.everybody[node] === 1 ? whole : share);
      if (has > worst) worst = has;
      if (node + 1 < rungs.judged && rungs.level[node + 1] === rungs.level[node]) continue;
      if (worst > 1) {
        if (this.loses(worst, rungs.level[node])) return LimitVerdict.above;
        cut = true;
        break;
      }
      worst = 0;
    }
    control.pass(cell, weight, cut);
    for (let node = rungs.judged; node < rungs.nodes; node++) {
      const has = this.count(node, packet, rungs, sketches, destination, weight, nowMs) / (whole * HEADROOM);
      if (has > 1 && this.loses(has, rungs.level[node])) return LimitVerdict.above;
    }
    return LimitVerdict.within;
  }

  /** The rate of the packet's key at a node, this packet counted. */
  private count(
    node: number,
    packet: Packet,
    rungs: Ladder,
    sketches: CountMin,
    destination: number,
    weight: number,
    nowMs: number,
  ): number {
    const source = this.sources[rungs.step[node]];
    const key = this.hash.ipv4(source, destination, packet.ports & rungs.portMask[node], node);
    return sketches.add(node, key, weight, nowMs);
  }

  /** Draws for a packet whose node has `has` times what it may. */
  private loses(has: number, level: number): boolean {
    this.level = level;
    if (this.lottery.next() * has < 1) return false;
    this.dropped[level]++;
    return true;
  }

  private setSources(packet: Packet, { masks, steps }: Ladder): void {
    const { hash, sources } = this;
    for (let step = 0, at = 0; step < steps; step++, at += 4) {
      sources[step] =
        packet.family === 4
          ? packet.src0 & masks[at]
          : hash.ipv6(
              packet.src0 & masks[at],
              packet.src1 & masks[at + 1],
              packet.src2 & masks[at + 2],
              packet.src3 & masks[at + 3],
              0,
              0,
              0,
              0,
              step,
              6,
            );
    }
  }

  private foldDestination(packet: Packet): number {
    return this.hash.ipv6(packet.dst0, packet.dst1, packet.dst2, packet.dst3, 0, 0, 0, 0, 0, 6);
  }
}

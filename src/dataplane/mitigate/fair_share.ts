import type { FairShareShared } from '../../shared/limits/fair_share.js';
import { FlowHash } from '../balance/hash.js';
import type { Packet } from '../packet/packet.js';
import { CountMin } from './count_min.js';
import { ladder, PortPart, type Ladder } from './ladder.js';
import { LimitVerdict } from './limit_verdict.js';
import { Lottery } from './lottery.js';
import { May, ShareControl } from './share_control.js';

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
  /** Hashes of the packet in hand: source by step, with the destination; ports by part. */
  private readonly sources: Int32Array;
  private readonly ports = new Int32Array(PortPart.COUNT);
  private readonly excess = new Float64Array(1);

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
      ? this.walk(packet, this.ladder4, this.sketches4, weight, nowMs)
      : this.walk(packet, this.ladder6, this.sketches6, weight, nowMs);
  }

  private walk(packet: Packet, rungs: Ladder, sketches: CountMin, weight: number, nowMs: number): LimitVerdict {
    const { control } = this;
    this.setSources(packet, rungs);
    this.setPorts(packet.ports);
    // The step that has nothing of the source: the destination alone.
    const cell = this.sources[rungs.steps - 1];
    control.offer(cell, weight, nowMs);
    const { fair } = this.spec;
    control.look(cell);
    const share = fair ? control.may[May.share] : this.spec.limit;
    const whole = control.may[May.whole];
    let worst = 0;
    let cut = false;
    for (let node = 0; node < rungs.judged; node++) {
      this.count(node, rungs, sketches, weight, nowMs);
      const has = sketches.rate[0] / (rungs.everybody[node] === 1 ? whole : share);
      if (has > worst) worst = has;
      if (node + 1 < rungs.judged && rungs.level[node + 1] === rungs.level[node]) continue;
      if (worst > 1) {
        this.excess[0] = worst;
        if (this.loses(rungs.level[node])) return LimitVerdict.above;
        cut = true;
        break;
      }
      worst = 0;
    }
    control.pass(cell, weight, cut);
    for (let node = rungs.judged; node < rungs.nodes; node++) {
      this.count(node, rungs, sketches, weight, nowMs);
      this.excess[0] = sketches.rate[0] / (whole * HEADROOM);
      if (this.excess[0] > 1 && this.loses(rungs.level[node])) return LimitVerdict.above;
    }
    return LimitVerdict.within;
  }

  /** Counts the packet at a node: the rate of its key is in `sketches.rate`. */
  private count(node: number, rungs: Ladder, sketches: CountMin, weight: number, nowMs: number): void {
    // Two keyed hashes; one more round, so that keys that meet in one node need not meet in another.
    let key = Math.imul(this.sources[rungs.step[node]] + this.ports[rungs.ports[node]], 0x7feb352d);
    key = Math.imul(key ^ (key >>> 15), 0x846ca68b);
    sketches.add(node, key ^ (key >>> 16), weight, nowMs);
  }

  /** Draws for a packet whose node has `excess` times what it may. */
  private loses(level: number): boolean {
    this.level = level;
    if ((this.lottery.next() >>> 0) * this.excess[0] < 4294967296) return false;
    this.dropped[level]++;
    return true;
  }

  private setSources(packet: Packet, { masks, steps }: Ladder): void {
    const { hash, sources } = this;
    const { src0, src1, src2, src3, dst0, dst1, dst2, dst3 } = packet;
    if (packet.family === 4) {
      for (let step = 0; step < steps; step++) sources[step] = hash.ipv4(src0 & masks[4 * step], dst0, 0, step);
      return;
    }
    for (let step = 0, at = 0; step < steps; step++, at += 4) {
      sources[step] = hash.ipv6(
        src0 & masks[at],
        src1 & masks[at + 1],
        src2 & masks[at + 2],
        src3 & masks[at + 3],
        dst0,
        dst1,
        dst2,
        dst3,
        0,
        step,
      );
    }
  }

  private setPorts(ports: number): void {
    const { hash } = this;
    this.ports[PortPart.both] = hash.ipv4(0, 0, ports, 253);
    this.ports[PortPart.source] = hash.ipv4(0, 0, ports & -65536, 254);
    this.ports[PortPart.destination] = hash.ipv4(0, 0, ports & 0xffff, 255);
  }
}

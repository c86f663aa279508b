import { Counter, CounterBlock } from '../shared/layout.js';
import type { Balancer } from './balance/forward.js';
import { FilterVerdict } from './filter/contract.js';
import type { FilterChain } from './filter/chain.js';
import { repairChecksum } from './packet/checksum.js';
import { Packet } from './packet/packet.js';
import { parse } from './packet/parse.js';
import { BurstHeader, type Port } from './port.js';
import { DropReason, Verdict } from './verdict.js';

/** One burst in this many is timed. */
const SAMPLE_EVERY = 32;

/** What a policy that throws leaves behind, for a log that the caller limits. */
export type AbortHandler = (error: unknown, packet: Packet) => void;

/**
 * The whole path of a packet in user space, for the ports of one worker. `pollOnce` reads top to bottom:
 *
 *     settle the last burst, take the next (one native crossing)
 *     → parse and hash all → filter → balance → encapsulate → verdicts, which the next exchange settles
 *
 * The filter chain and the balancer are swapped between two bursts by `adopt`.
 */
export class Path {
  private readonly packets: Packet[] = [];
  private filters: FilterChain;
  private repairByPort: readonly boolean[];
  private untilSample = 0;
  /** Clock of the burst in hand, ms, wrapping int32. */
  nowMs = 0;

  /** `memory` and `chunkSize`: the packet memory that all its ports share; `slots`: the largest burst of any of them. */
  constructor(
    memory: ArrayBuffer,
    chunkSize: number,
    slots: number,
    private readonly balancer: Balancer,
    filters: FilterChain,
    repairByPort: readonly boolean[],
    private readonly counters: Float64Array,
    private readonly onAbort: AbortHandler,
  ) {
    this.filters = filters;
    this.repairByPort = repairByPort;
    const view = new DataView(memory);
    for (let i = 0; i < slots; i++) this.packets.push(new Packet(view, chunkSize));
  }

  /** New filters and settings; the balancer has adopted its part already. */
  adopt(filters: FilterChain, repairByPort: readonly boolean[]): void {
    this.filters = filters;
    this.repairByPort = repairByPort;
  }

  /** Takes one burst from the port and judges it. Returns its number of packets. Verdicts take effect at the port's next exchange. */
  pollOnce(port: Port): number {
    const count = port.exchange();
    if (count === 0) return 0;
    const nowMs = (this.nowMs = port.burst.header[BurstHeader.nowMs]);
    const started = this.untilSample-- === 0 ? performance.now() : 0;

    this.parseAll(port, count);
    let next = 0;
    while (next < count) next = this.decideFrom(next, port, count, nowMs);

    this.counters[Counter.rx] += count;
    this.counters[Counter.bursts]++;
    if (started !== 0) this.sample(started, count);
    return count;
  }

  /** First pass: find the headers, complete checksums where the port asks for it, and compute every flow's place in the table. */
  private parseAll(port: Port, count: number): void {
    const { offset, length } = port.burst;
    const repair = this.repairByPort[port.index];
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const packet = this.packets[i];
      packet.place(offset[i], length[i]);
      packet.ifindex = port.ifindex;
      packet.queue = port.queue;
      packet.port = port.index;
      bytes += length[i];
      if (parse(packet) !== DropReason.none) continue;
      if (repair && repairChecksum(packet)) this.counters[Counter.checksumRepaired]++;
      this.balancer.hash(packet);
    }
    this.counters[Counter.rxBytes] += bytes;
  }

  /** Second pass, from `first` on. Returns the position to go on from: past a packet whose policy threw, else `count`. */
  private decideFrom(first: number, port: Port, count: number, nowMs: number): number {
    const { offset, length, verdict, target } = port.burst;
    const counters = this.counters;
    let i = first;
    try {
      for (; i < count; i++) {
        const packet = this.packets[i];
        const decision = this.decide(packet, nowMs);
        verdict[i] = decision;
        switch (decision) {
          case Verdict.Redirect:
            target[i] = packet.target;
            counters[Counter.redirect]++;
            counters[Counter.txBytes] += packet.dataEnd - packet.data;
            break;
          case Verdict.Tx:
            counters[Counter.tx]++;
            counters[Counter.txBytes] += packet.dataEnd - packet.data;
            break;
          case Verdict.Pass:
            counters[Counter.pass]++;
            break;
          case Verdict.Aborted:
            counters[Counter.aborted]++;
            counters[CounterBlock.reasons + DropReason.policyThrew]++;
            break;
          default:
            counters[Counter.drop]++;
            break;
        }
        offset[i] = packet.data;
        length[i] = packet.dataEnd - packet.data;
      }
      return count;
    } catch (error) {
      verdict[i] = Verdict.Aborted;
      counters[Counter.aborted]++;
      counters[CounterBlock.reasons + DropReason.policyThrew]++;
      this.onAbort(error, this.packets[i]);
      return i + 1;
    }
  }

  /** One packet's fate, and the counter of the reason when it is dropped. */
  private decide(packet: Packet, nowMs: number): Verdict {
    if (packet.malformed !== DropReason.none) return this.drop(packet.malformed);
    const filtered = this.filters.run(packet);
    if (filtered !== FilterVerdict.Continue) {
      return filtered === FilterVerdict.Drop ? this.drop(this.filters.reason) : (filtered as number as Verdict);
    }
    const balanced = this.balancer.balance(packet, nowMs);
    return balanced === Verdict.Drop ? this.drop(this.balancer.reason) : balanced;
  }

  private drop(reason: DropReason): Verdict {
    this.counters[CounterBlock.reasons + reason]++;
    return Verdict.Drop;
  }

  private sample(started: number, count: number): void {
    this.untilSample = SAMPLE_EVERY - 1;
    this.counters[Counter.sampledNs] += (performance.now() - started) * 1e6;
    this.counters[Counter.sampledPackets] += count;
  }
}

import { Counter, CounterBlock } from '../shared/layout.js';
import type { Balancer } from './balance/forward.js';
import { CaptureTap } from './capture/tap.js';
import { FilterVerdict } from './filter/contract.js';
import type { FilterChain } from './filter/chain.js';
import { repairChecksum } from './packet/checksum.js';
import { decapsulate } from './packet/decap.js';
import { Packet } from './packet/packet.js';
import { parse } from './packet/parse.js';
import type { FlowOffers } from './flow_offers.js';
import { KernelDecisions } from './kernel_decisions.js';
import { BurstHeader, type Burst, type Port } from './port.js';
import { PlainPath } from './plain.js';
import { Decision, DropReason, Verdict } from './verdict.js';

/** Packets in the largest burst that any port gives. */
const MAX_BURST = 1024;

/** Smaller bursts are not timed: what reading the clock costs, some 1 µs in a virtual machine, would be what is measured. */
const SAMPLE_LEAST = 16;

/** Of the others one in this many is timed. */
const SAMPLE_EVERY = 32;

/** What a policy that throws leaves behind, for a log that the caller limits. */
export type AbortHandler = (error: unknown, packet: Packet) => void;

/**
 * The whole path of a packet in user space, for the ports of one worker. `pollOnce` reads top to bottom:
 *
 *     settle the last burst, take the next (one native crossing)
 *     → plain packets take the short way (plain.ts); the rest:
 *     → parse all → filter all → look all flows up → balance and encapsulate each
 *     → verdicts, which the next exchange settles
 *
 * Each step is a loop over the burst: small enough for V8 to inline all of it, and the cache misses of a burst's flows overlap.
 * Filters and settings are swapped between two bursts by `adopt`.
 */
export class Path {
  private readonly view: DataView;
  /** By port: one packet object for each slot of its burst. */
  private readonly packets = new Map<Port, Packet[]>();
  private readonly plain: PlainPath;
  private readonly kernel: KernelDecisions;
  private filters: FilterChain;
  private repairByPort: readonly boolean[];
  /** By position among the rest: verdict of the filters, or Decision.undecided. */
  private readonly decisions = new Int32Array(MAX_BURST);
  /** By position among the rest: DropReason of those that were dropped. */
  private readonly reasons = new Int32Array(MAX_BURST);
  /** For tests: false sends every packet through the steps. */
  takesShortWay = true;
  private untilSample = 0;
  /** What reading the clock twice costs, ns. */
  private readonly clockCostNs: number;
  /** Clock of the burst in hand, ms, wrapping int32. */
  nowMs = 0;

  /** `memory` and `chunkSize`: the packet memory that all its ports share. */
  constructor(
    memory: ArrayBuffer,
    private readonly chunkSize: number,
    private readonly balancer: Balancer,
    filters: FilterChain,
    repairByPort: readonly boolean[],
    private readonly counters: Float64Array,
    private readonly onAbort: AbortHandler,
    /**
     * ns, wrapping int32, for the sampled cost of a packet; a worker gives its thread's CPU time, which does not count being preempted. Numbers beyond int32 would be
     * objects.
     */
    private readonly clockNs: () => number = wallNs,
    private readonly tap: CaptureTap = new CaptureTap(memory, chunkSize, balancer.snapshot),
  ) {
    this.filters = filters;
    this.repairByPort = repairByPort;
    this.view = new DataView(memory);
    this.kernel = new KernelDecisions(this.view, chunkSize, MAX_BURST);
    this.clockCostNs = costOf(clockNs);
    const { flows, flowHash, snapshot } = balancer;
    this.plain = new PlainPath(memory, chunkSize, flows, flowHash, counters, snapshot, MAX_BURST);
    this.plain.adoptFilters(filters, snapshot);
  }

  /** New filters and settings; the balancer has adopted its part already. */
  adopt(filters: FilterChain, repairByPort: readonly boolean[]): void {
    this.filters = filters;
    this.repairByPort = repairByPort;
    this.plain.adopt(this.balancer.snapshot);
    this.tap.adopt(this.balancer.snapshot);
    this.plain.adoptFilters(filters, this.balancer.snapshot);
    this.plain.offers?.adopt(this.balancer.snapshot, filters.rules);
  }

  /** Whom to tell of flows that the kernel may go on with; null: nobody. */
  offerFlows(offers: FlowOffers | null): void {
    this.plain.offers = offers;
    this.balancer.watcher = offers;
    offers?.adopt(this.balancer.snapshot, this.filters.rules);
  }

  /** `nonce`: Tables.kernelNonce. */
  expectDecisions(nonce: number): void {
    this.kernel.nonce = nonce;
    for (const packets of this.packets.values()) for (const packet of packets) packet.decided = 0;
  }

  /** Takes one burst from the port and judges it. Returns its number of packets. Verdicts take effect at the port's next exchange. */
  pollOnce(port: Port): number {
    const count = port.exchange();
    if (count === 0) return 0;
    const started = count >= SAMPLE_LEAST && --this.untilSample < 0 ? this.clockNs() : 0;
    const nowMs = (this.nowMs = port.burst.header[BurstHeader.nowMs]);
    const packets = this.packets.get(port) ?? this.meet(port);
    // What was held and resumed was counted when it came in.
    const resumed = port.burst.header[BurstHeader.resumed];
    if (resumed > 0) this.counters[Counter.rxBytes] -= sum(port.burst.length, resumed);
    this.counters[Counter.framesHeld] -= resumed;

    const { kernel } = this;
    if (kernel.nonce !== 0) kernel.take(port.burst, count);
    const repairs = this.repairByPort[port.index];
    const taps = (this.tap.ports & (1 << port.index)) !== 0;
    if (taps) this.tap.begin(port.burst, count, port.index, nowMs);
    const rest =
      this.takesShortWay && !taps && this.filters.onlyRules && !repairs
        ? this.plain.run(port.burst, count, port.index, nowMs)
        : this.plain.leaveAll(count);
    // The short way changes lengths, and has them summed up; where it was not taken they are as they came.
    const { rxBytes } = this.plain;
    this.counters[Counter.rxBytes] += rxBytes >= 0 ? rxBytes : sum(port.burst.length, count);
    if (rest > 0) this.steps(packets, port.burst, rest, nowMs, repairs, resumed, taps);

    this.counters[Counter.rx] += count - resumed;
    this.counters[Counter.bursts]++;
    if (started !== 0) this.sample(started, count);
    return count;
  }

  /** The whole way, for the packets of the burst that `plain.rest` names. */
  private steps(
    all: readonly Packet[],
    burst: Burst,
    count: number,
    nowMs: number,
    repairs: boolean,
    resumed: number,
    taps: boolean,
  ): void {
    // Packets move up: the i-th object is for the i-th of the rest, whose place in the burst is rest[i].
    if (this.kernel.nonce !== 0) this.kernel.give(all, this.plain.rest, count);
    this.parse(all, burst, count);
    if (repairs) this.repair(all, count);
    this.filter(all, count, resumed);
    this.balancer.lookUp(all, this.decisions, count);
    this.forward(all, burst, count, nowMs, taps);
    if (taps) this.tap.end();
  }

  /** Makes the port's packet objects, at its first burst. */
  private meet(port: Port): Packet[] {
    const packets = Array.from(port.burst.offset, () => new Packet(this.view, this.chunkSize));
    for (const [position, packet] of packets.entries()) {
      packet.position = position;
      packet.ifindex = port.ifindex;
      packet.queue = port.queue;
      packet.port = port.index;
    }
    this.packets.set(port, packets);
    this.balancer.fragments.attach(port);
    return packets;
  }

  /** Forgets a port that is closed. */
  forget(port: Port): void {
    if (this.packets.delete(port)) this.balancer.fragments.detach(port.index);
  }

  /** Finds the headers, and each flow's place in the table. */
  private parse(packets: readonly Packet[], { offset, length }: Burst, count: number): void {
    const balancer = this.balancer;
    const decap = balancer.snapshot.decap;
    const rest = this.plain.rest;
    for (let i = 0; i < count; i++) {
      const packet = packets[i];
      const slot = rest[i];
      packet.place(offset[slot], length[slot]);
      if (parse(packet) !== DropReason.none) continue;
      if (decap.active && decap.isOurs(packet)) this.open(packet);
      if (packet.malformed === DropReason.none) balancer.hash(packet);
    }
  }

  /** Takes the outer headers off a packet that is ours, and reads the one inside. Marks what cannot be opened as malformed. */
  private open(packet: Packet): void {
    const admitted = this.balancer.snapshot.decap.admits(packet);
    const reason = admitted ? decapsulate(packet) : DropReason.decapSource;
    if (reason !== DropReason.none) {
      packet.malformed = reason;
      return;
    }
    this.counters[Counter.decapsulated]++;
    parse(packet);
  }

  /** Completes checksums that the sender left to a device which is not there. */
  private repair(packets: readonly Packet[], count: number): void {
    for (let i = 0; i < count; i++) {
      if (packets[i].malformed !== DropReason.none) continue;
      if (repairChecksum(packets[i])) this.counters[Counter.checksumRepaired]++;
    }
  }

  /**
   * Verdicts of the parser and the filters; Decision.undecided for what goes on to the balancer. The filters have let
   * through what was held since then, and count each packet once.
   */
  private filter(packets: readonly Packet[], count: number, resumed: number): void {
    let next = 0;
    for (; next < count && this.plain.rest[next] < resumed; next++) {
      const reason = packets[next].malformed;
      this.decisions[next] = reason === DropReason.none ? Decision.undecided : this.drop(reason, next);
    }
    this.filters.prefetch(packets, count);
    while (next < count) next = this.filterFrom(next, packets, this.decisions, count);
  }

  /** Returns the position to go on from: past a packet whose policy threw, else `count`. */
  private filterFrom(first: number, packets: readonly Packet[], verdict: Int32Array, count: number): number {
    const filters = this.filters;
    let i = first;
    try {
      for (; i < count; i++) {
        const packet = packets[i];
        if (packet.malformed !== DropReason.none) {
          verdict[i] = this.drop(packet.malformed, i);
          continue;
        }
        const said = filters.run(packet, this.nowMs);
        if (said === FilterVerdict.Continue) verdict[i] = Decision.undecided;
        else if (said === FilterVerdict.Drop) verdict[i] = this.drop(filters.reason, i);
        else verdict[i] = said;
      }
      return count;
    } catch (error) {
      verdict[i] = Verdict.Aborted;
      this.onAbort(error, packets[i]);
      return i + 1;
    }
  }

  /** Balances what is undecided, and writes down where each packet is now. */
  private forward(packets: readonly Packet[], burst: Burst, count: number, nowMs: number, taps: boolean): void {
    const { offset, length, verdict, target } = burst;
    const balancer = this.balancer;
    const decisions = this.decisions;
    const rest = this.plain.rest;
    let txBytes = 0;
    let sent = 0;
    let redirected = 0;
    let passed = 0;
    let aborted = 0;
    let held = 0;
    for (let i = 0; i < count; i++) {
      const packet = packets[i];
      const slot = rest[i];
      let decision = decisions[i];
      if (taps) balancer.sender.backend = -1;
      if (decision === Decision.undecided) {
        decision = balancer.balance(packet, nowMs);
        if (decision === Verdict.Drop) this.drop(balancer.reason, i);
      }
      if (taps) this.judged(packet, i, decision);
      verdict[slot] = decision;
      const bytes = (packet.dataEnd - packet.data) | 0;
      if (decision === Verdict.Tx) {
        sent++;
        txBytes += bytes;
      } else if (decision === Verdict.Redirect) {
        target[slot] = packet.target;
        redirected++;
        txBytes += bytes;
      } else if (decision === Verdict.Pass) {
        passed++;
      } else if (decision === Verdict.Aborted) {
        aborted++;
      } else if (decision === Verdict.Hold) {
        held++;
      }
      offset[slot] = packet.data;
      length[slot] = bytes;
    }
    const counters = this.counters;
    counters[Counter.tx] += sent;
    counters[Counter.redirect] += redirected;
    counters[Counter.pass] += passed;
    counters[Counter.aborted] += aborted;
    counters[Counter.framesHeld] += held;
    counters[Counter.drop] += count - sent - redirected - passed - aborted - held;
    counters[Counter.txBytes] += txBytes;
    counters[CounterBlock.reasons + DropReason.policyThrew] += aborted;
  }

  private judged(packet: Packet, position: number, verdict: Verdict): void {
    let reason = DropReason.none;
    if (verdict === Verdict.Drop) reason = this.reasons[position];
    else if (verdict === Verdict.Aborted) reason = DropReason.policyThrew;
    this.tap.judge(packet, verdict, reason, this.balancer.sender.backend);
  }

  private drop(reason: DropReason, position: number): Verdict {
    this.reasons[position] = reason;
    this.counters[CounterBlock.reasons + reason]++;
    return Verdict.Drop;
  }

  private sample(started: number, count: number): void {
    this.untilSample = SAMPLE_EVERY - 1;
    this.counters[Counter.sampledNs] += Math.max(0, ((this.clockNs() - started) | 0) - this.clockCostNs);
    this.counters[Counter.sampledPackets] += count;
  }
}

/** Least of some readings: the clock's own cost, without what came in between. */
function costOf(clockNs: () => number): number {
  let cost = Infinity;
  for (let i = 0; i < 32; i++) {
    const start = clockNs();
    cost = Math.min(cost, (clockNs() - start) | 0);
  }
  return cost;
}

function wallNs(): number {
  return (performance.now() * 1e6) | 0;
}

function sum(values: Int32Array, end: number): number {
  let total = 0;
  for (let i = 0; i < end; i++) total = (total + values[i]) | 0;
  return total;
}

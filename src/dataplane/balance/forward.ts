import { BackendCounter, BackendFlag, Counter, CounterBlock, ServiceField, ServiceFlag } from '../../shared/layout.js';
import { answerEcho } from '../packet/echo.js';
import { EncapsulatedQuote, readEncapsulatedInner, relayToClient } from '../packet/encapsulated_quote.js';
import { isEchoRequest, isIcmpError } from '../packet/icmp.js';
import { readInner } from '../packet/icmp_quote.js';
import { Packet, PacketFlag } from '../packet/packet.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';
import type { Snapshot } from '../snapshot.js';
import { DropReason, Verdict } from '../verdict.js';
import { Chosen } from './ahead.js';
import { isAddressOf } from './backend_address.js';
import { BurstFlows } from './burst_flows.js';
import { Chooser } from './choose.js';
import { Egress, FlagsWord } from './egress.js';
import { FlowField, startsAnew } from './flow_entry.js';
import type { FlowTable } from './flow_table.js';
import { FragmentFate, FragmentTable } from './fragments.js';
import { FlowHash } from './hash.js';
import { IcmpBudget } from './icmp_budget.js';
import { NewFlows } from './new_flows.js';
import { Sender } from './send.js';
import { hashOf } from './slot.js';
import { SteeredBy } from './steer.js';

/** See FlowOffers. */
export interface FlowWatcher {
  /** Packets of the flow at this place may go elsewhere from now on. */
  ended(flow: number): void;
  /** This packet of the flow at this place goes to the backend that the flow has. */
  noteStep(flow: number, packet: Packet): void;
}

/** Packets that end a connection, or may begin another. */
const ENDS = TcpFlag.syn | TcpFlag.fin | TcpFlag.rst;

/**
 * Picks a packet's backend and wraps the packet for it: flow table first, then service, then Maglev ring.
 *
 * A flow keeps its backend for as long as that backend is active or draining. A backend that was removed or made inactive
 * loses its flows: their next packet goes through the ring again.
 */
export class Balancer {
  snapshot: Snapshot;
  /** Places flows in the table; keyed with this worker's own secret. */
  readonly flowHash: FlowHash;
  private readonly burst: BurstFlows;
  private readonly newFlows = new NewFlows();
  private readonly chooser: Chooser;
  private readonly budget: IcmpBudget;
  readonly sender: Sender;
  readonly fragments: FragmentTable;
  /** The packet that an ICMP error is about. */
  private readonly inner: Packet;
  /** What an error about a packet of ours quotes; made when the first one comes. */
  private quote: EncapsulatedQuote | null = null;
  /** Hears of flows; null: nobody has to know. */
  watcher: FlowWatcher | null = null;
  /** Out parameter of `balance`: why it dropped. */
  reason: DropReason = DropReason.none;

  /** `secret`: four random int32 of this worker's own, for the flow table's hash. */
  constructor(
    readonly flows: FlowTable,
    private readonly counters: Float64Array,
    secret: readonly number[],
    snapshot: Snapshot,
  ) {
    this.flowHash = new FlowHash(secret);
    this.snapshot = snapshot;
    this.burst = new BurstFlows(flows, snapshot);
    this.chooser = new Chooser(snapshot, counters);
    this.budget = new IcmpBudget(snapshot.settings.icmp.maxPerSecond, counters);
    this.sender = new Sender(snapshot, counters, this.budget);
    this.fragments = new FragmentTable(snapshot.settings.fragments, this.flowHash, counters);
    this.inner = new Packet(new DataView(new ArrayBuffer(0)), 1);
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.burst.adopt(snapshot);
    this.chooser.adopt(snapshot);
    this.sender.adopt(snapshot);
    this.budget.setRate(snapshot.settings.icmp.maxPerSecond);
    this.fragments.configure(snapshot.settings.fragments);
    this.flows.setTimeouts(snapshot.settings.timeouts);
  }

  /** Hash that places the packet in the flow table. */
  hash(packet: Packet): void {
    if (packet.family !== 0) packet.flowHash = hashOf(this.flowHash, packet);
  }

  /** Looks a burst's undecided packets up in the flow table, before the first of them is balanced. */
  lookUp(packets: readonly Packet[], verdict: Int32Array, count: number): void {
    this.burst.lookUp(packets, verdict, count);
  }

  /**
   * Tx or Redirect (`packet.target` set) with the packet encapsulated, Pass when it is for no service, Drop with `reason` set.
   * The packet's flow must have been looked up.
   */
  balance(packet: Packet, nowMs: number): Verdict {
    if ((packet.flags & PacketFlag.fragment) !== 0) return this.fragment(packet, nowMs);
    return this.whole(packet, nowMs);
  }

  /** A packet that says all of itself: no fragment, or the first one. */
  private whole(packet: Packet, nowMs: number): Verdict {
    const backend = this.remembered(packet, nowMs);
    if (backend >= 0) return this.send(packet, packet, backend, nowMs);
    if (packet.chosen >= 0) return this.begin(packet, nowMs);
    if (packet.chosen === (Chosen.nobody as number)) return this.pass();
    if (packet.family === 0) return Verdict.Pass;
    if (packet.protocol === IpProtocol.icmp || packet.protocol === IpProtocol.icmpv6) return this.icmp(packet, nowMs);
    const service = this.chooser.serviceOf(packet);
    return service < 0 ? this.pass() : this.toService(service, packet, nowMs);
  }

  /** The backend that the packet's flow has, −1 for none that it may keep. */
  private remembered(packet: Packet, nowMs: number): number {
    const flow = this.burst.placeOf(packet);
    return flow >= 0 ? this.known(flow, packet, nowMs) : -1;
  }

  /**
   * The first fragment of a datagram goes as a whole packet would, and what becomes of it is noted; the others, which have no
   * ports, follow it. Fragments to addresses of no service are none of our business.
   */
  private fragment(packet: Packet, nowMs: number): Verdict {
    if (this.chooser.serviceOfAddress(packet) < 0) return this.pass();
    if (this.snapshot.settings.fragments.policy === 'drop') {
      return this.chooser.serviceOf(packet) < 0 ? this.pass() : this.drop(DropReason.fragment);
    }
    if ((packet.flags & PacketFlag.laterFragment) !== 0) return this.laterFragment(packet, nowMs);
    this.sender.backend = -1;
    const verdict = this.whole(packet, nowMs);
    const backend = this.sender.backend;
    if (backend >= 0) {
      const incarnation = this.snapshot.egress[(backend << Egress.SHIFT) + Egress.incarnation];
      this.fragments.decide(packet, backend, incarnation, nowMs);
    } else {
      this.fragments.decide(packet, verdict === Verdict.Pass ? FragmentFate.pass : FragmentFate.drop, 0, nowMs);
    }
    return verdict;
  }

  private laterFragment(packet: Packet, nowMs: number): Verdict {
    const fate = this.fragments.follow(packet, nowMs);
    if (fate === FragmentFate.pass) return this.pass();
    if (fate === FragmentFate.drop) return this.drop(DropReason.fragment);
    if (fate === FragmentFate.hold) return Verdict.Hold;
    if (fate < 0 || !this.mayKeep(fate, this.fragments.incarnation)) return this.drop(DropReason.fragmentUnknown);
    return this.send(packet, packet, fate, nowMs);
  }

  /** Whether what went to a backend may go on doing so. There may be fewer backends than then; and its number may be another's. */
  private mayKeep(backend: number, incarnation: number): boolean {
    const egress = this.snapshot.egress;
    const at = (backend << Egress.SHIFT) | 0;
    if (at >= egress.length || egress[at + Egress.incarnation] !== incarnation) return false;
    return (egress[at + Egress.flags] & (BackendFlag.active | BackendFlag.draining)) !== 0;
  }

  private toService(service: number, packet: Packet, nowMs: number): Verdict {
    const backend = this.pick(service, packet, nowMs);
    return backend < 0 ? Verdict.Drop : this.send(packet, packet, backend, nowMs);
  }

  /** The first packet of a flow whose backend was chosen with those of the burst: as `toService` where no packet names a backend. */
  private begin(packet: Packet, nowMs: number): Verdict {
    this.counters[Counter.flowMiss]++;
    const backend = this.entered(packet, packet.service, packet.chosen, nowMs);
    return backend < 0 ? Verdict.Drop : this.send(packet, packet, backend, nowMs);
  }

  private pass(): Verdict {
    this.counters[Counter.noService]++;
    return Verdict.Pass;
  }

  private drop(reason: DropReason): Verdict {
    this.reason = reason;
    return Verdict.Drop;
  }

  /** The backend of a remembered flow, or −1 when the flow has to be balanced anew. */
  private known(flow: number, packet: Packet, nowMs: number): number {
    const words = this.flows.words;
    const backend = words[flow + FlowField.backend];
    const egress = this.snapshot.egress;
    const at = (backend << Egress.SHIFT) | 0;
    // There may be fewer backends than when the flow was made; then this one is gone.
    const flags = at < egress.length ? egress[at + Egress.flags] : 0;
    if (
      (flags & (BackendFlag.active | BackendFlag.draining)) === 0 ||
      egress[at + Egress.incarnation] !== words[flow + FlowField.incarnation]
    ) {
      this.forget(flow, backend);
      this.counters[Counter.flowMoved]++;
      return -1;
    }
    if (this.flows.expired(flow, nowMs)) {
      this.forget(flow, backend);
      this.counters[Counter.flowExpire]++;
      return -1;
    }
    const draining = (flags & BackendFlag.draining) !== 0;
    if (packet.protocol === IpProtocol.tcp && startsAnew(words[flow + FlowField.state], packet.tcpFlags, draining)) {
      this.forget(flow, backend);
      return -1;
    }
    if (draining && this.leavesAtOnce(packet, flags)) {
      this.forget(flow, backend);
      this.counters[Counter.flowMoved]++;
      return -1;
    }
    if ((flags & BackendFlag.steered) !== 0) {
      const named = this.chooser.named(flags >>> FlagsWord.SERVICE_SHIFT, packet);
      if (named >= 0 && named !== backend) {
        if (this.snapshot.steering.by !== SteeredBy.stableUdp) this.give(flow, packet, backend, named, nowMs);
        return named;
      }
    }
    this.counters[Counter.flowHit]++;
    this.flows.touch(flow, packet, nowMs);
    if (this.watcher !== null) {
      if (packet.protocol === IpProtocol.tcp && (packet.tcpFlags & ENDS) !== 0) this.watcher.ended(flow);
      else this.watcher.noteStep(flow, packet);
    }
    return backend;
  }

  /** UDP flows of a draining backend, where their service says so. `flags`: of the backend. */
  private leavesAtOnce(packet: Packet, flags: number): boolean {
    if (packet.protocol !== IpProtocol.udp) return false;
    const record = Math.imul(flags >>> FlagsWord.SERVICE_SHIFT, ServiceField.STRIDE);
    return (this.snapshot.services[record + ServiceField.flags] & ServiceFlag.udpMoves) !== 0;
  }

  /** Gives a remembered flow to another backend: its packets name that one now. */
  private give(flow: number, packet: Packet, from: number, to: number, nowMs: number): void {
    this.lose(from);
    this.gain(to);
    this.watcher?.ended(flow);
    this.flows.assign(flow, packet, to, this.snapshot.egress[(to << Egress.SHIFT) + Egress.incarnation], nowMs);
  }

  private forget(flow: number, backend: number): void {
    this.watcher?.ended(flow);
    this.flows.remove(flow);
    this.lose(backend);
  }

  /** A backend for a flow that is not in the flow table, remembered where the service wants it; −1 with `reason` set when there is none. */
  private pick(service: number, packet: Packet, nowMs: number): number {
    const named = this.chooser.named(service, packet);
    const backend = named >= 0 ? named : this.chooser.choose(service, packet);
    if (backend < 0) return this.refuse(DropReason.noBackend);
    this.counters[Counter.flowMiss]++;
    // With stable UDP every packet has the id.
    if (named >= 0 && this.snapshot.steering.by === SteeredBy.stableUdp) return backend;
    return this.entered(packet, service, backend, nowMs);
  }

  /** Remembers the flow where its service wants it. Returns `backend`; −1 with `reason` set for a flood. */
  private entered(packet: Packet, service: number, backend: number, nowMs: number): number {
    const flags = this.snapshot.services[Math.imul(service, ServiceField.STRIDE) + ServiceField.flags];
    if ((flags & ServiceFlag.flowTable) === 0 || this.remember(packet, service, backend, nowMs)) return backend;
    return this.refuse(DropReason.flood);
  }

  private refuse(reason: DropReason): number {
    this.reason = reason;
    return -1;
  }

  /** False when the flow is above its service's rate, and such flows are dropped. */
  private remember(packet: Packet, service: number, backend: number, nowMs: number): boolean {
    // An RST ends what we do not know; ICMP and the like have no flow.
    if ((packet.flags & PacketFlag.hasPorts) === 0 || (packet.tcpFlags & TcpFlag.rst) !== 0) return true;
    const { services, settings } = this.snapshot;
    const record = Math.imul(service, ServiceField.STRIDE);
    const limit = services[record + ServiceField.maxNewFlows];
    if (!this.newFlows.admit(service, settings.maxNewFlowsPerSecond, limit, nowMs)) {
      this.counters[Counter.flowBypass]++;
      return (services[record + ServiceField.flags] & ServiceFlag.floodDrop) === 0;
    }
    const incarnation = this.snapshot.egress[(backend << Egress.SHIFT) + Egress.incarnation];
    this.flows.insert(packet, backend, incarnation, nowMs);
    this.burst.noteInserted(packet.flowHash);
    this.counters[Counter.flowInsert]++;
    this.gain(backend);
    const evicted = this.flows.evictedBackend;
    if (evicted >= 0) {
      this.lose(evicted);
      this.counters[this.flows.evictedAlive ? Counter.flowEvict : Counter.flowExpire]++;
    }
    return true;
  }

  private gain(backend: number): void {
    const gauge = CounterBlock.backends + Math.imul(backend, BackendCounter.SIZE);
    this.counters[gauge + BackendCounter.flows]++;
    this.counters[gauge + BackendCounter.newFlows]++;
  }

  private lose(backend: number): void {
    this.counters[CounterBlock.backends + Math.imul(backend, BackendCounter.SIZE) + BackendCounter.flows]--;
  }

  private send(packet: Packet, tuple: Packet, backend: number, nowMs: number): Verdict {
    const verdict = this.sender.send(packet, tuple, backend, nowMs);
    if (verdict === Verdict.Drop) this.reason = this.sender.reason;
    return verdict;
  }

  /** ICMP errors follow the flow that they are about; echo requests are answered, or what the configuration says; all else passes. */
  private icmp(packet: Packet, nowMs: number): Verdict {
    if (isIcmpError(packet)) return this.icmpError(packet, nowMs);
    const service = this.chooser.serviceOf(packet);
    if (service >= 0) return this.toService(service, packet, nowMs);
    const some = isEchoRequest(packet) ? this.chooser.serviceOfAddress(packet) : -1;
    const echo = this.snapshot.settings.icmp.echo;
    if (some < 0 || echo === 'pass') return this.pass();
    if (echo === 'forward') return this.toService(some, packet, nowMs);
    if (!this.budget.take(nowMs)) return this.drop(DropReason.icmpLimited);
    if (!answerEcho(packet)) return this.pass();
    this.counters[Counter.echoAnswered]++;
    return Verdict.Tx;
  }

  private icmpError(packet: Packet, nowMs: number): Verdict {
    const inner = this.inner;
    const reason = readInner(packet, inner);
    const service = reason === DropReason.none ? this.chooser.serviceOf(inner) : -1;
    if (service < 0) return this.errorAboutOuter(packet, reason, nowMs);
    let backend = this.rememberedFor(inner, nowMs);
    if (backend < 0) backend = this.chooser.choose(service, inner);
    if (backend < 0) return this.drop(DropReason.noBackend);
    this.counters[Counter.icmpErrors]++;
    return this.send(packet, inner, backend, nowMs);
  }

  /**
   * A router between us and a backend may have sent the error, about a packet of ours: its client is told what concerns it. Believed only
   * when the flow table knows the flow, and its backend is where that packet was going. `reason`: why it is no error about a flow.
   */
  private errorAboutOuter(packet: Packet, reason: DropReason, nowMs: number): Verdict {
    const quote = (this.quote ??= new EncapsulatedQuote(packet.view, packet.chunkSize));
    if (readEncapsulatedInner(packet, quote) === DropReason.none && quote.isForClient) {
      const backend = this.rememberedFor(quote.client, nowMs);
      if (backend >= 0 && isAddressOf(this.snapshot.backends, backend, quote.outer)) {
        if (!this.budget.take(nowMs)) return this.drop(DropReason.icmpLimited);
        if (relayToClient(packet, quote)) {
          this.counters[Counter.icmpErrors]++;
          return Verdict.Tx;
        }
      }
    }
    const isOurs = reason !== DropReason.none && this.chooser.serviceOfAddress(packet) >= 0;
    return isOurs ? this.drop(reason) : this.pass();
  }

  /** The backend that the flow of an ICMP error is remembered to have, −1 for none. The error does not keep the flow alive. */
  private rememberedFor(inner: Packet, nowMs: number): number {
    if ((inner.flags & PacketFlag.hasPorts) === 0) return -1;
    this.hash(inner);
    const flow = this.flows.find(inner);
    if (flow < 0 || this.flows.expired(flow, nowMs)) return -1;
    const words = this.flows.words;
    const backend = words[flow + FlowField.backend];
    return this.mayKeep(backend, words[flow + FlowField.incarnation]) ? backend : -1;
  }

  /** Forgets flows that timed out, a bounded number a call. */
  sweep(nowMs: number): void {
    this.fragments.sweep(nowMs);
    const forgotten = this.flows.sweep(nowMs, this.onExpire);
    if (forgotten > 0) this.counters[Counter.flowExpire] += forgotten;
    this.counters[Counter.flows] = this.flows.count;
  }

  private readonly onExpire = (backend: number): void => this.lose(backend);
}

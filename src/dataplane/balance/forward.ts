import {
  BackendCounter,
  BackendField,
  BackendFlag,
  Counter,
  CounterBlock,
  LATER_FRAGMENT,
  NO_HOP,
  ServiceCounter,
  ServiceField,
  ServiceFlag,
} from '../../shared/layout.js';
import { encapsulate } from '../packet/encap.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';
import type { Snapshot } from '../snapshot.js';
import { DropReason, Decision, Verdict } from '../verdict.js';
import { FlowHash } from './hash.js';
import { NO_PORT } from './service_table.js';
import { Egress, FlagsWord } from './egress.js';
import { FlowField, FlowState, type FlowTable } from './flow_table.js';
import { NewFlows } from './new_flows.js';
import { hashOf, slotHash } from './slot.js';
import { Steered, SteeredBy } from './steer.js';
import { Wrapper } from './wrapper.js';

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
  private lookedUpAt = -1;
  private readonly newFlows = new NewFlows();
  private readonly wrapper: Wrapper;
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
    this.wrapper = new Wrapper(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.wrapper.adopt(snapshot);
    this.flows.setTimeouts(snapshot.settings.timeouts);
  }

  /** Hash that places the packet in the flow table. */
  hash(packet: Packet): void {
    if (packet.family !== 0) packet.flowHash = hashOf(this.flowHash, packet);
  }

  /**
   * Looks a burst's undecided packets up in the flow table, before the first of them is balanced.
   */
  lookUp(packets: readonly Packet[], verdict: Int32Array, count: number): void {
    const flows = this.flows;
    flows.prefetch(packets, count);
    for (let i = 0; i < count; i++) {
      if (verdict[i] !== Decision.undecided) continue;
      const packet = packets[i];
      packet.flow = (packet.flags & PacketFlag.hasPorts) === 0 ? -1 : flows.find(packet);
    }
    this.lookedUpAt = flows.changes;
  }

  /**
   * Tx or Redirect (`packet.target` set) with the packet encapsulated, Pass when it is for no service, Drop with `reason` set.
   * The packet's flow must have been looked up.
   */
  balance(packet: Packet, nowMs: number): Verdict {
    let flow = packet.flow;
    if (this.flows.changes !== this.lookedUpAt) {
      // An earlier packet of this burst came or went in the table.
      flow = (packet.flags & PacketFlag.hasPorts) === 0 ? -1 : this.flows.find(packet);
    }
    let backend = flow >= 0 ? this.known(flow, packet, nowMs) : -1;
    if (backend < 0) {
      if (packet.family === 0) return Verdict.Pass;
      const service = this.serviceOf(packet);
      if (service < 0) {
        this.counters[Counter.noService]++;
        return Verdict.Pass;
      }
      backend = this.pick(service, packet, nowMs);
      if (backend < 0) return Verdict.Drop;
    }
    return this.send(packet, packet, backend);
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
    if (packet.protocol === IpProtocol.tcp && this.isNewConnection(flow, packet.tcpFlags, flags)) {
      this.forget(flow, backend);
      return -1;
    }
    if ((flags & BackendFlag.draining) !== 0 && this.leavesAtOnce(packet, flags)) {
      this.forget(flow, backend);
      this.counters[Counter.flowMoved]++;
      return -1;
    }
    if ((flags & BackendFlag.steered) !== 0) {
      const named = this.named(flags >>> FlagsWord.SERVICE_SHIFT, packet);
      if (named >= 0 && named !== backend) {
        if (this.snapshot.steering.by !== SteeredBy.stableUdp) this.give(flow, packet, backend, named, nowMs);
        return named;
      }
    }
    this.counters[Counter.flowHit]++;
    this.flows.touch(flow, packet, nowMs);
    return backend;
  }

  /**
   * A SYN on a remembered flow starts a new connection when the old one was closing; on an established one (a client that
   * came back without a FIN, or a spoofed SYN) it moves only away from a draining backend. A SYN sent again does not.
   */
  private isNewConnection(flow: number, tcpFlags: number, backendFlags: number): boolean {
    if ((tcpFlags & (TcpFlag.syn | TcpFlag.ack)) !== TcpFlag.syn) return false;
    const state = this.flows.words[flow + FlowField.state];
    if (state === FlowState.tcpClosing) return true;
    return state === FlowState.tcpEstablished && (backendFlags & BackendFlag.draining) !== 0;
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
    this.flows.assign(flow, packet, to, this.snapshot.egress[(to << Egress.SHIFT) + Egress.incarnation], nowMs);
  }

  private forget(flow: number, backend: number): void {
    this.flows.remove(flow);
    this.lose(backend);
  }

  private serviceOf(packet: Packet): number {
    const table = this.snapshot.serviceTable;
    const port = portOf(packet);
    return packet.family === 4
      ? table.find4(packet.dst0, packet.protocol, port)
      : table.find6(packet.dst0, packet.dst1, packet.dst2, packet.dst3, packet.protocol, port);
  }

  /** A backend for a flow that is not in the flow table, remembered where the service wants it; −1 with `reason` set when there is none. */
  private pick(service: number, packet: Packet, nowMs: number): number {
    const snapshot = this.snapshot;
    const record = Math.imul(service, ServiceField.STRIDE);
    const named = this.named(service, packet);
    const backend = named >= 0 ? named : this.choose(service, record, packet);
    if (backend < 0) return this.refuse(DropReason.noBackend);
    this.counters[Counter.flowMiss]++;
    // With stable UDP every packet has the id.
    if (named >= 0 && snapshot.steering.by === SteeredBy.stableUdp) return backend;
    if ((snapshot.services[record + ServiceField.flags] & ServiceFlag.flowTable) !== 0) {
      if (!this.remember(packet, service, backend, nowMs)) return this.refuse(DropReason.flood);
    }
    return backend;
  }

  /** By where the packet comes from, else by the ring; −1: nobody is there. */
  private choose(service: number, record: number, packet: Packet): number {
    const { steering, services, backendList } = this.snapshot;
    const position = steering.route(packet, service);
    if (position >= 0) {
      const backend = backendList[services[record + ServiceField.listStart] + position];
      if ((this.flagsOf(backend) & BackendFlag.active) !== 0) {
        this.counters[Counter.sourceRouted]++;
        return backend;
      }
    }
    return this.bySlot(record, packet);
  }

  /** The backend that has the flow's slot; −1 when the service has no ring. */
  private bySlot(record: number, packet: Packet): number {
    const { services, rings, backendList } = this.snapshot;
    const ringNumber = services[record + ServiceField.ring];
    if (ringNumber < 0) return -1;
    const ring = rings[ringNumber];
    const hops = services[record + ServiceField.hops];
    const slots = (ring.length / hops) | 0;
    const position = ring[Math.imul((slotHash(this.snapshot, packet, record) >>> 0) % slots, hops)];
    return position === NO_HOP ? -1 : backendList[services[record + ServiceField.listStart] + position];
  }

  /** The backend that the packet names, −1 when it names none that is there. */
  private named(service: number, packet: Packet): number {
    const { steering, services, backendList } = this.snapshot;
    const position = steering.steer(packet, service);
    if (position === Steered.none) return -1;
    if (position >= 0) {
      const record = Math.imul(service, ServiceField.STRIDE);
      const backend = backendList[services[record + ServiceField.listStart] + position];
      const flags = this.flagsOf(backend);
      // An id that a new client made up must not bring it to a backend that takes no new flows.
      const needed = steering.mayStart ? BackendFlag.active : BackendFlag.active | BackendFlag.draining;
      if ((flags & needed) !== 0) {
        this.counters[Counter.idRouted]++;
        return backend;
      }
    }
    this.counters[Counter.idUnknown]++;
    return -1;
  }

  private flagsOf(backend: number): number {
    return this.snapshot.egress[(backend << Egress.SHIFT) + Egress.flags];
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

  /** Sends the packet to a backend. `tuple`: the packet whose flow it belongs to, itself or the one that an ICMP error is about. */
  private send(packet: Packet, tuple: Packet, backend: number): Verdict {
    const egress = this.snapshot.egress;
    const at = (backend << Egress.SHIFT) | 0;
    const flags = egress[at + Egress.flags];
    if ((flags & BackendFlag.resolved) === 0) {
      this.reason = DropReason.noNextHop;
      return Verdict.Drop;
    }
    const bytes = packet.l3Length;
    const port = (flags >>> FlagsWord.PORT_SHIFT) & FlagsWord.PORT_MASK;
    const service = flags >>> FlagsWord.SERVICE_SHIFT;
    const failure =
      (flags & BackendFlag.special) === 0
        ? encapsulate(packet, egress, at, this.snapshot.backends, Math.imul(backend, BackendField.STRIDE))
        : this.wrapper.wrap(packet, tuple, backend, service);
    if (failure !== DropReason.none) {
      this.reason = failure;
      return Verdict.Drop;
    }
    const counters = this.counters;
    const byBackend = (CounterBlock.backends + (backend << 2)) | 0;
    counters[byBackend + BackendCounter.packets]++;
    counters[byBackend + BackendCounter.bytes] += bytes;
    const byService = (CounterBlock.services + (service << 1)) | 0;
    counters[byService + ServiceCounter.packets]++;
    counters[byService + ServiceCounter.bytes] += bytes;
    if (port === packet.port) return Verdict.Tx;
    packet.target = port;
    return Verdict.Redirect;
  }

  /** Forgets flows that timed out, a bounded number a call. */
  sweep(nowMs: number): void {
    const forgotten = this.flows.sweep(nowMs, this.onExpire);
    if (forgotten > 0) this.counters[Counter.flowExpire] += forgotten;
    this.counters[Counter.flows] = this.flows.count;
  }

  private readonly onExpire = (backend: number): void => this.lose(backend);
}

/** What the packet is looked up under. */
function portOf(packet: Packet): number {
  if ((packet.flags & PacketFlag.hasPorts) !== 0) return packet.ports & 0xffff;
  return (packet.flags & PacketFlag.laterFragment) !== 0 ? LATER_FRAGMENT : NO_PORT;
}

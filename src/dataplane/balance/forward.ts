import {
  BackendCounter,
  BackendField,
  BackendFlag,
  Counter,
  CounterBlock,
  LATER_FRAGMENT,
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
  private newFlowsThisSecond = 0;
  private secondStartMs = 0;
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
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
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
    return this.send(packet, backend);
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

  private forget(flow: number, backend: number): void {
    this.flows.remove(flow);
    this.counters[CounterBlock.backends + Math.imul(backend, BackendCounter.SIZE) + BackendCounter.flows]--;
  }

  private serviceOf(packet: Packet): number {
    const table = this.snapshot.serviceTable;
    const port = portOf(packet);
    return packet.family === 4
      ? table.find4(packet.dst0, packet.protocol, port)
      : table.find6(packet.dst0, packet.dst1, packet.dst2, packet.dst3, packet.protocol, port);
  }

  /** A backend from the service's ring, remembered where the service wants it; −1 with `reason` set when there is none. */
  private pick(service: number, packet: Packet, nowMs: number): number {
    const snapshot = this.snapshot;
    const record = Math.imul(service, ServiceField.STRIDE);
    if ((packet.flags & PacketFlag.fragment) !== 0) return this.refuse(DropReason.fragment);
    const ringNumber = snapshot.services[record + ServiceField.ring];
    if (ringNumber < 0) return this.refuse(DropReason.noBackend);
    const ring = snapshot.rings[ringNumber];
    // The same on every node with the same key, unlike the flow table's.
    const hash = hashOf(this.snapshot.ringHash, packet);
    const position = ring[(hash >>> 0) % ring.length];
    const backend = snapshot.backendList[snapshot.services[record + ServiceField.listStart] + position];
    this.counters[Counter.flowMiss]++;
    if ((snapshot.services[record + ServiceField.flags] & ServiceFlag.flowTable) !== 0) {
      this.remember(packet, backend, nowMs);
    }
    return backend;
  }

  private refuse(reason: DropReason): number {
    this.reason = reason;
    return -1;
  }

  private remember(packet: Packet, backend: number, nowMs: number): void {
    // An RST ends what we do not know; ICMP and the like have no flow.
    if ((packet.flags & PacketFlag.hasPorts) === 0 || (packet.tcpFlags & TcpFlag.rst) !== 0) return;
    const limit = this.snapshot.settings.maxNewFlowsPerSecond;
    if (limit > 0 && this.aboveRate(limit, nowMs)) {
      this.counters[Counter.flowBypass]++;
      return;
    }
    const incarnation = this.snapshot.egress[(backend << Egress.SHIFT) + Egress.incarnation];
    this.flows.insert(packet, backend, incarnation, nowMs);
    this.counters[Counter.flowInsert]++;
    const gauge = CounterBlock.backends + Math.imul(backend, BackendCounter.SIZE);
    this.counters[gauge + BackendCounter.flows]++;
    this.counters[gauge + BackendCounter.newFlows]++;
    const evicted = this.flows.evictedBackend;
    if (evicted >= 0) {
      this.counters[CounterBlock.backends + Math.imul(evicted, BackendCounter.SIZE) + BackendCounter.flows]--;
      this.counters[this.flows.evictedAlive ? Counter.flowEvict : Counter.flowExpire]++;
    }
  }

  /** Counts one new flow; true when this second's share is used up. */
  private aboveRate(limit: number, nowMs: number): boolean {
    const elapsed = (nowMs - this.secondStartMs) | 0;
    if (elapsed >= 1000 || elapsed < 0) {
      this.secondStartMs = nowMs;
      this.newFlowsThisSecond = 0;
    }
    if (this.newFlowsThisSecond >= limit) return true;
    this.newFlowsThisSecond++;
    return false;
  }

  private send(packet: Packet, backend: number): Verdict {
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
    const failure = encapsulate(packet, egress, at, this.snapshot.backends, backend * BackendField.STRIDE);
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

  private readonly onExpire = (backend: number): void => {
    this.counters[CounterBlock.backends + Math.imul(backend, BackendCounter.SIZE) + BackendCounter.flows]--;
  };
}

/** Of an IP packet's five-tuple. */
function hashOf(hash: FlowHash, packet: Packet): number {
  if (packet.family === 4) return hash.ipv4(packet.src0, packet.dst0, packet.ports, packet.protocol);
  return hash.ipv6(
    packet.src0,
    packet.src1,
    packet.src2,
    packet.src3,
    packet.dst0,
    packet.dst1,
    packet.dst2,
    packet.dst3,
    packet.ports,
    packet.protocol,
  );
}

/** What the packet is looked up under. */
function portOf(packet: Packet): number {
  if ((packet.flags & PacketFlag.hasPorts) !== 0) return packet.ports & 0xffff;
  return (packet.flags & PacketFlag.laterFragment) !== 0 ? LATER_FRAGMENT : NO_PORT;
}

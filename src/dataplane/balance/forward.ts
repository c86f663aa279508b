import {
  BackendCounter,
  BackendField,
  BackendFlag,
  Counter,
  CounterBlock,
  ServiceCounter,
  ServiceField,
  ServiceFlag,
} from '../../shared/layout.js';
import { encapsulate } from '../packet/encap.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { TcpFlag } from '../packet/wire.js';
import type { Snapshot } from '../snapshot.js';
import { DropReason, Verdict } from '../verdict.js';
import { FlowHash } from './hash.js';
import { NO_PORT } from './service_table.js';
import { FlowField, FlowState, type FlowTable } from './flow_table.js';

/**
 * Picks a packet's backend and wraps the packet for it: flow table first, then service, then Maglev ring.
 *
 * A flow keeps its backend for as long as that backend is active or draining. A backend that was removed or made inactive
 * loses its flows: their next packet goes through the ring again.
 */
export class Balancer {
  private snapshot: Snapshot;
  private readonly flowHash: FlowHash;
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

  /** Hash that places the packet in the flow table; call it for all of a burst before the first `balance`. */
  hash(packet: Packet): void {
    packet.flowHash =
      packet.family === 4
        ? this.flowHash.ipv4(packet.src0, packet.dst0, packet.ports, packet.protocol)
        : this.flowHash.ipv6(
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

  /** Tx or Redirect (`packet.target` set) with the packet encapsulated, Pass when it is for no service, Drop with `reason` set. */
  balance(packet: Packet, nowMs: number): Verdict {
    if (packet.family === 0) return Verdict.Pass;
    let backend = -1;
    if ((packet.flags & PacketFlag.hasPorts) !== 0) {
      const flow = this.flows.find(packet);
      if (flow >= 0) backend = this.known(flow, packet, nowMs);
    }
    if (backend < 0) {
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
    const backends = this.snapshot.backends;
    const at = Math.imul(backend, BackendField.STRIDE);
    // `backends` may be shorter than when the flow was made; a missing record reads as undefined, and | 0 makes it 0.
    const flags = backends[at + BackendField.flags] | 0;
    if (
      (flags & (BackendFlag.active | BackendFlag.draining)) === 0 ||
      backends[at + BackendField.incarnation] !== words[flow + FlowField.incarnation]
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
    if ((packet.tcpFlags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn && this.isNewConnection(flow, flags)) {
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
  private isNewConnection(flow: number, backendFlags: number): boolean {
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
    const port = (packet.flags & PacketFlag.hasPorts) !== 0 ? packet.ports & 0xffff : NO_PORT;
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
    const hash = this.ringHash(packet);
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

  /** The same on every node with the same key, unlike `hash`. */
  private ringHash(packet: Packet): number {
    const hash = this.snapshot.ringHash;
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

  private remember(packet: Packet, backend: number, nowMs: number): void {
    // An RST ends what we do not know; ICMP and the like have no flow.
    if ((packet.flags & PacketFlag.hasPorts) === 0 || (packet.tcpFlags & TcpFlag.rst) !== 0) return;
    const limit = this.snapshot.settings.maxNewFlowsPerSecond;
    if (limit > 0 && this.aboveRate(limit, nowMs)) {
      this.counters[Counter.flowBypass]++;
      return;
    }
    const incarnation = this.snapshot.backends[Math.imul(backend, BackendField.STRIDE) + BackendField.incarnation];
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
    const backends = this.snapshot.backends;
    const at = Math.imul(backend, BackendField.STRIDE);
    if ((backends[at + BackendField.flags] & BackendFlag.resolved) === 0) {
      this.reason = DropReason.noNextHop;
      return Verdict.Drop;
    }
    const bytes = packet.l3Length;
    const failure = encapsulate(packet, backends, at);
    if (failure !== DropReason.none) {
      this.reason = failure;
      return Verdict.Drop;
    }
    const counters = this.counters;
    const byBackend = CounterBlock.backends + Math.imul(backend, BackendCounter.SIZE);
    counters[byBackend + BackendCounter.packets]++;
    counters[byBackend + BackendCounter.bytes] += bytes;
    const byService = CounterBlock.services + Math.imul(backends[at + BackendField.service], ServiceCounter.SIZE);
    counters[byService + ServiceCounter.packets]++;
    counters[byService + ServiceCounter.bytes] += bytes;
    const port = backends[at + BackendField.port];
    if (port === packet.port) return Verdict.Tx;
    packet.target = port;
    return Verdict.Redirect;
  }

  /** Forgets flows that timed out, a bounded number a call. */
  sweep(nowMs: number, idle: boolean): void {
    const forgotten = this.flows.sweep(nowMs, idle, this.onExpire);
    if (forgotten > 0) this.counters[Counter.flowExpire] += forgotten;
    this.counters[Counter.flows] = this.flows.count;
  }

  private readonly onExpire = (backend: number): void => {
    this.counters[CounterBlock.backends + Math.imul(backend, BackendCounter.SIZE) + BackendCounter.flows]--;
  };
}

import {
  BackendCounter,
  BackendField,
  BackendFlag,
  Counter,
  CounterBlock,
  ServiceCounter,
  ServiceField,
} from '../../shared/layout.js';
import { encapsulate } from '../packet/encap.js';
import { clampMss, mssOf } from '../packet/mss.js';
import type { Packet } from '../packet/packet.js';
import { makeTooBig } from '../packet/too_big.js';
import type { Snapshot } from '../snapshot.js';
import { DropReason, Verdict } from '../verdict.js';
import { Egress, FlagsWord } from './egress.js';
import type { IcmpBudget } from './icmp_budget.js';
import { Wrapper } from './wrapper.js';

/** Sends a packet to a backend, or tells its sender why not. */
export class Sender {
  /** Out parameter of `send`: why it dropped. */
  reason: DropReason = DropReason.none;
  /** Backend of the last packet that was to be sent, also when it could not be. */
  backend = -1;
  private readonly wrapper: Wrapper;

  constructor(
    private snapshot: Snapshot,
    private readonly counters: Float64Array,
    private readonly budget: IcmpBudget,
  ) {
    this.wrapper = new Wrapper(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.wrapper.adopt(snapshot);
  }

  /**
   * Tx or Redirect (`packet.target` set) with the packet encapsulated, or made into a message to its sender; Drop with
   * `reason` set. `tuple`: the packet whose flow it belongs to, itself or the one that an ICMP error is about.
   */
  send(packet: Packet, tuple: Packet, backend: number, nowMs: number): Verdict {
    this.backend = backend;
    const egress = this.snapshot.egress;
    const at = (backend << Egress.SHIFT) | 0;
    const flags = egress[at + Egress.flags];
    if ((flags & BackendFlag.resolved) === 0) return this.drop(DropReason.noNextHop);
    const bytes = packet.l3Length;
    const port = (flags >>> FlagsWord.PORT_SHIFT) & FlagsWord.PORT_MASK;
    const service = flags >>> FlagsWord.SERVICE_SHIFT;
    if ((flags & BackendFlag.clamps) !== 0) this.clamp(packet, backend, service);
    const failure =
      (flags & BackendFlag.special) === 0
        ? encapsulate(packet, egress, at, this.snapshot.backends, Math.imul(backend, BackendField.STRIDE))
        : this.wrapper.wrap(packet, tuple, backend, service);
    if (failure !== DropReason.none) {
      return failure === DropReason.tooBig ? this.tooBig(packet, backend, service, nowMs) : this.drop(failure);
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

  private drop(reason: DropReason): Verdict {
    this.reason = reason;
    return Verdict.Drop;
  }

  private clamp(packet: Packet, backend: number, service: number): void {
    const wanted = this.snapshot.services[Math.imul(service, ServiceField.STRIDE) + ServiceField.mss];
    const mss = wanted > 0 ? wanted : mssOf(this.room(backend, service), packet.family);
    if (clampMss(packet, mss)) this.counters[Counter.mssClamped]++;
  }

  /** The largest packet that fits into one to the backend, bytes from its IP header on. */
  private room(backend: number, service: number): number {
    const mtu = this.snapshot.backends[Math.imul(backend, BackendField.STRIDE) + BackendField.mtu];
    return (mtu - this.wrapper.overhead(backend, service)) | 0;
  }

  private tooBig(packet: Packet, backend: number, service: number, nowMs: number): Verdict {
    if (this.snapshot.settings.icmp.tooBig === 'drop') return this.drop(DropReason.tooBig);
    if (!this.budget.take(nowMs)) return this.drop(DropReason.tooBig);
    if (!makeTooBig(packet, this.room(backend, service))) return this.drop(DropReason.tooBig);
    this.counters[Counter.tooBigReplies]++;
    return Verdict.Tx;
  }
}

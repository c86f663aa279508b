/**
 * Why the balancer sends a packet where it does: asked of the same tables and functions, before the balancer itself is. Nothing of the path
 * is changed by it; `Expected` is what it says will happen, which tests hold against what does.
 */
import { Chooser } from '../../dataplane/balance/choose.js';
import { Egress, FlagsWord } from '../../dataplane/balance/egress.js';
import type { FlowState } from '../../dataplane/balance/flow_entry.js';
import { FlowField, startsAnew } from '../../dataplane/balance/flow_entry.js';
import type { Balancer } from '../../dataplane/balance/forward.js';
import { slotHash } from '../../dataplane/balance/slot.js';
import type { SteeredBy } from '../../dataplane/balance/steer.js';
import { isEchoRequest, isIcmpError } from '../../dataplane/packet/icmp.js';
import { readInner } from '../../dataplane/packet/icmp_quote.js';
import { Packet, PacketFlag } from '../../dataplane/packet/packet.js';
import { IpProtocol } from '../../dataplane/packet/wire.js';
import { DropReason } from '../../dataplane/verdict.js';
import { BackendFlag, Counter, NO_HOP, ServiceField, ServiceFlag } from '../../shared/layout.js';
import type { ServiceConfig } from '../../shared/config.js';
import type { ReplaySetup } from '../replay_path.js';
import { backendStep } from './backend.js';
import type { Step } from './document.js';
import type { TableNames } from './names.js';
import { serviceStep } from './service.js';

/** By FlowState. */
const STATES = [
  'free',
  'other',
  'udp',
  'tcp syn',
  'tcp established',
  'tcp closing',
  'udp, one packet',
  'tcp picked up',
  'other, one packet',
];

/** By SteeredBy. */
const STEERED_BY = ['', 'QUIC connection id', 'stable UDP id', 'TCP server id'];

export interface Expected {
  steps: Step[];
  /** Number of the backend; -1: none; null: not foretold (later fragments, ICMP errors about packets of ours). */
  backend: number | null;
}

export class BalanceExplainer {
  private readonly chooser: Chooser;
  /** Packet of an ICMP error. */
  private readonly inner = new Packet(new DataView(new ArrayBuffer(0)), 1);
  private steps: Step[] = [];

  constructor(
    private readonly setup: ReplaySetup,
    private readonly balancer: Balancer,
    private readonly names: TableNames,
  ) {
    // Its counts go nowhere.
    this.chooser = new Chooser(balancer.snapshot, new Float64Array(Counter.SIZE));
  }

  /** The packet must be as `Balancer.balance` gets it. */
  explain(packet: Packet, nowMs: number): Expected {
    this.steps = [];
    const backend = this.backendOf(packet, nowMs);
    return { steps: this.steps, backend };
  }

  private backendOf(packet: Packet, nowMs: number): number | null {
    if (packet.isFragment) {
      const stays = this.fragment(packet);
      if (stays !== undefined) return stays;
    }
    if (packet.family === 0) {
      this.say('service', 'none', 'not IP: passed to the host');
      return -1;
    }
    const hasPorts = (packet.flags & PacketFlag.hasPorts) !== 0;
    const known = hasPorts ? this.flow(packet, nowMs) : this.noPorts();
    if (known >= 0) return known;
    if (packet.protocol === IpProtocol.icmp || packet.protocol === IpProtocol.icmpv6) return this.icmp(packet, nowMs);
    return this.forService(this.chooser.serviceOf(packet), packet);
  }

  private say(stage: Step['stage'], result: string, because: string, detail: Record<string, unknown> = {}): void {
    this.steps.push({ stage, result, because: because === '' ? [] : [because], detail });
  }

  /** undefined: goes as a whole packet would. */
  private fragment(packet: Packet): number | null | undefined {
    if (this.chooser.serviceOfAddress(packet) < 0) {
      this.say('fragment', 'pass', 'a fragment to an address of no service');
      return -1;
    }
    const { policy, outOfOrder } = this.setup.config.fragments;
    if (policy === 'drop') {
      const drops = this.chooser.serviceOf(packet) >= 0;
      this.say('fragment', drops ? 'drop' : 'pass', drops ? 'fragments.policy is drop' : 'of no service');
      return -1;
    }
    if ((packet.flags & PacketFlag.laterFragment) === 0) {
      this.say('fragment', 'first', 'has the ports: goes as a whole packet would, and the others follow it');
      return undefined;
    }
    const unknown = outOfOrder === 'hold' ? 'held until that comes' : 'dropped';
    this.say('fragment', 'later', `goes where the first of its datagram went; ${unknown} when that was not seen`);
    return null;
  }

  private noPorts(): number {
    this.say('flow-table', 'not looked up', 'no ports: such packets have no flow');
    return -1;
  }

  /** As Balancer.known: the backend of the packet's flow, -1 when it has to be balanced anew. */
  private flow(packet: Packet, nowMs: number): number {
    const { flows, snapshot } = this.balancer;
    const at = flows.find(packet);
    if (at < 0) {
      this.say('flow-table', 'miss', `not among ${flows.count} flows`, { hash: packet.flowHash >>> 0 });
      return -1;
    }
    const words = flows.words;
    const backend = words[at + FlowField.backend];
    const state = words[at + FlowField.state] as FlowState;
    const idleMs = (nowMs - words[at + FlowField.lastSeen]) | 0;
    const record = backend << Egress.SHIFT;
    const flags = record < snapshot.egress.length ? snapshot.egress[record + Egress.flags] : 0;
    const detail = {
      hash: packet.flowHash >>> 0,
      slot: at >> FlowField.STRIDE_SHIFT,
      slots: flows.slots,
      backend: this.names.backendKey(backend),
      state: STATES[state],
      idleMs,
    };
    const where = `slot ${detail.slot} of ${detail.slots}, backend ${detail.backend}, ${detail.state}, idle ${idleMs} ms`;
    const anew = (why: string): number => {
      this.say('flow-table', 'balanced anew', `${where}: ${why}`, detail);
      return -1;
    };
    const takes = (flags & (BackendFlag.active | BackendFlag.draining)) !== 0;
    if (!takes || snapshot.egress[record + Egress.incarnation] !== words[at + FlowField.incarnation]) {
      return anew('that backend is gone or inactive');
    }
    if (flows.expired(at, nowMs)) return anew(`idle for longer than ${flows.timeoutMs[state]} ms`);
    const draining = (flags & BackendFlag.draining) !== 0;
    if (packet.protocol === IpProtocol.tcp && startsAnew(state, packet.tcpFlags, draining)) {
      return anew('this SYN begins another connection');
    }
    if (
      draining &&
      packet.protocol === IpProtocol.udp &&
      this.flagsOf(flags >>> FlagsWord.SERVICE_SHIFT, ServiceFlag.udpMoves)
    ) {
      return anew('the backend is draining, and drain.udp is move');
    }
    this.say('flow-table', 'hit', where, detail);
    const service = flags >>> FlagsWord.SERVICE_SHIFT;
    const named = (flags & BackendFlag.steered) === 0 ? -1 : this.named(service, packet);
    if (named >= 0 && named !== backend) return this.to(named);
    return this.to(backend);
  }

  private icmp(packet: Packet, nowMs: number): number | null {
    if (isIcmpError(packet)) return this.icmpError(packet, nowMs);
    const service = this.chooser.serviceOf(packet);
    if (service >= 0) return this.forService(service, packet);
    const { echo } = this.setup.config.icmp;
    const some = isEchoRequest(packet) ? this.chooser.serviceOfAddress(packet) : -1;
    if (some < 0) this.say('icmp', 'pass', 'no error, and no echo request to an address of a service');
    else if (echo === 'pass') this.say('icmp', 'pass', 'echo request, and icmp.echo is pass');
    else if (echo === 'answer')
      this.say('icmp', 'echo', 'echo request to a service, answered here: icmp.echo is answer');
    else {
      this.say('icmp', 'echo', 'echo request to a service, forwarded: icmp.echo is forward');
      return this.forService(some, packet);
    }
    return -1;
  }

  private icmpError(packet: Packet, nowMs: number): number | null {
    const { inner, balancer } = this;
    const reason = readInner(packet, inner);
    const service = reason === DropReason.none ? this.chooser.serviceOf(inner) : -1;
    if (service < 0) {
      this.say(
        'icmp',
        'error',
        'about no packet of a service; perhaps about one of ours to a backend, whose client is then told',
      );
      return null;
    }
    const ports = `${inner.sourcePort} > ${inner.destinationPort}`;
    this.say(
      'icmp',
      'error',
      `follows the flow that it is about: service ${this.names.service(service)}, ports ${ports}`,
    );
    if ((inner.flags & PacketFlag.hasPorts) !== 0) {
      balancer.hash(inner);
      const at = balancer.flows.find(inner);
      if (at >= 0 && !balancer.flows.expired(at, nowMs)) {
        const words = balancer.flows.words;
        const backend = words[at + FlowField.backend];
        const record = backend << Egress.SHIFT;
        const egress = balancer.snapshot.egress;
        const takes = (egress[record + Egress.flags] & (BackendFlag.active | BackendFlag.draining)) !== 0;
        if (takes && egress[record + Egress.incarnation] === words[at + FlowField.incarnation]) {
          this.say(
            'flow-table',
            'hit',
            `slot ${at >> FlowField.STRIDE_SHIFT}, backend ${this.names.backendKey(backend)}`,
          );
          return this.to(backend);
        }
      }
      this.say('flow-table', 'miss', 'its flow is not remembered: the ring has it');
    }
    this.service(service, inner);
    return this.choose(service, inner);
  }

  private forService(service: number, packet: Packet): number {
    if (service < 0) {
      this.say('service', 'none', 'no service has this address, protocol and port: passed to the host');
      return -1;
    }
    this.service(service, packet);
    const named = this.named(service, packet);
    return named >= 0 ? this.to(named) : this.choose(service, packet);
  }

  private service(service: number, packet: Packet): void {
    this.steps.push(serviceStep(this.configOf(service), packet));
  }

  private configOf(service: number): ServiceConfig {
    const name = this.names.service(service);
    return this.setup.config.services.find((one) => one.name === name)!;
  }

  private named(service: number, packet: Packet): number {
    const { quic, stableUdp, tcpServerId } = this.configOf(service);
    if (quic === null && !stableUdp && !tcpServerId) return -1;
    const named = this.chooser.named(service, packet);
    const by = STEERED_BY[this.balancer.snapshot.steering.by as SteeredBy];
    if (named >= 0) this.say('steering', 'named', `${by} names ${this.names.backendKey(named)}`, { by });
    else this.say('steering', 'none', 'the packet names no backend that takes it');
    return named;
  }

  /** As Chooser.choose. */
  private choose(service: number, packet: Packet): number {
    const { snapshot } = this.balancer;
    const { services, rings, backendList } = snapshot;
    const record = service * ServiceField.STRIDE;
    const at = (position: number): number => backendList[services[record + ServiceField.listStart] + position];
    const chosen = this.chooser.choose(service, packet);
    const position = snapshot.steering.route(packet, service);
    if (position >= 0) {
      const backend = at(position);
      const active = (snapshot.egress[(backend << Egress.SHIFT) + Egress.flags] & BackendFlag.active) !== 0;
      const name = this.names.backendKey(backend);
      this.say('source-route', active ? 'found' : 'left out', active ? name : `${name} takes no new flows`);
      if (active) return this.to(chosen);
    }
    const number = services[record + ServiceField.ring];
    if (number < 0) {
      this.say('ring', 'empty', 'the service has no backend that takes new flows');
      return -1;
    }
    const ring = rings[number];
    const hops = services[record + ServiceField.hops];
    const slots = ring.length / hops;
    const hash = slotHash(snapshot, packet, record) >>> 0;
    const slot = hash % slots;
    const chain = [...ring.subarray(slot * hops, (slot + 1) * hops)].filter((entry) => entry !== NO_HOP).map(at);
    const config = this.configOf(service);
    const detail = {
      hash,
      algorithm: config.hash,
      fields: [...config.hashFields],
      slot,
      slots,
      chain: chain.map((backend) => this.names.backend(backend)),
    };
    const hashed = `${config.hash} hash of ${config.hashFields.join(', ')} is 0x${hash.toString(16).padStart(8, '0')}`;
    this.say(
      'ring',
      chain.length === 0 ? 'empty' : 'found',
      `${hashed}: slot ${slot} of ${slots}, ${detail.chain.join(', then ') || 'nobody'}`,
      detail,
    );
    return chosen < 0 ? -1 : this.to(chosen);
  }

  private to(backend: number): number {
    this.steps.push(backendStep(this.setup, this.balancer.snapshot, this.names, backend));
    return backend;
  }

  private flagsOf(service: number, flag: ServiceFlag): boolean {
    return (this.balancer.snapshot.services[service * ServiceField.STRIDE + ServiceField.flags] & flag) !== 0;
  }
}

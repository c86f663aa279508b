import { BackendFlag, Counter, LATER_FRAGMENT, NO_HOP, ServiceField, SOME_SERVICE } from '../../shared/layout.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol } from '../packet/wire.js';
import type { Snapshot } from '../snapshot.js';
import { Egress } from './egress.js';
import { NO_PORT } from './service_table.js';
import { slotHash } from './slot.js';
import { Steered } from './steer.js';

/** Which service a packet is for, and which of its backends, going by the tables alone: no flow is remembered here. */
export class Chooser {
  constructor(
    private snapshot: Snapshot,
    private readonly counters: Float64Array,
  ) {}

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
  }

  /** Number of the service, −1 for none. */
  serviceOf(packet: Packet): number {
    return this.find(packet, packet.protocol, portOf(packet));
  }

  /** Some service of the packet's destination, whatever its protocol and ports; −1 for none. */
  serviceOfAddress(packet: Packet): number {
    return this.find(packet, IpProtocol.icmp, SOME_SERVICE);
  }

  private find(packet: Packet, protocol: number, port: number): number {
    const table = this.snapshot.serviceTable;
    return packet.family === 4
      ? table.find4(packet.dst0, protocol, port)
      : table.find6(packet.dst0, packet.dst1, packet.dst2, packet.dst3, protocol, port);
  }

  /** The backend that the packet names, −1 when it names none that is there. */
  named(service: number, packet: Packet): number {
    const steering = this.snapshot.steering;
    const position = steering.steer(packet, service);
    if (position === Steered.none) return -1;
    if (position >= 0) {
      const backend = this.backendAt(service, position);
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

  /** The backend for a new flow: by where it comes from, else by its slot of the ring. −1: nobody is there. */
  choose(service: number, packet: Packet): number {
    const position = this.snapshot.steering.route(packet, service);
    if (position >= 0) {
      const backend = this.backendAt(service, position);
      if ((this.flagsOf(backend) & BackendFlag.active) !== 0) {
        this.counters[Counter.sourceRouted]++;
        return backend;
      }
    }
    return this.bySlot(service, packet);
  }

  private bySlot(service: number, packet: Packet): number {
    const { services, rings } = this.snapshot;
    const record = Math.imul(service, ServiceField.STRIDE);
    const ringNumber = services[record + ServiceField.ring];
    if (ringNumber < 0) return -1;
    const ring = rings[ringNumber];
    const hops = services[record + ServiceField.hops];
    // Both sides of % unsigned, which is then one instruction; with a signed one V8 divides as floating point.
    const slots = hops === 1 ? ring.length : (ring.length / hops) >>> 0;
    const position = ring[Math.imul((slotHash(this.snapshot, packet, record) >>> 0) % slots, hops)];
    return position === NO_HOP ? -1 : this.backendAt(service, position);
  }

  private backendAt(service: number, position: number): number {
    const { services, backendList } = this.snapshot;
    return backendList[services[Math.imul(service, ServiceField.STRIDE) + ServiceField.listStart] + position];
  }

  private flagsOf(backend: number): number {
    return this.snapshot.egress[(backend << Egress.SHIFT) + Egress.flags];
  }
}

/** What the packet is looked up under. */
function portOf(packet: Packet): number {
  if ((packet.flags & PacketFlag.hasPorts) !== 0) return packet.ports & 0xffff;
  return (packet.flags & PacketFlag.laterFragment) !== 0 ? LATER_FRAGMENT : NO_PORT;
}

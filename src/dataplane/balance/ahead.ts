/** Backends of a burst's new flows, found before the first of them is balanced. */
import { HashField, NO_HOP, ServiceField, ServiceFlag } from '../../shared/layout.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import type { Snapshot } from '../snapshot.js';
import { Decision } from '../verdict.js';
import { hashOf } from './slot.js';

/** Packets in the largest burst. */
const MAX_BURST = 1024;

/** What `Packet.chosen` says beside the number of a backend. */
export const enum Chosen {
  unknown = -1,
  /** The packet is for no service. */
  nobody = -2,
}

/** What makes a service's choice depend on more than the five-tuple's slot of one ring. */
const NOT_PLAIN = ServiceFlag.katranHash | ServiceFlag.glbHash;

/**
 * The backend that `Chooser` would choose for a new flow, where nothing but five-tuple and ring decides. It hangs on the tables alone, so it can be asked
 * for a whole burst in one go: two short loops, the second of which reads the rings, so that their cache misses overlap.
 */
export class Ahead {
  /** By service number: its ring; null where more decides. */
  private rings: (Uint16Array | null)[] = [];
  /** By position among the packets: service, or a Chosen; and slot of its ring. */
  private readonly services = new Int32Array(MAX_BURST);
  private readonly slots = new Int32Array(MAX_BURST);

  constructor(private snapshot: Snapshot) {
    this.adopt(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    const count = (snapshot.services.length / ServiceField.STRIDE) | 0;
    this.rings = Array.from({ length: count }, (_, service) => plainRing(snapshot, service));
  }

  /** Sets `chosen` and `service` of the undecided packets: of those whose flow was looked for and not found, and where the ring alone decides. */
  choose(packets: readonly Packet[], verdict: Int32Array, count: number): void {
    const { serviceTable, ringHash } = this.snapshot;
    const { rings, services, slots } = this;
    for (let i = 0; i < count; i++) {
      const packet = packets[i];
      services[i] = Chosen.unknown;
      if (verdict[i] !== Decision.undecided || packet.flow >= 0) continue;
      if ((packet.flags & (PacketFlag.hasPorts | PacketFlag.fragment)) !== PacketFlag.hasPorts) continue;
      const port = packet.ports & 0xffff;
      const service =
        packet.family === 4
          ? serviceTable.find4(packet.dst0, packet.protocol, port)
          : serviceTable.find6(packet.dst0, packet.dst1, packet.dst2, packet.dst3, packet.protocol, port);
      if (service < 0) {
        services[i] = Chosen.nobody;
        continue;
      }
      const ring = rings[service];
      if (ring === null) continue;
      services[i] = service;
      slots[i] = (hashOf(ringHash, packet) >>> 0) % ring.length;
    }
    this.read(packets, count);
  }

  private read(packets: readonly Packet[], count: number): void {
    const { rings, services, slots } = this;
    const { services: records, backendList } = this.snapshot;
    for (let i = 0; i < count; i++) {
      const packet = packets[i];
      const service = services[i];
      packet.chosen = service < 0 ? service : Chosen.unknown;
      if (service < 0) continue;
      const position = rings[service]![slots[i]];
      if (position === NO_HOP) continue;
      packet.service = service;
      packet.chosen =
        backendList[(records[(Math.imul(service, ServiceField.STRIDE) + ServiceField.listStart) | 0] + position) | 0];
    }
  }
}

function plainRing({ services, rings, steering }: Snapshot, service: number): Uint16Array | null {
  const record = service * ServiceField.STRIDE;
  const isPlain =
    (services[record + ServiceField.flags] & (NOT_PLAIN | ServiceFlag.valid)) === ServiceFlag.valid &&
    services[record + ServiceField.hashFields] === HashField.all &&
    services[record + ServiceField.hops] === 1 &&
    !steering.concerns(service) &&
    services[record + ServiceField.ring] >= 0;
  return isPlain ? rings[services[record + ServiceField.ring]] : null;
}

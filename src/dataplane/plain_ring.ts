import { HashField, NO_HOP, ServiceField, ServiceFlag } from '../shared/layout.js';
import { Heading } from './plain_headers.js';
import type { Snapshot } from './snapshot.js';

/** What makes a service's packets depend on more than five-tuple and ring. */
const NOT_PLAIN =
  ServiceFlag.flowTable |
  ServiceFlag.katranHash |
  ServiceFlag.glbHash |
  ServiceFlag.tcpServerId |
  ServiceFlag.stableUdp;

/** Balancing in the short way: packets of services that remember no flows, by nothing but the ring. */
export class PlainRing {
  /** By service number: its ring; null where it is not that simple. */
  private rings: (Uint16Array | null)[] = [];
  private snapshot: Snapshot;
  /** False: there is no such service. */
  isThere = false;

  constructor(
    private readonly view: DataView,
    snapshot: Snapshot,
  ) {
    this.snapshot = snapshot;
    this.adopt(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    const count = (snapshot.services.length / ServiceField.STRIDE) | 0;
    this.rings = Array.from({ length: count }, (_, service) => plainRing(snapshot, service));
    // What is ours to open is not told from other packets here.
    this.isThere = !snapshot.decap.active && this.rings.some((ring) => ring !== null);
  }

  /** Backend of a plain packet at `data` whose flow is not remembered, −1: for the steps to find. `hash`: the ring's, of its five-tuple. */
  choose(head: number, data: number, hash: number): number {
    const { serviceTable, services, backendList } = this.snapshot;
    const view = this.view;
    const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
    const service =
      head >= 0
        ? serviceTable.find4(view.getInt32(data + 30), protocol, view.getUint16(data + 36))
        : serviceTable.find6(
            view.getInt32(data + 38),
            view.getInt32(data + 42),
            view.getInt32(data + 46),
            view.getInt32(data + 50),
            protocol,
            view.getUint16(data + 56),
          );
    const ring = service < 0 ? null : this.rings[service];
    if (ring === null) return -1;
    const position = ring[(hash >>> 0) % ring.length];
    if (position === NO_HOP) return -1;
    return backendList[
      (services[(Math.imul(service, ServiceField.STRIDE) + ServiceField.listStart) | 0] + position) | 0
    ];
  }
}

function plainRing({ services, rings }: Snapshot, service: number): Uint16Array | null {
  const record = service * ServiceField.STRIDE;
  const isPlain =
    (services[record + ServiceField.flags] & (NOT_PLAIN | ServiceFlag.valid)) === ServiceFlag.valid &&
    services[record + ServiceField.hashFields] === HashField.all &&
    services[record + ServiceField.hops] === 1 &&
    services[record + ServiceField.quic] < 0 &&
    services[record + ServiceField.sourceRoutes] < 0 &&
    services[record + ServiceField.ring] >= 0;
  return isPlain ? rings[services[record + ServiceField.ring]] : null;
}

import { HashField, MAX_BACKENDS, NO_HOP, ServiceField, ServiceFlag } from '../shared/layout.js';
import { Heading } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';
import type { Snapshot } from './snapshot.js';

/** In PlainFlows.place: CHOSEN − backend of a packet whose flow is not remembered. */
export const CHOSEN = -2;

/** In PlainFlows.place: FRESH − backend of a packet whose flow is to enter the flow table. */
export const FRESH = -(MAX_BACKENDS + 2);

/** What makes a service's packets depend on more than five-tuple and ring. */
const NOT_PLAIN = ServiceFlag.katranHash | ServiceFlag.glbHash | ServiceFlag.tcpServerId | ServiceFlag.stableUdp;

/** The ring of services that have none, or more than one. */
const NO_RING: Uint16Array = new Uint16Array(0);

/**
 * Balancing in the short way: packets of flows that are not in the table, by nothing but the ring. A service is looked up once for all packets in a row that
 * are for it.
 */
export class PlainRing {
  /** By service number: its ring, empty where it is not that simple. */
  private rings: Uint16Array[] = [];
  private snapshot: Snapshot;
  /** False: there is no such service, none that remembers no flows. */
  isThere = false;
  /** False: there is none that remembers flows. */
  remembers = false;
  /** What the last packet was for. */
  private readonly last = new LastService();
  private readonly choose4: Loop;
  private readonly choose6: Loop;

  /** `positions`: PlainFresh.positions; `place`: PlainFlows.place. */
  constructor(
    private readonly headers: PlainHeaders,
    private readonly positions: Int32Array,
    place: Int32Array,
    snapshot: Snapshot,
  ) {
    this.snapshot = snapshot;
    this.choose4 = chooser4(headers, positions, place);
    this.choose6 = chooser6(headers, positions, place);
    this.adopt(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    const count = (snapshot.services.length / ServiceField.STRIDE) | 0;
    this.rings = Array.from({ length: count }, (_, service) => plainRing(snapshot, service));
    // What is ours to open is not told from other packets here.
    const some = (remembers: boolean): boolean =>
      !snapshot.decap.active &&
      this.rings.some((ring, n) => ring.length > 0 && remembers === remembersFlows(snapshot, n));
    this.isThere = some(false);
    this.remembers = some(true);
    this.last.family = 0;
  }

  /** Of the first `count` of `positions`: writes CHOSEN − backend or FRESH − backend to `place` where a ring alone decides. */
  choose(count: number): void {
    const { last, headers } = this;
    let entry = this.choose4(0, count, last);
    while (entry < count) {
      this.lookUp4(this.positions[entry]);
      entry = this.choose4(entry, count, last);
    }
    if (!headers.hasIpv6) return;
    entry = this.choose6(0, count, last);
    while (entry < count) {
      this.lookUp6(this.positions[entry]);
      entry = this.choose6(entry, count, last);
    }
  }

  private lookUp4(i: number): void {
    const { last, headers } = this;
    last.dst0 = headers.dst0[i];
    last.port = headers.ports[i] & 0xffff;
    last.protocol = (headers.heading[i] >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
    this.take(4, this.snapshot.serviceTable.find4(last.dst0, last.protocol, last.port));
  }

  private lookUp6(i: number): void {
    const { last, headers } = this;
    last.dst0 = headers.dst0[i];
    last.dst1 = headers.dst1[i];
    last.dst2 = headers.dst2[i];
    last.dst3 = headers.dst3[i];
    last.port = headers.ports[i] & 0xffff;
    last.protocol = (headers.heading[i] >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
    const { serviceTable } = this.snapshot;
    this.take(6, serviceTable.find6(last.dst0, last.dst1, last.dst2, last.dst3, last.protocol, last.port));
  }

  private take(family: number, service: number): void {
    const { last, snapshot } = this;
    last.family = family;
    last.ring = service < 0 ? NO_RING : this.rings[service];
    last.base = service >= 0 && remembersFlows(snapshot, service) ? FRESH : CHOSEN;
    last.list = snapshot.backendList;
    last.listStart = service < 0 ? 0 : snapshot.services[service * ServiceField.STRIDE + ServiceField.listStart];
  }
}

/** A service's key, and what a packet for it is balanced by. */
class LastService {
  /** 4, 6, or 0: nothing here. */
  family = 0;
  protocol = 0;
  port = 0;
  dst0 = 0;
  dst1 = 0;
  dst2 = 0;
  dst3 = 0;
  ring: Uint16Array = NO_RING;
  list: Int32Array = new Int32Array(0);
  listStart = 0;
  /** CHOSEN or FRESH. */
  base = CHOSEN;
}

/**
 * From the number `first` on, as far as packets are for the service in hand. Returns the number of one that is for another, or `count`.
 */
type Loop = (first: number, count: number, last: LastService) => number;

function chooser4(headers: PlainHeaders, positions: Int32Array, place: Int32Array): Loop {
  const { heading, dst0, ports, ringHashes } = headers;
  return (first, count, { family, protocol, port, dst0: to0, ring, list, listStart, base }) => {
    const size = ring.length;
    for (let entry = first; entry < count; entry++) {
      const i = positions[entry];
      const head = heading[i];
      if (head < 0) continue;
      if (
        dst0[i] !== to0 ||
        (ports[i] & 0xffff) !== port ||
        head >>> Heading.PROTOCOL_SHIFT !== protocol ||
        family !== 4
      ) {
        return entry;
      }
      if (size === 0) continue;
      // An int32, and said so: else V8 divides floating-point numbers, which takes 20 ns.
      const slot = ((ringHashes[i] >>> 0) % (size >>> 0)) | 0;
      const position = ring[slot];
      if (position !== NO_HOP) place[i] = (base - list[(listStart + position) | 0]) | 0;
    }
    return count;
  };
}

function chooser6(headers: PlainHeaders, positions: Int32Array, place: Int32Array): Loop {
  const { heading, dst0, dst1, dst2, dst3, ports, ringHashes } = headers;
  return (
    first,
    count,
    { family, protocol, port, dst0: to0, dst1: to1, dst2: to2, dst3: to3, ring, list, listStart, base },
  ) => {
    const size = ring.length;
    for (let entry = first; entry < count; entry++) {
      const i = positions[entry];
      const head = heading[i];
      if (head >= 0) continue;
      if (
        dst3[i] !== to3 ||
        dst0[i] !== to0 ||
        dst1[i] !== to1 ||
        dst2[i] !== to2 ||
        (ports[i] & 0xffff) !== port ||
        ((head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK) !== protocol ||
        family !== 6
      ) {
        return entry;
      }
      if (size === 0) continue;
      // An int32, and said so: else V8 divides floating-point numbers, which takes 20 ns.
      const slot = ((ringHashes[i] >>> 0) % (size >>> 0)) | 0;
      const position = ring[slot];
      if (position !== NO_HOP) place[i] = (base - list[(listStart + position) | 0]) | 0;
    }
    return count;
  };
}

function remembersFlows({ services }: Snapshot, service: number): boolean {
  return (services[service * ServiceField.STRIDE + ServiceField.flags] & ServiceFlag.flowTable) !== 0;
}

function plainRing({ services, rings, settings }: Snapshot, service: number): Uint16Array {
  const record = service * ServiceField.STRIDE;
  const isPlain =
    (services[record + ServiceField.flags] & (NOT_PLAIN | ServiceFlag.valid)) === ServiceFlag.valid &&
    services[record + ServiceField.hashFields] === HashField.all &&
    services[record + ServiceField.hops] === 1 &&
    services[record + ServiceField.quic] < 0 &&
    services[record + ServiceField.sourceRoutes] < 0 &&
    services[record + ServiceField.ring] >= 0;
  // What counts new flows is in the steps.
  const isLimited = settings.maxNewFlowsPerSecond !== 0 || services[record + ServiceField.maxNewFlows] !== 0;
  if (isLimited && (services[record + ServiceField.flags] & ServiceFlag.flowTable) !== 0) return NO_RING;
  return isPlain ? rings[services[record + ServiceField.ring]] : NO_RING;
}

import { ServiceField, ServiceFlag, type QuicSpec, type Tables } from '../../shared/layout.js';
import { lookupLpm4, lookupLpm6 } from '../../shared/lpm.js';
import { buildServerIds, findServerId } from '../../shared/server_ids.js';
import { katranServerId } from '../packet/katran_cid.js';
import type { Packet } from '../packet/packet.js';
import { QuicHeader } from '../packet/quic.js';
import { stableUdpServerId } from '../packet/stable_udp.js';
import { tcpServerId } from '../packet/tcp_options.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';
import { QuicLbDecoder } from './quic_lb.js';

/** Results of `Steering` that are no position. */
export const enum Steered {
  /** The packet names no backend: flow table, then ring. */
  none = -1,
  /** It names one that the service does not have: the same, and counted. */
  unknownId = -2,
}

/** What named the backend. */
export const enum SteeredBy {
  nothing = 0,
  quicCid = 1,
  stableUdp = 2,
  tcpOption = 3,
}

/**
 * Finds the backend that a packet itself names, and the one that its source address has been given to. Made for one generation of tables.
 * Answers are positions in the service's list of backends; whether the backend there takes packets is for the caller to see.
 *
 * The order is Katran's:
 *
 *   1. QUIC connection id   2. stable UDP   3. TCP option, but never of a SYN         `steer`, before the flow table
 *   4. flow table
 *   5. source prefix                                                                  `route`, on a miss
 *   6. ring
 *
 * What goes into the flow table: a backend by connection id or TCP option is written for the five-tuple, over another one that is there
 * (the client moved to a five-tuple that was someone else's); one by source prefix is inserted as the ring's would be. One by stable UDP is not
 * written: every packet has the id. Katran writes the same, with differences that are not worth having: its entries for UDP by connection
 * id have time 0 and so have expired when they are made, and it leaves source prefixes out while new flows exceed their rate, which sends
 * those clients to other backends. What is written is for packets without an id: ICMP errors, and QUIC with a client's own ids.
 *
 * ICMP errors carry no id here, also when the packet that they quote does: they go by the flow table and the ring.
 *
 * Sources: Katran `katran/lib/bpf/balancer.bpf.c` process_packet; draft-ietf-quic-load-balancers-21 section 4.2.
 */
export class Steering {
  /** SteeredBy: what the last `steer` went by; `nothing` unless it returned a position. */
  by: number = SteeredBy.nothing;
  /**
   * Whether the last `steer` went by an id that the client may have made up: QUIC-LB reads those of Initial and 0-RTT packets too, because
   * after the first flight they are the server's, and a made-up one names some backend by chance. A new connection should not get to a
   * backend that is being drained that way: for such a packet, let flow table and ring decide when the backend takes no new flows.
   */
  mayStart = false;

  /** By service number; null where a service has nothing to do with it. */
  private readonly ways: readonly (Way | null)[];
  private readonly header = new QuicHeader();

  constructor(tables: Pick<Tables, 'services' | 'serverIds' | 'sourceRoutes' | 'quic'>) {
    const services = new Int32Array(tables.services);
    this.ways = Array.from({ length: services.length / ServiceField.STRIDE }, (_, service) => {
      const way = new Way(services, service * ServiceField.STRIDE, tables);
      return way.isEmpty ? null : way;
    });
  }

  /** Whether packets of the service may name a backend, or be given one by their source. */
  concerns(service: number): boolean {
    return this.ways[service] !== null;
  }

  /** Position of the backend that the packet names, or a Steered. The service must be one of the tables'. */
  steer(packet: Packet, service: number): number {
    this.by = SteeredBy.nothing;
    this.mayStart = false;
    const way = this.ways[service];
    if (way === null) return Steered.none;
    if (packet.protocol === IpProtocol.udp) return this.steerUdp(packet, way);
    if (packet.protocol === IpProtocol.tcp && way.tcpServerId) return this.steerTcp(packet, way);
    return Steered.none;
  }

  /** Position of the backend that the packet's source prefix belongs to, or Steered.none. */
  route(packet: Packet, service: number): number {
    const way = this.ways[service];
    if (way === null) return Steered.none;
    if (packet.family === 4) {
      return way.routes4 === null ? Steered.none : lookupLpm4(way.routes4, packet.src0);
    }
    if (way.routes6 === null || packet.family !== 6) return Steered.none;
    return lookupLpm6(way.routes6, packet.src0, packet.src1, packet.src2, packet.src3);
  }

  private steerUdp(packet: Packet, way: Way): number {
    let result: number = Steered.none;
    if (way.quic) {
      result = way.decoder === null ? this.katran(packet, way) : this.quicLb(packet, way, way.decoder);
      if (result >= 0) return result;
    }
    if (way.stableUdp) {
      const id = stableUdpServerId(packet);
      if (id !== 0) return this.number(way, id, SteeredBy.stableUdp);
    }
    return result;
  }

  private steerTcp(packet: Packet, way: Way): number {
    if ((packet.tcpFlags & TcpFlag.syn) !== 0) return Steered.none;
    const id = tcpServerId(packet);
    return id === 0 ? Steered.none : this.number(way, id, SteeredBy.tcpOption);
  }

  private katran(packet: Packet, way: Way): number {
    if (!this.header.read(packet)) return Steered.none;
    const id = katranServerId(packet.view, this.header);
    return id === 0 ? Steered.none : this.number(way, id, SteeredBy.quicCid);
  }

  private number(way: Way, id: number, by: number): number {
    const position = findServerId(way.ids, 0, id, 0, 0, 0);
    if (position < 0) return Steered.unknownId;
    this.by = by;
    return position;
  }

  private quicLb(packet: Packet, way: Way, decoder: QuicLbDecoder): number {
    const header = this.header;
    if (!header.read(packet) || !decoder.decode(packet.view, header.cid, header.cidBytes)) return Steered.none;
    const { id0, id1, id2, id3, idLength } = decoder;
    const position = findServerId(way.ids, idLength, id0, id1, id2, id3);
    if (position < 0) {
      // A client's own id is no server's but by chance, and no sign of something wrong.
      return header.mayStartConnection ? Steered.none : Steered.unknownId;
    }
    this.by = SteeredBy.quicCid;
    this.mayStart = header.mayStartConnection;
    return position;
  }
}

/** What steers the packets of one service. */
class Way {
  readonly quic: boolean;
  /** Null: Katran's connection ids. */
  readonly decoder: QuicLbDecoder | null;
  readonly stableUdp: boolean;
  readonly tcpServerId: boolean;
  readonly ids: Int32Array;
  readonly routes4: Int32Array | null;
  readonly routes6: Int32Array | null;

  constructor(services: Int32Array, record: number, tables: Pick<Tables, 'serverIds' | 'sourceRoutes' | 'quic'>) {
    const flags = services[record + ServiceField.flags];
    const valid = (flags & ServiceFlag.valid) !== 0;
    const spec = valid ? at(tables.quic, services[record + ServiceField.quic]) : null;
    const ids = valid ? at(tables.serverIds, services[record + ServiceField.serverIds]) : null;
    const routes = valid ? at(tables.sourceRoutes, services[record + ServiceField.sourceRoutes]) : null;
    this.quic = spec !== null;
    this.decoder = decoderOf(spec);
    this.stableUdp = valid && (flags & ServiceFlag.stableUdp) !== 0;
    this.tcpServerId = valid && (flags & ServiceFlag.tcpServerId) !== 0;
    this.ids = ids === null ? NO_IDS : new Int32Array(ids);
    this.routes4 = viewOf(routes?.ipv4);
    this.routes6 = viewOf(routes?.ipv6);
  }

  get isEmpty(): boolean {
    return !this.quic && !this.stableUdp && !this.tcpServerId && this.routes4 === null && this.routes6 === null;
  }
}

const NO_IDS = buildServerIds([]);

function decoderOf(spec: QuicSpec | null): QuicLbDecoder | null {
  return spec?.scheme === 'quic-lb' ? new QuicLbDecoder(spec.configs) : null;
}

function at<T>(list: readonly T[], index: number): T | null {
  return index < 0 ? null : list[index];
}

function viewOf(buffer: SharedArrayBuffer | null | undefined): Int32Array | null {
  return buffer ? new Int32Array(buffer) : null;
}

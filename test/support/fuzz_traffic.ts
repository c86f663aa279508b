/** Random packets for a configuration: what clients, routers, tunnels and vandals send. */
import { encodeQuicLbCid } from '../../src/control/quic_lb_encode.js';
import type { ConfigFuzz, FuzzConfig } from './fuzz_config.js';
import { TUNNEL_ENDS, TUNNEL_PEERS } from './fuzz_config.js';
import { gue0 } from './gue.js';
import { ETHERTYPE, PacketBuilder, PROTO, TCP } from './packet_builder.js';

export interface Flow {
  src: string;
  dst: string;
  sport: number;
  dport: number;
  protocol: 'tcp' | 'udp' | 'sctp' | 'icmp';
}

const FLAGS = [
  TCP.SYN,
  TCP.ACK,
  TCP.ACK,
  TCP.ACK,
  TCP.ACK,
  TCP.ACK,
  TCP.ACK,
  TCP.ACK,
  TCP.ACK | TCP.PSH,
  TCP.ACK | TCP.FIN,
  TCP.RST,
  TCP.RST | TCP.ACK,
  TCP.SYN | TCP.ACK,
  0,
  TCP.SYN | TCP.FIN,
  255,
];
/** Flows that a world has at a time. */
const MOST_FLOWS = 10;
const KEY = [...Array(16).keys()];

export class TrafficFuzz {
  /** Outer packets that were sent to backends, from their IP header on: what routers complain about. */
  readonly outers: Uint8Array[] = [];
  /** Fragments that are still to come, of several datagrams. */
  private readonly pieces: Uint8Array[] = [];
  private readonly flows: Flow[] = [];

  constructor(
    private readonly fuzz: ConfigFuzz,
    private readonly config: () => FuzzConfig,
  ) {}

  /** A frame of any kind. */
  frame(): Uint8Array {
    const kind = this.fuzz.below(100);
    if (kind < 45) return this.framed(this.packet(this.flow()));
    if (kind < 55) return this.fragment();
    if (kind < 63) return this.framed(this.echo());
    if (kind < 73) return this.framed(this.error());
    if (kind < 80) return this.framed(this.errorAboutOuter());
    if (kind < 90) return this.framed(this.tunnelled());
    if (kind < 98) return this.broken();
    return new PacketBuilder().ethernet({ type: ETHERTYPE.ARP }).payload(46).build();
  }

  /** One of few flows, so that most are seen again and again. */
  flow(): Flow {
    const { fuzz, flows } = this;
    if (flows.length < MOST_FLOWS || fuzz.chance(0.1)) {
      const flow = this.newFlow();
      if (flows.length < MOST_FLOWS) flows.push(flow);
      else flows[fuzz.below(MOST_FLOWS)] = flow;
      return flow;
    }
    return fuzz.pick(flows);
  }

  private newFlow(): Flow {
    const { fuzz } = this;
    const service = fuzz.pick(this.config().services);
    const ipv6 = service.vip.includes(':');
    const [address, length] = service.vip.split('/');
    const host = length === undefined ? address : address.replace(/(\.|:)\d*$/, `$1${1 + fuzz.below(4)}`);
    const dst = fuzz.chance(0.95) ? host : ipv6 ? '2001:db8:ffff::1' : '192.0.2.200';
    const own = Array.isArray(service.port) ? Number(String(fuzz.pick(service.port)).split('-')[0]) : 80;
    const ports = [own, own, own, 80, 443, 53, 8050, 8100, 9];
    const protocol = fuzz.pick(service.protocol);
    const known = protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp';
    return {
      src: ipv6 ? `2001:db8:9::${1 + fuzz.below(8)}` : `192.0.2.${1 + fuzz.below(8)}`,
      dst,
      sport: 1024 + fuzz.below(6),
      dport: fuzz.pick(ports),
      protocol: known && fuzz.chance(0.95) ? (protocol as 'tcp') : fuzz.pick(['tcp', 'udp', 'sctp']),
    };
  }

  /** From the IP header on. */
  packet(flow: Flow): Uint8Array {
    return this.transport(this.ip(flow), flow).build();
  }

  private ip({ src, dst }: Flow, more: { protocol?: number } = {}): PacketBuilder {
    const { fuzz } = this;
    const builder = new PacketBuilder();
    const tos = fuzz.below(256);
    const ttl = fuzz.pick([64, 64, 255, 2, 1, 0]);
    if (src.includes(':')) {
      builder.ipv6({
        src,
        dst,
        trafficClass: tos,
        hopLimit: ttl,
        flowLabel: fuzz.below(1 << 20),
        nextHeader: more.protocol,
      });
      if (fuzz.chance(0.05)) builder.extension(PROTO.DSTOPTS);
      return builder;
    }
    const options = fuzz.chance(0.03) ? [1, 1, 1, 0] : undefined;
    return builder.ipv4({ src, dst, tos, ttl, dontFragment: fuzz.chance(0.7), options, id: fuzz.below(65536) });
  }

  private size(): number {
    const { fuzz } = this;
    if (fuzz.chance(0.7)) return fuzz.below(100);
    return fuzz.pick([1300, 1390 + fuzz.below(90), 1472, 1460, 1480]);
  }

  private transport(builder: PacketBuilder, { protocol, sport, dport }: Flow): PacketBuilder {
    const { fuzz } = this;
    if (protocol === 'tcp') {
      const flags = fuzz.pick(FLAGS);
      return builder.tcp({ sport, dport, flags, options: this.tcpOptions() }).payload(this.size());
    }
    if (protocol === 'udp') {
      const checksum = fuzz.chance(0.1) ? 0 : undefined;
      return builder.udp({ sport, dport, checksum }).payload(this.udpPayload());
    }
    return builder.payload([sport >> 8, sport & 255, dport >> 8, dport & 255, 0, 0, 0, 0, 1, 2, 3, 4]);
  }

  private tcpOptions(): number[] {
    const { fuzz } = this;
    const options: number[] = [];
    for (let i = fuzz.below(4); i > 0; i--) {
      const mss = fuzz.pick([536, 1200, 1440, 1460, 9000]);
      const option = fuzz.pick([
        [1],
        [2, 4, mss >> 8, mss & 255],
        [0xb7, 6, 100 + fuzz.below(8), 0, 0, 0],
        [3, 3, 7],
        [8, 0],
        [5, 40],
      ]);
      if (options.length + option.length <= 40) options.push(...option);
    }
    return options;
  }

  private udpPayload(): Uint8Array | number {
    const { fuzz } = this;
    if (fuzz.chance(0.4)) return this.size();
    const id = 100 + fuzz.below(8);
    if (fuzz.chance(0.3)) return Uint8Array.of(0x52, 0, 0, id, 0, 0, 0, 0, 9, 9);
    const cid = fuzz.chance(0.5)
      ? fuzz.pick([
          Uint8Array.of(0x40 | (id >> 10), (id >> 2) & 255, (id & 3) << 6, 0, 0, 0, 0, 0),
          Uint8Array.of(0x80, 0, 0, id, 0, 0, 0, 0),
          Uint8Array.of(0xc0, 0, 0, 0, id, 0, 0, 0),
        ])
      : encodeQuicLbCid(
          { rotation: 0, serverIdLength: 2, nonceLength: 6, key: fuzz.chance(0.5) ? KEY : null },
          { serverId: Uint8Array.of(0, 10 + fuzz.below(8)), nonce: Uint8Array.of(1, 2, 3, 4, 5, fuzz.below(256)) },
        );
    if (fuzz.chance(0.5)) return Uint8Array.of(0x40 | fuzz.below(64), ...cid, 7, 7, 7, 7);
    return Uint8Array.of(0xc0 | fuzz.below(64), 0, 0, 0, fuzz.below(3), cid.length, ...cid, 0, 7, 7);
  }

  private echo(): Uint8Array {
    const flow = this.flow();
    const rest = this.fuzz.below(1 << 30);
    const builder = this.ip(flow);
    const ipv6 = flow.src.includes(':');
    return (ipv6 ? builder.icmp6({ rest }) : builder.icmp({ rest })).payload(this.size()).build();
  }

  /** A router's error about what a backend answered to a client. */
  private error(): Uint8Array {
    const { fuzz } = this;
    const { src, dst, sport, dport, protocol } = this.flow();
    const answer = this.packet({ src: dst, dst: src, sport: dport, dport: sport, protocol });
    const quote = answer.subarray(0, fuzz.pick([28, 48, 60, 4, 200]));
    return this.errorTo(fuzz.chance(0.95) ? dst : src, quote);
  }

  private errorAboutOuter(): Uint8Array {
    if (this.outers.length === 0) return this.error();
    const outer = this.fuzz.pick(this.outers);
    const ipv6 = outer[0] >> 4 === 6;
    const source = ipv6 ? outer.subarray(8, 24) : outer.subarray(12, 16);
    const text = ipv6
      ? Array.from({ length: 8 }, (_, i) => ((source[2 * i] << 8) | source[2 * i + 1]).toString(16)).join(':')
      : source.join('.');
    return this.errorTo(text, outer.subarray(0, this.fuzz.pick([28, 80, 128, 300, 548])));
  }

  private errorTo(dst: string, quote: Uint8Array): Uint8Array {
    const { fuzz } = this;
    const rest = fuzz.pick([0, 1400, 1280, 68, 0xffff, -1, 0x10000000]);
    if (dst.includes(':')) {
      const builder = new PacketBuilder().ipv6({ src: 'fd09::99', dst });
      return builder
        .icmp6({ type: fuzz.pick([1, 2, 2, 3, 4]), code: fuzz.below(4), rest })
        .quote(quote)
        .build();
    }
    const builder = new PacketBuilder().ipv4({ src: '10.9.9.9', dst });
    return builder
      .icmp({ type: fuzz.pick([3, 3, 3, 11, 12, 5]), code: fuzz.pick([4, 4, 1, 3]), rest })
      .quote(quote)
      .build();
  }

  /** In a tunnel to this node, or to nobody. */
  private tunnelled(): Uint8Array {
    const { fuzz } = this;
    const inner = fuzz.chance(0.9) ? this.packet(this.flow()) : this.echo();
    const ipv6 = fuzz.chance(0.5) ? 1 : 0;
    const src = fuzz.chance(0.95) ? TUNNEL_PEERS[ipv6] : ['10.8.0.1', 'fd08::1'][ipv6];
    const dst = TUNNEL_ENDS[ipv6];
    const protocol = inner[0] >> 4 === 4 ? PROTO.IPIP : PROTO.IPV6;
    const flow: Flow = { src, dst, sport: 0, dport: 0, protocol: 'udp' };
    if (fuzz.chance(0.4)) {
      const tos = fuzz.below(256);
      return ipv6 === 1
        ? new PacketBuilder().ipv6({ src, dst, trafficClass: tos, nextHeader: protocol }).payload(inner).build()
        : new PacketBuilder().ipv4({ src, dst, tos, protocol }).payload(inner).build();
    }
    const udp = this.ip(flow).udp({
      sport: 50000,
      dport: fuzz.pick([6080, 6081]),
      checksum: fuzz.pick([0, undefined]),
    });
    if (fuzz.chance(0.4)) return udp.payload(inner).build();
    const hops = fuzz.pick([undefined, ipv6 === 1 ? ['fd00::11', 'fd00::12'] : ['10.0.0.11']]);
    return udp.payload(gue0(inner, { hops, control: fuzz.chance(0.03), flags: fuzz.chance(0.03) ? 1 : 0 })).build();
  }

  /** One piece of a datagram; the others come later, in any order, some twice, some never. */
  private fragment(): Uint8Array {
    const { fuzz, pieces } = this;
    if (pieces.length < 6) {
      const flow = this.flow();
      const whole = this.packet(flow);
      const all = flow.src.includes(':') ? this.cut6(whole) : this.cut4(whole);
      pieces.push(...all.filter(() => fuzz.chance(0.9)));
      if (pieces.length === 0) return this.framed(whole);
    }
    const [piece] = pieces.splice(fuzz.below(pieces.length), 1);
    return this.framed(piece);
  }

  private cut4(whole: Uint8Array): Uint8Array[] {
    const headerBytes = (whole[0] & 15) * 4;
    const id = this.fuzz.below(4000);
    const [src, dst] = [12, 16].map((at) => whole.subarray(at, at + 4).join('.'));
    return this.slices(whole.subarray(headerBytes)).map(([offset, more, bytes]) =>
      new PacketBuilder()
        .ipv4({ src, dst, id, moreFragments: more, fragmentOffset: offset / 8, protocol: whole[9], tos: whole[1] })
        .payload(bytes)
        .build(),
    );
  }

  private cut6(whole: Uint8Array): Uint8Array[] {
    const id = this.fuzz.below(1 << 30);
    return this.slices(whole.subarray(40)).map(([offset, more, bytes]) => {
      const header = Uint8Array.of(
        whole[6],
        0,
        offset >> 8,
        (offset & 0xf8) | (more ? 1 : 0),
        id >> 24,
        id >> 16,
        id >> 8,
        id,
      );
      const piece = Uint8Array.of(...whole.subarray(0, 40), ...header, ...bytes);
      piece[6] = PROTO.FRAGMENT;
      piece[4] = (8 + bytes.length) >> 8;
      piece[5] = (8 + bytes.length) & 255;
      return piece;
    });
  }

  private slices(data: Uint8Array): [offset: number, more: boolean, bytes: Uint8Array][] {
    const size = Math.max(24, Math.ceil(data.length / (2 + this.fuzz.below(3)) / 8) * 8);
    const result: [number, boolean, Uint8Array][] = [];
    for (let at = 0; at < data.length; at += size) {
      result.push([at, at + size < data.length, data.subarray(at, at + size)]);
    }
    return result;
  }

  /** Ethernet, tags and perhaps padding around a packet. */
  private framed(packet: Uint8Array): Uint8Array {
    const { fuzz } = this;
    const type = packet[0] >> 4 === 6 ? ETHERTYPE.IPV6 : ETHERTYPE.IPV4;
    const tags = fuzz.chance(0.8) ? 0 : fuzz.pick([1, 1, 2, 2, 2, 3]);
    const builder = new PacketBuilder().ethernet(tags === 0 ? { type } : {});
    for (let tag = 1; tag <= tags; tag++) {
      builder.vlan(fuzz.below(4095), {
        tpid: fuzz.pick([ETHERTYPE.VLAN, ETHERTYPE.QINQ]),
        ...(tag === tags ? { type } : {}),
      });
    }
    builder.payload(packet);
    if (fuzz.chance(0.3)) builder.padTo(60);
    if (fuzz.chance(0.05)) builder.trailer([1, 2, 3]);
    return builder.build();
  }

  /** Some frame with bytes changed, cut off, or nothing but noise. */
  private broken(): Uint8Array {
    const { fuzz } = this;
    if (fuzz.chance(0.1)) return Uint8Array.from({ length: 14 + fuzz.below(200) }, () => fuzz.below(256));
    const frame = fuzz.pick([() => this.framed(this.packet(this.flow())), () => this.framed(this.tunnelled()), () => this.framed(this.error()), () => this.framed(this.echo()), () => this.fragment()])(); // prettier-ignore
    if (fuzz.chance(0.4)) return frame.slice(0, 14 + fuzz.below(frame.length - 13));
    for (let i = 1 + fuzz.below(3); i > 0; i--) {
      const at = fuzz.chance(0.8) ? 12 + fuzz.below(Math.min(70, frame.length - 12)) : fuzz.below(frame.length);
      frame[at] = fuzz.below(256);
    }
    return frame;
  }
}

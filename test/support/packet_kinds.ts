/** Random packets that are not plain, by the kind of thing that makes them so. */
import type { Random } from './cbpf_programs.js';
import { ETHERTYPE, PacketBuilder, TCP } from './packet_builder.js';
import { HOSTS4, HOSTS6, pick, PORTS, transport } from './rule_packets.js';

type Make = (random: Random) => PacketBuilder;

const ethernet = (): PacketBuilder => new PacketBuilder().ethernet();
const v4 = (random: Random, o: object = {}, builder = ethernet()): PacketBuilder =>
  builder.ipv4({ src: pick(random, HOSTS4), dst: pick(random, HOSTS4), ttl: pick(random, [1, 64, 255]), ...o });
const v6 = (random: Random, o: object = {}, builder = ethernet()): PacketBuilder =>
  builder.ipv6({ src: pick(random, HOSTS6), dst: pick(random, HOSTS6), hopLimit: pick(random, [1, 64, 255]), ...o });
const ip = (random: Random, builder: PacketBuilder): PacketBuilder =>
  random(2) === 0 ? transport(random, v4(random, {}, builder), 4) : transport(random, v6(random, {}, builder), 6);
const ports = (random: Random): Uint8Array => {
  const [sport, dport] = [pick(random, PORTS), pick(random, PORTS)];
  return Uint8Array.of(sport >> 8, sport & 255, dport >> 8, dport & 255, 0, 30, 0, 0, 1, 2, 3, 4);
};
const upper = (random: Random): number => pick(random, [6, 17, 17, 1, 47, 58]);
const extended = (random: Random, count: number, builder = v6(random)): PacketBuilder => {
  for (let i = 0; i < count; i++)
    builder.extension(pick(random, [0, 43, 60, 135, 139, 140]), new Uint8Array(random(3) === 0 ? 14 : 6));
  return builder;
};

/** What the kernel's program takes. */
export const TAKEN: Readonly<Record<string, Make>> = {
  'one tag': (random) => ip(random, ethernet().vlan(5, { tpid: pick(random, [ETHERTYPE.VLAN, ETHERTYPE.QINQ]) })),
  'two tags': (random) =>
    ip(
      random,
      ethernet()
        .vlan(5, { tpid: ETHERTYPE.QINQ })
        .vlan(pick(random, [5, 6])),
    ),
  'tagged IPv4 fragment': (random) =>
    v4(random, { fragmentOffset: 1 + random(200), protocol: upper(random) }, ethernet().vlan(5)).payload(ports(random)),
  'IPv4 options': (random) => transport(random, v4(random, { options: new Array(4 * (1 + random(10))).fill(1) }), 4),
  'first IPv4 fragment': (random) => transport(random, v4(random, { moreFragments: true }), 4),
  'later IPv4 fragment': (random) =>
    v4(random, { fragmentOffset: 1 + random(300), moreFragments: random(2) === 0, protocol: upper(random) }).payload(
      ports(random),
    ),
  ICMP: (random) =>
    v4(random)
      .icmp({ type: pick(random, [0, 3, 8]) })
      .payload(random(30)),
  'ICMPv6 over IPv4': (random) => v4(random, { protocol: 58 }).payload(8 + random(8)),
  ICMPv6: (random) =>
    v6(random)
      .icmp6({ type: pick(random, [1, 128, 129, 132, 138]) })
      .payload(random(30)),
  GRE: (random) => v4(random, { protocol: 47 }).payload(random(30)),
  'GRE over IPv6': (random) => v6(random, { nextHeader: 47 }).payload(random(30)),
  ESP: (random) => (random(2) ? v4(random, { protocol: 50 }) : v6(random, { nextHeader: 50 })).payload(random(30)),
  'SCTP, DCCP or UDP-Lite': (random) => {
    const protocol = pick(random, [132, 33, 136]);
    const builder = random(2) ? v4(random, { protocol }) : v6(random, { nextHeader: protocol });
    return builder.payload(ports(random).slice(0, random(4) === 0 ? random(12) : 12));
  },
  'no next header': (random) => v6(random, { nextHeader: 59 }).payload(random(20)),
  'an extension header': (random) => transport(random, extended(random, 1), 6),
  'authentication header': (random) => transport(random, v6(random).extension(51, new Uint8Array(14), 2), 6),
  'eight extension headers': (random) => transport(random, extended(random, 8), 6),
  'tagged extension header': (random) => transport(random, extended(random, 1, v6(random, {}, ethernet().vlan(5))), 6),
  'atomic fragment': (random) => transport(random, v6(random).fragment(), 6),
  'first IPv6 fragment': (random) => transport(random, extended(random, random(2)).fragment({ more: true }), 6),
  'extension header behind a fragment header': (random) =>
    transport(random, v6(random).fragment({ more: true }).extension(60), 6),
  'later IPv6 fragment': (random) =>
    extended(random, random(3))
      .fragment({ offset: 1 + random(100), more: random(2) === 0 })
      .udp()
      .payload(random(30)),
  'not IP': (random) => new PacketBuilder().ethernet({ type: pick(random, [0x6003, 0x88b5]) }).payload(random(60)),
  'not IP, tagged': (random) => ethernet().vlan(5, { type: 0x88b5 }).payload(random(60)),
};

/** What it leaves, whatever the rules are. */
export const LEFT_ALONE: Readonly<Record<string, Make>> = {
  'three tags': (random) => ip(random, ethernet().vlan(5).vlan(6).vlan(7)),
  'nine extension headers': (random) => transport(random, extended(random, 9), 6),
  'two fragment headers': (random) => transport(random, v6(random).fragment().fragment({ more: true }), 6),
  'neighbour discovery': (random) =>
    v6(random, { hopLimit: 255 })
      .icmp6({ type: 133 + random(5) })
      .payload(16),
  ARP: () => new PacketBuilder().ethernet({ type: ETHERTYPE.ARP }).payload(28),
  'IEEE 802.3': () => new PacketBuilder().ethernet({ type: 60 }).payload(60),
  'short TCP header': (random) => v4(random, { moreFragments: true, protocol: 6 }).payload(19),
  'short ICMP header': (random) => v4(random, { protocol: 1 }).payload(7),
  'long TCP header': (random) => v4(random, { moreFragments: true }).tcp({ flags: TCP.SYN, dataOffset: 15 }),
  'long UDP, tagged': (random) => v4(random, {}, ethernet().vlan(5)).udp({ length: 100 }).payload(20),
  'options beyond the packet': (random) => v4(random, { ihl: 15, totalLength: 40 }).payload(40),
};

/** What a sanity check objects to, by its name. */
export const OBJECTED: Readonly<Record<string, Make>> = {
  'ping-of-death': (random) =>
    random(2) === 0
      ? v4(random, { fragmentOffset: 8191 }).payload(40)
      : extended(random, random(3)).fragment({ offset: 8191 }).udp().payload(40),
  'tiny-fragment': (random) => v4(random, { fragmentOffset: 1, protocol: 6 }).payload(30),
  'ipv4-options': (random) => transport(random, v4(random, { options: [1, 1, 1, 1] }), 4),
  'ipv4-checksum': (random) => v4(random, { options: [1, 2, 3, 4, 5], checksum: 5, protocol: 47 }).payload(30),
  land: () => ethernet().vlan(5).ipv4({ src: '192.0.2.1', dst: '192.0.2.1' }).icmp(),
  source: () => ethernet().ipv6({ src: '::1' }).icmp6(),
  'tcp-flags': (random) => v4(random, { moreFragments: true }).tcp({ sport: 5, dport: 6, flags: 0 }),
  'port-zero': (random) => v4(random, { protocol: 132 }).payload([0, 5, 0, 0, 1, 2, 3, 4, 5]),
};

/** A frame; sometimes cut, padded, or with bytes changed: what it is, then nobody knows. */
export function spoilt(random: Random, frame: Uint8Array): Uint8Array {
  const kind = random(3);
  const length = kind === 0 ? random(frame.length + 1) : frame.length + (kind === 1 ? random(20) : 0);
  const spoilt = new Uint8Array(Math.max(14, length));
  spoilt.set(frame.subarray(0, length));
  for (let i = 0; kind === 2 && i < 3; i++) spoilt[12 + random(Math.min(60, spoilt.length - 12))] = random(256);
  return spoilt;
}

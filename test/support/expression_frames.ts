/** Frames of every kind that a primitive of pcap-filter(7) looks at, whole and damaged; always the same ones. */
import { PacketBuilder, PROTO, TCP, macBytes } from './packet_builder.js';
import { seeded } from './capture_bytes.js';

export interface Frame {
  readonly data: Uint8Array;
  /** Bytes on the wire; more than `data` has when the capture cut it. */
  readonly wireLength: number;
}

const PORTS = [0, 20, 22, 53, 69, 80, 123, 161, 179, 443, 1023, 1500, 2000, 5000, 8080, 65535];
const V4 = [
  '192.0.2.1',
  '198.51.100.1',
  '10.3.0.9',
  '127.0.0.1',
  '224.0.0.5',
  '255.255.255.255',
  '0.0.0.0',
  '192.0.2.17',
];
const V6 = ['2001:db8::1', '2001:db8:1::2', 'fe80::1', 'ff02::1', '::', '::ffff:192.0.2.1'];
const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02', 'ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:05', 'aa:00:04:00:02:04'];

const bytes = (...parts: (number | readonly number[] | Uint8Array)[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => (typeof part === 'number' ? [part] : [...part])));
const u16 = (value: number): number[] => [(value >> 8) & 255, value & 255];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value)];
const ethernet = (type: number, body: Uint8Array, dst = MACS[1]): Uint8Array =>
  bytes(macBytes(dst), macBytes(MACS[0]), u16(type), body);

/** What follows the Ethernet header, of IPv4 and IPv6 packets of all sorts, with the EtherType. */
function networkPackets(): { type: number; body: Uint8Array }[] {
  const made: { type: number; body: Uint8Array }[] = [];
  const add = (version: 4 | 6, builder: PacketBuilder): void => {
    made.push({ type: version === 4 ? 0x0800 : 0x86dd, body: builder.build() });
  };
  const four = (o = {}): PacketBuilder => new PacketBuilder().ipv4({ src: V4[0], dst: V4[1], ...o });
  const six = (o = {}): PacketBuilder => new PacketBuilder().ipv6({ src: V6[0], dst: V6[1], ...o });
  PORTS.forEach((port, i) => {
    const other = PORTS[(i * 7 + 3) % PORTS.length];
    const from = { src: V4[i % V4.length], dst: V4[(i * 3 + 1) % V4.length], ttl: 1 + i * 17 };
    const from6 = { src: V6[i % V6.length], dst: V6[(i * 5 + 1) % V6.length], hopLimit: 1 + i * 16 };
    add(
      4,
      four(from)
        .tcp({ sport: other, dport: port, flags: 1 << (i % 8) })
        .payload(i * 9),
    );
    add(
      4,
      four(from)
        .udp({ sport: port, dport: other })
        .payload(i * 40),
    );
    add(
      6,
      six(from6)
        .tcp({ sport: port, dport: other, flags: TCP.SYN | TCP.ACK })
        .payload('GET / HTTP/1.1'),
    );
    add(6, six(from6).udp({ sport: other, dport: port }).payload(i));
  });
  add(
    4,
    four({ options: [7, 7, 4, 0, 0, 0, 0, 0] })
      .tcp({ dport: 80, flags: TCP.SYN })
      .payload('GET /'),
  );
  add(4, four({ moreFragments: true }).udp({ dport: 53 }).payload(64));
  add(4, four({ fragmentOffset: 8, protocol: PROTO.UDP }).payload(64));
  add(4, four({ ihl: 15 }).tcp({ dport: 80 }).payload(2));
  add(4, four({ tos: 0xb8, dontFragment: true, id: 21 }).tcp({ sport: 179 }));
  for (const type of [0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17])
    add(
      4,
      four()
        .icmp({ type, code: type & 1 })
        .payload(20),
    );
  for (const type of [1, 2, 3, 4, 128, 129, 130, 134, 135, 136])
    add(6, six({ hopLimit: 255 }).icmp6({ type, code: 0 }).payload(8));
  for (const protocol of [0, 1, 2, 4, 9, 41, 43, 44, 46, 47, 50, 51, 58, 59, 60, 89, 103, 112, 132, 255]) {
    add(
      4,
      four({ protocol }).payload([0x16, 7, 0x13, 0x88, 1, 1, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80, 0, 53]),
    );
    add(6, six({ nextHeader: protocol }).payload([6, 0, 0x13, 0x88, 0, 53, 0, 0, 17, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
  }
  add(6, six().extension(PROTO.HOPOPTS).extension(PROTO.DSTOPTS).tcp({ dport: 443 }));
  add(6, six().extension(PROTO.ROUTING).udp({ dport: 53 }).payload(9));
  add(6, six().fragment({ more: true }).udp({ sport: 53 }).payload(24));
  add(6, six().fragment({ offset: 3 }).payload(24));
  // Authentication headers: one with a fragment behind it, then a row of them.
  add(
    4,
    four({ protocol: 51 }).payload(
      bytes(6, 4, u32(0), u32(1), u32(2), u16(1234), u16(80), new Array<number>(40).fill(0)),
    ),
  );
  add(
    6,
    six({ nextHeader: 51 }).payload(bytes(60, 4, new Array<number>(22).fill(0), 6, 0, new Array<number>(30).fill(0))),
  );
  add(4, four({ protocol: 4 }).ipv4({ src: V4[2], dst: V4[3] }).udp({ dport: 53 }));
  return made;
}

/** Tags and tunnels round a packet. */
function wrapped(type: number, body: Uint8Array): Uint8Array[] {
  const tag = (tpid: number, id: number, inner: number): number[] => [...u16(tpid), ...u16(id), ...u16(inner)];
  const label = (value: number, last: boolean): number[] => u32(((value << 12) | (last ? 0x100 : 0) | 64) >>> 0);
  const ppp = type === 0x0800 ? 0x21 : 0x57;
  const session = bytes(0x11, 0, u16(39), u16(body.length + 2), u16(ppp), body);
  const geneve = (protocol: number, vni: number, options: number[]): Uint8Array =>
    bytes(options.length / 4, 0, u16(protocol), vni >> 16, (vni >> 8) & 255, vni & 255, 0, options);
  const udp = (content: Uint8Array, version: 4 | 6): Uint8Array => {
    const outer =
      version === 4
        ? new PacketBuilder().ipv4({ src: V4[0], dst: V4[1] })
        : new PacketBuilder().ipv6({ src: V6[0], dst: V6[1] });
    return ethernet(version === 4 ? 0x0800 : 0x86dd, outer.udp({ sport: 4000, dport: 6081 }).payload(content).build());
  };
  const addresses = bytes(macBytes(MACS[1]), macBytes(MACS[0]));
  return [
    bytes(addresses, tag(0x8100, 7, type), body),
    bytes(addresses, tag(0x88a8, 7, 0x8100).slice(0, 4), tag(0x8100, 8, type), body),
    bytes(addresses, u16(0x9100), u16(300), u16(0x8100), u16(4095), u16(0x8100), u16(1), u16(type), body),
    bytes(addresses, tag(0x8100, 7, 0x8847), label(16, false), label(17, true), body),
    ethernet(0x8847, bytes(label(16, true), body)),
    ethernet(0x8848, bytes(label(100000, false), label(1024, false), label(3, true), body)),
    ethernet(0x8864, session),
    bytes(addresses, tag(0x8100, 7, 0x8864), session),
    udp(bytes(geneve(0x6558, 11, []), ethernet(type, body, MACS[0])), 4),
    udp(bytes(geneve(type, 11, [0, 1, 2, 1, 9, 9, 9, 9]), body), 6),
    udp(bytes(geneve(0x6558, 5, []), addresses, tag(0x8100, 7, type), body), 4),
  ];
}

function linkFrames(): Uint8Array[] {
  const llc = (...head: number[]): Uint8Array => ethernet(46, bytes(head, new Array<number>(43).fill(1)));
  const arp = (operation: number): Uint8Array =>
    bytes(
      u16(1),
      u16(0x800),
      6,
      4,
      u16(operation),
      macBytes(MACS[0]),
      [192, 0, 2, 1],
      macBytes(MACS[1]),
      [198, 51, 100, 1],
    );
  const types = [
    0x809b, 0x80f3, 0x6003, 0x6004, 0x6001, 0x6002, 0x6007, 0x8137, 0x88cc, 0x9000, 0x8863, 0x0200, 1500, 1501,
  ];
  return [
    ...[1, 2].map((operation) => ethernet(0x0806, arp(operation), MACS[operation])),
    ...[3, 4].map((operation) => ethernet(0x8035, arp(operation))),
    ...types.map((type) =>
      ethernet(type, bytes([6, 0, 2, 4, 2, 4, 0x0a, 0x3c], new Array<number>(40).fill(2)), MACS[type % 5]),
    ),
    ...[0x06, 0x15, 0x16, 0x26, 0x0e].map((flags) =>
      ethernet(
        0x6003,
        bytes(u16(20), flags, [0, 0, 0xaa, 0, 4, 0, 2, 4, 0, 0, 0xaa, 0, 4, 0, 2, 4], new Array<number>(20).fill(0)),
      ),
    ),
    llc(0x42, 0x42, 3, 0, 0, 0, 0),
    llc(0xf0, 0xf0, 3),
    llc(0xe0, 0xe0, 3),
    llc(0xff, 0xff, 0, 0),
    llc(0xaa, 0xaa, 3, 0, 0, 0, 0x80, 0x9b),
    llc(0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b),
    llc(0xaa, 0xaa, 3, 0, 0, 0, 8, 0),
    ...[0, 1, 5, 9, 0x6f, 0x7f, 0xaf, 0xbf, 0x0f, 0x43, 0x63, 0x87, 0xe3].map((control) => llc(4, 4, control, 0)),
    ...[0x81, 0x82, 0x83].flatMap((pdu) =>
      [15, 16, 17, 18, 20, 24, 25, 26, 27].map((type) => llc(0xfe, 0xfe, 3, pdu, 27, 1, 0, type)),
    ),
  ];
}

/** Some 1,200 frames. */
export function expressionFrames(): Frame[] {
  const random = seeded(7);
  const packets = networkPackets();
  const whole = [
    ...linkFrames(),
    ...packets.map(({ type, body }, i) => ethernet(type, body, MACS[i % MACS.length])),
    ...packets.filter((_, i) => i % 6 === 0).flatMap(({ type, body }) => wrapped(type, body)),
  ];
  const frames: Frame[] = whole.map((data) => ({ data, wireLength: data.length }));
  for (const data of whole.filter((_, i) => i % 2 === 0)) {
    // As a small snaplen leaves it, and as it is when the wire itself was short.
    const kept = random(data.length + 1);
    frames.push({ data: data.subarray(0, kept), wireLength: random(2) === 0 ? data.length : kept });
    const changed = Uint8Array.from(data);
    for (let flips = 1 + random(6); flips > 0; flips--) changed[random(Math.min(80, changed.length))] = random(256);
    frames.push({ data: changed, wireLength: changed.length + random(3) });
  }
  for (let i = 0; i < 60; i++) {
    const data = Uint8Array.from({ length: random(90) }, () => random(256));
    frames.push({ data, wireLength: data.length });
  }
  for (const length of [0, 1, 60, 64, 65, 128, 1500, 1514])
    frames.push({ data: new Uint8Array(length), wireLength: length });
  return frames;
}

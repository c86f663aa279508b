/** bpf/redirect.bpf.c under BPF_PROG_TEST_RUN: no interface, no socket, so what is for user space takes the fallback. */
import { describe, expect, it } from 'vitest';
import { MatchAll, type RedirectStat } from '../../src/control/bpf_layout.js';
import { randomSource, Redirect, truncations, XDP } from '../support/bpf.js';
import { loadWithoutPerfmon } from '../support/loading.js';
import { ETHERTYPE, PacketBuilder, PROTO } from '../support/packet_builder.js';

const VIP4 = '203.0.113.10';
const VIP6 = '2001:db8:cafe::10';
const eth = (): PacketBuilder => new PacketBuilder().ethernet();
const to4 = (dst: string): PacketBuilder => eth().ipv4({ src: '198.51.100.1', dst });
const to6 = (dst: string): PacketBuilder => eth().ipv6({ src: '2001:db8::1', dst });

type Moved = Partial<Record<RedirectStat, number>>;
/** Matched a VIP and found no socket. */
const VIP: Moved = { seen: 1, pass: 1, no_socket: 1 };
const HOST: Moved = { seen: 1, pass: 1 };
const NOT_IP: Moved = { seen: 1, pass: 1, not_ip: 1 };
const MALFORMED: Moved = { seen: 1, pass: 1, malformed: 1 };

/** Neighbour solicitation for `target`, as a neighbour probes an address that it knows. */
const solicitation = (dst: string, hopLimit = 255): PacketBuilder =>
  eth().ipv6({ src: '2001:db8::1', dst, hopLimit }).icmp6({ type: 135 }).payload(20);

const CASES: [string, PacketBuilder, Moved][] = [
  ['TCP to an IPv4 VIP', to4(VIP4).tcp(), VIP],
  ['UDP to an IPv4 VIP', to4(VIP4).udp(), VIP],
  ['ping to an IPv4 VIP', to4(VIP4).icmp(), VIP],
  ['a protocol that nobody knows, to a VIP', to4(VIP4).payload(3), VIP],
  ['TCP to an IPv6 VIP', to6(VIP6).tcp(), VIP],
  ['extension headers in front', to6(VIP6).extension(PROTO.HOPOPTS).extension(PROTO.DSTOPTS).udp(), VIP],
  ['IPv6 without payload', to6(VIP6), VIP],
  [
    'IPv4 options',
    eth()
      .ipv4({ dst: VIP4, options: [7, 7, 4, 0, 0, 0, 0] })
      .tcp(),
    VIP,
  ],
  ['sixty bytes of IPv4 header', eth().ipv4({ dst: VIP4, options: new Uint8Array(40).fill(1) }), VIP],
  ['one VLAN tag', new PacketBuilder().ethernet().vlan(7).ipv4({ dst: VIP4 }).tcp(), VIP],
  ['two VLAN tags', eth().vlan(1, { tpid: ETHERTYPE.QINQ }).vlan(2).ipv6({ dst: VIP6 }).tcp(), VIP],
  ['first fragment', eth().ipv4({ dst: VIP4, moreFragments: true }).udp().payload(8), VIP],
  ['later fragment', eth().ipv4({ dst: VIP4, fragmentOffset: 185, protocol: 17 }).payload(64), VIP],
  ['IPv6 later fragment', to6(VIP6).fragment({ offset: 100 }).payload(16), VIP],
  ['a total length that lies: for user space to say', eth().ipv4({ dst: VIP4, totalLength: 9000 }).tcp(), VIP],
  ['options that do not fit: for user space to say', eth().ipv4({ dst: VIP4, ihl: 15 }).payload(8), VIP],
  ['a wrong checksum: for user space to say', eth().ipv4({ dst: VIP4, checksum: 1 }).tcp(), VIP],
  ['IP in IP to a VIP', eth().ipip({ src: '192.0.2.9', dst: VIP4 }).ipv4().udp(), VIP],
  ['ICMPv6 that is no neighbour discovery', to6(VIP6).icmp6({ type: 128 }), VIP],
  ['neighbour discovery that came through a router', solicitation(VIP6, 254), VIP],
  ['neighbour solicitation to a VIP', solicitation(VIP6), HOST],
  ['another IPv4 address', to4('203.0.113.11').tcp(), HOST],
  ['another IPv6 address', to6('2001:db8:cafe::11').tcp(), HOST],
  ['a VIP as source only', eth().ipv4({ src: VIP4, dst: '198.51.100.1' }).tcp(), HOST],
  [
    'a VIP inside a tunnel to another address',
    eth().ipip({ src: '192.0.2.9', dst: '192.0.2.1' }).ipv4({ dst: VIP4 }),
    HOST,
  ],
  ['the IPv4 VIP written as an IPv6 address', to6(`::ffff:${VIP4}`).tcp(), MALFORMED],
  ['ARP', new PacketBuilder().ethernet({ type: ETHERTYPE.ARP }).payload(28).padTo(60), NOT_IP],
  ['a third VLAN tag', eth().vlan(1).vlan(2).vlan(3).ipv4({ dst: VIP4 }).tcp(), NOT_IP],
  ['an EtherType of IPv4 with version 6', eth().ipv4({ dst: VIP4, version: 6 }).tcp(), MALFORMED],
  ['an EtherType of IPv6 with version 4', eth().ipv6({ dst: VIP6, version: 4 }).tcp(), MALFORMED],
  ['an IPv4 header shorter than 20 bytes', eth().ipv4({ dst: VIP4, ihl: 4 }).tcp(), MALFORMED],
];

describe('redirect with match_all = 0', () => {
  it.each(CASES)('%s', (_name, packet, moved) => {
    using redirect = new Redirect({}, [VIP4, VIP6]);
    const frame = packet.build();
    expect(redirect.counted(() => expect(redirect.run(frame).retval).toBe(XDP.PASS))).toEqual(moved);
  });

  it('leaves the frame as it was', () => {
    using redirect = new Redirect({}, [VIP4, VIP6]);
    for (const [name, packet] of CASES) {
      const frame = packet.build();
      expect(Buffer.from(redirect.run(frame).data), name).toEqual(Buffer.from(frame));
    }
  });

  it('drops instead when it is told to fail closed, and only what was for user space', () => {
    using redirect = new Redirect({ fallback_action: XDP.DROP }, [VIP4]);
    const moved = redirect.counted(() => {
      expect(redirect.run(to4(VIP4).tcp().build()).retval).toBe(XDP.DROP);
      expect(redirect.run(to4('203.0.113.11').tcp().build()).retval).toBe(XDP.PASS);
      expect(redirect.run(eth().payload(46).build()).retval).toBe(XDP.PASS);
    });
    expect(moved).toEqual({ seen: 3, drop: 1, pass: 2, no_socket: 1, not_ip: 1 });
  });

  it.each([0, 3, 4, 5, 0xffffffff])('takes fallback_action %d for XDP_PASS', (fallback_action) => {
    using redirect = new Redirect({ fallback_action }, [VIP4]);
    expect(redirect.run(to4(VIP4).tcp().build()).retval).toBe(XDP.PASS);
    expect(redirect.stats()).toEqual(VIP);
  });

  it('matches prefixes, keeps the families apart, and forgets what is removed', () => {
    using redirect = new Redirect({}, ['203.0.113.0/25', '2001:db8:cafe::/64']);
    const hits = (packet: PacketBuilder): boolean =>
      redirect.counted(() => redirect.run(packet.build())).no_socket === 1;
    expect(hits(to4('203.0.113.127').udp())).toBe(true);
    expect(hits(to4('203.0.113.128').udp())).toBe(false);
    expect(hits(to6('2001:db8:cafe:0:ffff::').udp())).toBe(true);
    expect(hits(to6('2001:db8:cafe:1::').udp())).toBe(false);

    redirect.addVip('203.0.113.192/32');
    expect(hits(to4('203.0.113.192').udp())).toBe(true);
    expect(redirect.removeVip('203.0.113.0/25')).toBe(true);
    expect(hits(to4('203.0.113.1').udp())).toBe(false);
    expect(hits(to4('203.0.113.192').udp())).toBe(true);

    redirect.addVip('0.0.0.0/0');
    expect(hits(to4('8.8.8.8').udp())).toBe(true);
    expect(hits(to6('2001:db8::2').udp())).toBe(false);
  });
});

describe('redirect with match_all = 1', () => {
  it.each<[string, PacketBuilder, Moved]>([
    ['any IPv4', to4('192.0.2.77').tcp(), VIP],
    ['any IPv6', to6('2001:db8::77').tcp(), VIP],
    ['an EtherType that it does not know', eth().vlan(1, { type: 0x9999 }).payload(46), { ...NOT_IP, no_socket: 1 }],
    ['a malformed frame', to4(VIP4).tcp().payload(0), VIP],
    ['IPv4 with version 6', eth().ipv4({ version: 6 }), { ...MALFORMED, no_socket: 1 }],
    ['but not ARP', new PacketBuilder().ethernet({ type: ETHERTYPE.ARP }).payload(46), NOT_IP],
    ['but not LLDP', new PacketBuilder().ethernet({ type: ETHERTYPE.LLDP }).payload(46), NOT_IP],
    ['but not LACP', new PacketBuilder().ethernet({ type: 0x8809 }).payload(46), NOT_IP],
    ['but not spanning tree', new PacketBuilder().ethernet({ type: 38 }).payload(46), NOT_IP],
    ['but not tagged ARP', eth().vlan(5, { type: ETHERTYPE.ARP }).payload(46), NOT_IP],
    ['but not neighbour discovery', solicitation('ff02::1:ff00:10'), HOST],
  ])('%s', (_name, packet, moved) => {
    using redirect = new Redirect({ match_all: MatchAll.traffic });
    expect(redirect.counted(() => redirect.run(packet.build()))).toEqual(moved);
  });
});

describe('redirect with match_all = 2', () => {
  it.each<[string, PacketBuilder]>([
    ['ARP', new PacketBuilder().ethernet({ type: ETHERTYPE.ARP }).payload(46)],
    ['neighbour discovery', solicitation(VIP6)],
    ['an Ethernet header alone', eth()],
    ['IPv4 with version 6', eth().ipv4({ version: 6 })],
  ])('takes %s', (_name, packet) => {
    using redirect = new Redirect({ match_all: MatchAll.everything });
    expect(redirect.counted(() => redirect.run(packet.build()))).toEqual(VIP);
  });
});

describe('redirect on broken frames', () => {
  it('passes every truncation, as malformed until the address can be read', () => {
    using redirect = new Redirect({ fallback_action: XDP.DROP }, [VIP4, VIP6]);
    // Bytes from which on the destination is known: Ethernet, two tags, base header (options are not looked at).
    for (const [packet, readable] of [
      [
        eth()
          .vlan(1, { tpid: ETHERTYPE.QINQ })
          .vlan(2)
          .ipv4({ dst: VIP4, options: [1, 1, 1] })
          .tcp(),
        22 + 20,
      ],
      [eth().vlan(1).ipv6({ dst: VIP6 }).udp().payload(4), 18 + 40],
    ] as const) {
      for (const frame of truncations(packet.build())) {
        const moved = redirect.counted(() => redirect.run(frame));
        const expected = frame.length < readable ? MALFORMED : { seen: 1, drop: 1, no_socket: 1 };
        expect(moved, `${frame.length} bytes`).toEqual(expected);
      }
    }
  });

  it('keeps seen = aborted + drop + pass + tx + redirect over random bytes', () => {
    const seed = 20260727;
    const random = randomSource(seed);
    using redirect = new Redirect({ fallback_action: XDP.DROP }, [VIP4, VIP6, '0.0.0.0/1', '8000::/1']);
    const types = [0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806, 0x0100];
    const runs = 5000;
    for (let i = 0; i < runs; i++) {
      const frame = Uint8Array.from({ length: 14 + (random() % 120) }, () => random());
      const at = random() % 3;
      const type = types[random() % types.length];
      for (let tag = 0; tag <= at && 14 + 4 * tag <= frame.length; tag++) {
        const value = tag === at ? type : 0x8100;
        frame[12 + 4 * tag] = value >> 8;
        frame[13 + 4 * tag] = value & 0xff;
      }
      // Half of them look like IP from the first nibble on.
      const version = 14 + 4 * at;
      if (version < frame.length && (i & 1) === 0) frame[version] = type === 0x0800 ? 0x40 | (random() & 15) : 0x60;
      const { retval, data } = redirect.run(frame);
      expect([XDP.DROP, XDP.PASS], `seed ${seed}, run ${i}`).toContain(retval);
      expect(Buffer.compare(data, frame), `seed ${seed}, run ${i}`).toBe(0);
    }
    const { seen = 0, pass = 0, drop = 0, no_socket = 0, not_ip = 0, malformed = 0, ...others } = redirect.stats();
    expect(others).toEqual({});
    expect(seen).toBe(runs);
    expect(seen).toBe(pass + drop);
    expect(no_socket).toBe(drop);
    // The frames were mixed enough to reach every branch.
    expect(Math.min(drop, not_ip, malformed)).toBeGreaterThan(100);
  });
});

describe('what it takes to load redirect', () => {
  it('is CAP_BPF and CAP_NET_ADMIN, nothing that lets programs look into the kernel (CAP_PERFMON)', () => {
    expect(loadWithoutPerfmon('redirect')).toEqual({ programs: 'sluice_redirect', error: '' });
  });
});

/** bpf/decap.bpf.c under BPF_PROG_TEST_RUN: what goes in, byte for byte what comes out, and which counter moves. */
import { describe, expect, it } from 'vitest';
import type { DecapStat } from '../../src/control/bpf_layout.js';
import { Decap, randomSource, truncations, XDP } from '../support/bpf.js';
import { ETHERTYPE, PacketBuilder, PROTO } from '../support/packet_builder.js';

const LB4 = '192.0.2.1';
const LB6 = '2001:db8:1::1';
const ME4 = '192.0.2.80';
const ME6 = '2001:db8:1::80';
const VIP4 = '203.0.113.10';
const VIP6 = '2001:db8:cafe::10';

const program = (): Decap => new Decap([ME4, ME6], ['192.0.2.0/28', '2001:db8:1::/120']);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

type Chain = (builder: PacketBuilder) => PacketBuilder;
const OUTER: Record<4 | 6, Chain> = {
  4: (b) => b.ipip({ src: LB4, dst: ME4 }),
  6: (b) => b.ipip({ src: LB6, dst: ME6 }),
};
const INNER: Record<4 | 6, Chain> = {
  4: (b) => b.ipv4({ src: '198.51.100.7', dst: VIP4, tos: 0x2e, id: 77 }).tcp({ sport: 4242 }).payload('GET /'),
  6: (b) => b.ipv6({ src: '2001:db8:9::7', dst: VIP6, trafficClass: 0x2e, flowLabel: 0xabcde }).udp().payload('query'),
};
const TAGS: [string, Chain][] = [
  ['untagged', (b) => b],
  ['one tag', (b) => b.vlan(100, { priority: 3 })],
  ['two tags', (b) => b.vlan(200, { tpid: ETHERTYPE.QINQ }).vlan(100)],
];

const outer4 = (options: Parameters<PacketBuilder['ipv4']>[0] = {}): PacketBuilder =>
  new PacketBuilder().ethernet().ipv4({ src: LB4, dst: ME4, ...options });
const outer6 = (options: Parameters<PacketBuilder['ipv6']>[0] = {}): PacketBuilder =>
  new PacketBuilder().ethernet().ipv6({ src: LB6, dst: ME6, ...options });

describe('decap takes the outer header off', () => {
  for (const outer of [4, 6] as const) {
    for (const inner of [4, 6] as const) {
      it.each(TAGS)(`${inner}in${outer}, %s`, (_name, tags) => {
        using decap = program();
        const wrapped = INNER[inner](OUTER[outer](tags(new PacketBuilder().ethernet()))).build();
        const bare = INNER[inner](tags(new PacketBuilder().ethernet())).build();
        let result = { retval: -1, data: new Uint8Array() };
        const moved = decap.counted(() => (result = decap.run(wrapped) as typeof result));
        expect(hex(result.data)).toBe(hex(bare));
        expect(result.retval).toBe(XDP.PASS);
        expect(moved).toEqual({ seen: 1, [`decap_${inner}in${outer}`]: 1 });
      });
    }
  }

  it('keeps bytes after the outer packet, which the stack trims', () => {
    using decap = program();
    const wrapped = INNER[4](outer4()).trailer([1, 2, 3, 4]).build();
    const bare = INNER[4](new PacketBuilder().ethernet()).trailer([1, 2, 3, 4]).build();
    expect(hex(decap.run(wrapped).data)).toBe(hex(bare));
  });

  it('takes off one header, not two', () => {
    using decap = program();
    const wrapped = INNER[4](OUTER[4](outer4())).build();
    expect(hex(decap.run(wrapped).data)).toBe(hex(INNER[4](outer4()).build()));
  });

  it('takes an inner header with options, and a smaller inner packet than the outer one has room for', () => {
    using decap = program();
    const inner: Chain = (b) => b.ipv4({ dst: VIP4, options: [1, 1, 1, 1] }).icmp();
    const result = decap.run(inner(outer4()).payload([0, 0]).build());
    expect(hex(result.data)).toBe(hex(inner(new PacketBuilder().ethernet()).payload([0, 0]).build()));
    expect(decap.stats().decap_4in4).toBe(1);
  });
});

const UNTOUCHED: [string, PacketBuilder][] = [
  ['plain TCP to our address', outer4().tcp()],
  ['IP in IP for another IPv4 address', INNER[4](outer4({ dst: '192.0.2.81' }))],
  ['IP in IP for another IPv6 address', INNER[6](outer6({ dst: '2001:db8:1::81' }))],
  [
    'ICMP that quotes a tunnel packet',
    outer4()
      .icmp({ type: 3 })
      .quote(INNER[4](new PacketBuilder().ipv4({ dst: ME4 })).build()),
  ],
  ['ARP', new PacketBuilder().ethernet({ type: ETHERTYPE.ARP }).payload(46)],
  ['three VLAN tags', INNER[4](OUTER[4](new PacketBuilder().ethernet().vlan(1).vlan(2).vlan(3)))],
  ['IPv6 with an extension header and UDP', outer6().extension(PROTO.HOPOPTS).udp()],
  ['a fragment of UDP', outer6().fragment({ more: true }).udp().payload(8)],
  ['GRE', outer4({ protocol: 47 }).payload(40)],
  ['an EtherType of IPv4 with version 6', INNER[4](outer4({ version: 6 }))],
  ['our IPv4 address written as an IPv6 destination', INNER[4](outer6({ dst: `::ffff:${ME4}` }))],
];

const DROPPED: [string, DecapStat, PacketBuilder][] = [
  ['IPv4 source not allowed', 'drop_source', INNER[4](outer4({ src: '192.0.2.16' }))],
  ['IPv6 source not allowed', 'drop_source', INNER[6](outer6({ src: '2001:db8:1::100' }))],
  ['an allowed IPv4 source written as IPv6', 'drop_source', INNER[4](outer6({ src: `::ffff:${LB4}` }))],
  [
    'source not allowed comes before every other fault',
    'drop_source',
    INNER[4](outer4({ src: '10.0.0.1', moreFragments: true })),
  ],
  ['outer IPv4 options', 'drop_malformed', INNER[4](outer4({ options: [1, 1, 1, 1] }))],
  ['outer IPv4 header shorter than 20 bytes', 'drop_malformed', INNER[4](outer4({ ihl: 4 }))],
  ['outer checksum wrong', 'drop_malformed', INNER[4](outer4({ checksum: 0x1234 }))],
  ['outer total length beyond the frame', 'drop_malformed', INNER[4](outer4({ totalLength: 2000 }))],
  ['outer total length of nothing', 'drop_malformed', INNER[4](outer4({ totalLength: 19 }))],
  ['outer first fragment', 'drop_fragment', INNER[4](outer4({ moreFragments: true }))],
  ['outer later fragment', 'drop_fragment', INNER[4](outer4({ fragmentOffset: 1 }))],
  ['outer IPv6 fragment', 'drop_fragment', INNER[6](outer6().fragment({ more: true }))],
  ['outer IPv6 atomic fragment', 'drop_fragment', INNER[4](outer6().fragment())],
  ['outer IPv6 options', 'drop_malformed', INNER[6](outer6().extension(PROTO.DSTOPTS))],
  ['outer payload length beyond the frame', 'drop_malformed', INNER[6](outer6({ payloadLength: 1000 }))],
  ['outer payload length 0', 'drop_malformed', INNER[6](outer6({ payloadLength: 0 }))],
  ['protocol 4 with IPv6 inside', 'drop_malformed', INNER[6](outer4({ protocol: PROTO.IPIP }))],
  ['protocol 41 with IPv4 inside', 'drop_malformed', INNER[4](outer4({ protocol: PROTO.IPV6 }))],
  ['next header 4 with IPv6 inside', 'drop_malformed', INNER[6](outer6({ nextHeader: PROTO.IPIP }))],
  ['next header 41 with IPv4 inside', 'drop_malformed', INNER[4](outer6({ nextHeader: PROTO.IPV6 }))],
  ['inner IPv4 header of version 6', 'drop_malformed', outer4().ipv4({ version: 6 }).tcp()],
  ['inner IPv6 header of version 4', 'drop_malformed', outer6().ipv6({ version: 4 }).udp()],
  ['inner header length 4', 'drop_malformed', outer4().ipv4({ ihl: 4 }).tcp()],
  ['inner total length below its header', 'drop_malformed', outer4().ipv4({ totalLength: 19 }).tcp()],
  ['inner total length beyond the outer packet', 'drop_malformed', outer4().ipv4({ totalLength: 41 }).tcp()],
  [
    'inner total length covered by the trailer only',
    'drop_malformed',
    outer4().ipv4({ totalLength: 24 }).trailer(new Uint8Array(9)),
  ],
  ['inner payload length beyond the outer packet', 'drop_malformed', outer6().ipv6({ payloadLength: 9 }).udp()],
  ['nothing inside', 'drop_malformed', outer4({ protocol: PROTO.IPIP })],
];

describe('decap leaves alone what is not a tunnel packet for it', () => {
  it.each(UNTOUCHED)('%s', (_name, packet) => {
    using decap = program();
    const frame = packet.build();
    const moved = decap.counted(() => {
      const result = decap.run(frame);
      expect(result.retval).toBe(XDP.PASS);
      expect(hex(result.data)).toBe(hex(frame));
    });
    expect(moved).toEqual({ seen: 1, passed_other: 1 });
  });
});

describe('decap drops and says why', () => {
  it.each(DROPPED)('%s: %s', (_name, reason, packet) => {
    using decap = program();
    const frame = packet.build();
    const moved = decap.counted(() => expect(decap.run(frame).retval).toBe(XDP.DROP));
    expect(moved).toEqual({ seen: 1, [reason]: 1 });
  });

  it('lets nobody in while no source is listed', () => {
    using decap = new Decap([ME4], []);
    decap.run(INNER[4](outer4()).build());
    expect(decap.stats()).toEqual({ seen: 1, drop_source: 1 });
  });
});

describe('decap on broken frames', () => {
  it('never lets a truncated tunnel packet in', () => {
    using decap = program();
    for (const outer of [4, 6] as const) {
      for (const inner of [4, 6] as const) {
        const tagged = OUTER[outer](new PacketBuilder().ethernet().vlan(9));
        const readable = 18 + (outer === 4 ? 20 : 40);
        for (const frame of truncations(INNER[inner](tagged).build())) {
          const expected = frame.length < readable ? 'passed_other' : 'drop_malformed';
          const moved = decap.counted(() => decap.run(frame));
          expect(moved, `${inner}in${outer}, ${frame.length} bytes`).toEqual({ seen: 1, [expected]: 1 });
        }
      }
    }
  });

  it('counts each of thousands of corrupted packets exactly once, and passes them whole or not at all', () => {
    const seed = 20260728;
    const random = randomSource(seed);
    using decap = program();
    const models = ([4, 6] as const).flatMap((outer) =>
      ([4, 6] as const).map((inner) => INNER[inner](OUTER[outer](new PacketBuilder().ethernet())).build()),
    );
    const runs = 5000;
    for (let i = 0; i < runs; i++) {
      const frame = models[random() % models.length].slice();
      for (let hits = random() % 3; hits >= 0; hits--) frame[12 + (random() % (frame.length - 12))] = random();
      const { retval, data } = decap.run(frame);
      const from = `seed ${seed}, run ${i}`;
      if (retval === XDP.PASS) expect([0, 20, 40], from).toContain(frame.length - data.length);
      else expect(retval, from).toBe(XDP.DROP);
    }
    const stats = decap.stats();
    expect(stats.seen).toBe(runs);
    const { seen: _seen, ...kinds } = stats;
    expect(Object.values(kinds).reduce((sum, count) => sum + count, 0)).toBe(runs);
    expect(stats.drop_malformed).toBeGreaterThan(100);
    expect(stats.decap_4in4).toBeGreaterThan(100);
  });
});

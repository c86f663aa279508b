/** GUE through bpf/decap.bpf.c under BPF_PROG_TEST_RUN: what is taken off, and what is refused under which name. */
import { describe, expect, it } from 'vitest';
import type { DecapStat } from '../../src/control/bpf_layout.js';
import { Decap, randomSource, truncations, XDP } from '../support/bpf.js';
import { gue0, GUE_PORT, type Gue0Options } from '../support/gue.js';
import { ETHERTYPE, PacketBuilder, PROTO, type UdpOptions } from '../support/packet_builder.js';

const LB = { 4: '192.0.2.1', 6: '2001:db8:1::1' } as const;
const ME = { 4: '192.0.2.80', 6: '2001:db8:1::80' } as const;
const VIP = { 4: '203.0.113.10', 6: '2001:db8:cafe::10' } as const;
const HOPS = { 4: ['192.0.2.81', '192.0.2.82'], 6: ['2001:db8:1::81', '2001:db8:1::82'] } as const;
const FAMILIES = [4, 6] as const;
type Family = 4 | 6;

const program = (settings = {}): Decap => new Decap(Object.values(ME), ['192.0.2.0/28', '2001:db8:1::/120'], settings);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

type Chain = (builder: PacketBuilder) => PacketBuilder;
const INNER: Record<Family, Chain> = {
  4: (b) => b.ipv4({ src: '198.51.100.7', dst: VIP[4], tos: 0x2e, id: 77 }).udp({ sport: 4242 }).payload('odd'),
  6: (b) =>
    b.ipv6({ src: '2001:db8:9::7', dst: VIP[6], trafficClass: 0x2e, flowLabel: 0xabcde }).udp().payload('query'),
};
const inner = (family: Family): Uint8Array => INNER[family](new PacketBuilder()).build();

const outer = (family: Family, udp: UdpOptions = {}, tags: Chain = (b) => b): PacketBuilder =>
  tags(new PacketBuilder().ethernet())
    .ipip({ src: LB[family], dst: ME[family] })
    .udp({ sport: 0xbeef, dport: GUE_PORT, ...udp });

/** A frame with GUE of each variant inside. */
const WRAP: Record<'gue0' | 'gue1' | 'a chain', (o: Family, i: Family, udp?: UdpOptions, tags?: Chain) => Uint8Array> =
  {
    gue0: (o, i, udp, tags) =>
      outer(o, udp, tags)
        .payload(gue0(inner(i)))
        .build(),
    gue1: (o, i, udp, tags) => outer(o, udp, tags).payload(inner(i)).build(),
    'a chain': (o, i, udp, tags) =>
      outer(o, udp, tags)
        .payload(gue0(inner(i), { hops: HOPS[o] }))
        .build(),
  };
const KINDS = Object.keys(WRAP) as (keyof typeof WRAP)[];
const counterOf = (kind: keyof typeof WRAP): DecapStat => (kind === 'gue1' ? 'decap_gue1' : 'decap_gue0');
const CASES = KINDS.flatMap((kind) => FAMILIES.flatMap((o) => FAMILIES.map((i) => [kind, i, o] as const)));

describe('decap takes GUE off', () => {
  it.each(CASES)('%s: %iin%i, untagged and with two tags', (kind, i, o) => {
    using decap = program();
    for (const tags of [(b: PacketBuilder) => b, (b: PacketBuilder) => b.vlan(200, { tpid: ETHERTYPE.QINQ }).vlan(9)]) {
      let result = { retval: -1, data: new Uint8Array() };
      const frame = WRAP[kind](o, i, {}, tags);
      const moved = decap.counted(() => (result = decap.run(frame) as typeof result));
      expect(hex(result.data)).toBe(hex(INNER[i](tags(new PacketBuilder().ethernet())).build()));
      expect(result.retval).toBe(XDP.PASS);
      // The inner packet is UDP, which no socket table tells anything of.
      expect(moved).toEqual({ seen: 1, [counterOf(kind)]: 1, ...(kind === 'a chain' && { local_other: 1 }) });
    }
  });

  it('looks at no chain with second hop off', () => {
    using decap = program({ second_hop: 0 });
    expect(decap.counted(() => decap.run(WRAP['a chain'](4, 4)))).toEqual({ seen: 1, decap_gue0: 1 });
  });

  it('takes a chain of 30 IPv4 or 7 IPv6 hops, the longest that a header holds', () => {
    using decap = program();
    const many = { 4: Array<string>(30).fill(HOPS[4][0]), 6: Array<string>(7).fill(HOPS[6][0]) };
    for (const o of FAMILIES) {
      const { data } = decap.run(
        outer(o)
          .payload(gue0(inner(4), { hops: many[o] }))
          .build(),
      );
      expect(hex(data)).toBe(hex(INNER[4](new PacketBuilder().ethernet()).build()));
    }
  });

  it('on every port that it is told, and on no other', () => {
    using decap = program({ gue_port_1: 19523, gue_port_2: 6080, gue_port_3: 5555, gue_port_4: 65535 });
    for (const dport of [19523, 6080, 5555, 65535]) {
      expect(decap.counted(() => decap.run(WRAP.gue1(4, 4, { dport })))).toEqual({ seen: 1, decap_gue1: 1 });
    }
    expect(decap.counted(() => decap.run(WRAP.gue1(4, 4, { dport: 6081 })))).toEqual({ seen: 1, passed_other: 1 });
    using few = program({ gue_port_1: 0 });
    for (const dport of [0, 6080]) {
      expect(few.counted(() => few.run(WRAP.gue1(4, 4, { dport })))).toEqual({ seen: 1, passed_other: 1 });
    }
  });

  it('copies a congestion mark inwards as from IP in IP', () => {
    using decap = program();
    const marked = new PacketBuilder().ethernet().ipip({ src: LB[4], dst: ME[4], tos: 3 }).udp({ dport: GUE_PORT });
    const packet = (b: PacketBuilder, tos: number): Uint8Array => b.ipv4({ dst: VIP[4], tos }).udp().build();
    const { data } = decap.run(marked.payload(gue0(packet(new PacketBuilder(), 2))).build());
    expect(hex(data)).toBe(hex(packet(new PacketBuilder().ethernet(), 3)));
  });
});

describe('the outer UDP checksum', () => {
  it.each(CASES)('%s, %iin%i: none will do, a wrong one will not', (kind, i, o) => {
    using decap = program();
    const none = decap.counted(() => expect(decap.run(WRAP[kind](o, i, { checksum: 0 })).retval).toBe(XDP.PASS));
    expect(none[counterOf(kind)]).toBe(1);
    const right = WRAP[kind](o, i);
    const at = 14 + (o === 4 ? 20 : 40) + 6;
    const wrong = right.slice();
    wrong[at + 1] ^= 1;
    expect(decap.counted(() => expect(decap.run(wrong).retval).toBe(XDP.DROP))).toEqual({
      seen: 1,
      drop_udp_checksum: 1,
    });
    using lenient = program({ udp_checksum: 0 });
    expect(lenient.run(wrong).retval).toBe(XDP.PASS);
  });

  it('is right and is wrong at every length, odd and even, up to what one page takes', () => {
    using decap = program();
    const lengths = [...Array.from({ length: 1100 }, (_, n) => n), 1471, 1472, 2047, 2048, 3071, 3072, 3400];
    for (const length of lengths) {
      const packet = new PacketBuilder().ipv4({ dst: VIP[4] }).payload(length).build();
      const frame = outer(4).payload(packet).build();
      expect(decap.run(frame).retval, `${length} bytes`).toBe(XDP.PASS);
      frame[frame.length - 1] ^= 0x10;
      expect(decap.run(frame).retval, `${length} bytes, the last one changed`).toBe(XDP.DROP);
    }
    expect(decap.stats()).toEqual({
      seen: 2 * lengths.length,
      decap_gue1: lengths.length,
      drop_udp_checksum: lengths.length,
    });
  });
});

const header = (options: Gue0Options, o: Family = 4): PacketBuilder => outer(o).payload(gue0(inner(4), options));
const REFUSED: [string, DecapStat, PacketBuilder][] = [
  [
    'source not allowed',
    'drop_source',
    new PacketBuilder().ethernet().ipv4({ src: '10.0.0.1', dst: ME[4] }).udp({ dport: GUE_PORT }).payload(inner(4)),
  ],
  [
    'an outer first fragment',
    'drop_fragment',
    new PacketBuilder()
      .ethernet()
      .ipv4({ src: LB[4], dst: ME[4], moreFragments: true })
      .udp({ dport: GUE_PORT })
      .payload(inner(4)),
  ],
  ['UDP length of less than a header', 'drop_malformed', outer(4, { length: 7, checksum: 0 }).payload(inner(4))],
  ['UDP length beyond the IP packet', 'drop_malformed', outer(4, { length: 8 + 52, checksum: 0 }).payload(inner(4))],
  [
    'UDP length that cuts the inner packet',
    'drop_malformed',
    outer(4, { length: 8 + 30, checksum: 0 }).payload(inner(4)),
  ],
  ['nothing behind UDP', 'drop_gue_header', outer(4)],
  ['variant 2', 'drop_gue_version', header({ variant: 2 })],
  ['variant 3', 'drop_gue_version', header({ variant: 3 })],
  ['variant 1 with an inner version of 5', 'drop_malformed', outer(4).payload([0x55, ...inner(4).slice(1)])],
  ['variant 1 with an inner version of 7', 'drop_malformed', outer(4).payload([0x75, ...inner(4).slice(1)])],
  ['a control message', 'drop_gue_control', header({ control: true })],
  ['a flag', 'drop_gue_flags', header({ flags: 0x0001 })],
  ['the first flag, with four bytes for its field', 'drop_gue_flags', header({ flags: 0x8000, private: [0, 0, 0, 0] })],
  ['a header of one byte', 'drop_gue_header', outer(4).payload([0])],
  ['a header of three bytes', 'drop_gue_header', outer(4).payload([0, 4, 0])],
  ['a header length beyond the packet', 'drop_gue_header', header({ hlen: 31 })],
  ['a protocol of TCP', 'drop_gue_header', header({ protocol: PROTO.TCP })],
  ['a protocol of nothing more to come', 'drop_gue_header', header({ protocol: PROTO.NONE })],
  ['protocol 41 with IPv4 inside', 'drop_malformed', header({ protocol: PROTO.IPV6 })],
  ['private data of another type', 'drop_gue_chain', header({ hops: HOPS[4], type: 2 })],
  ['IPv4 hops under IPv6', 'drop_gue_chain', header({ hops: HOPS[4] }, 6)],
  ['IPv6 hops under IPv4', 'drop_gue_chain', header({ hops: HOPS[6] })],
  ['more hops than the header has room for', 'drop_gue_chain', header({ hops: HOPS[4], hopCount: 3 })],
  ['fewer hops than the header has room for', 'drop_gue_chain', header({ hops: HOPS[4], hopCount: 1 })],
  ['256 bytes of hops in a count that wraps', 'drop_gue_chain', header({ private: [0, 1, 0, 64] }, 6)],
];

describe('decap refuses GUE that it does not understand', () => {
  it.each(REFUSED)('%s: %s', (_name, reason, packet) => {
    using decap = program();
    const moved = decap.counted(() => expect(decap.run(packet.build()).retval).toBe(XDP.DROP));
    expect(moved).toEqual({ seen: 1, [reason]: 1 });
  });

  it.each<[string, PacketBuilder]>([
    [
      'UDP to another address of the host',
      new PacketBuilder().ethernet().ipv4({ src: LB[4], dst: '192.0.2.99' }).udp({ dport: GUE_PORT }).payload(inner(4)),
    ],
    ['UDP from the port of GUE', outer(4, { sport: GUE_PORT, dport: 53 }).payload(inner(4))],
    [
      'a later fragment',
      new PacketBuilder().ethernet().ipv4({ src: LB[4], dst: ME[4], fragmentOffset: 9 }).udp({ dport: GUE_PORT }),
    ],
    [
      'UDP behind IPv4 options',
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: LB[4], dst: ME[4], options: [1] })
        .udp({ dport: GUE_PORT })
        .payload(inner(4)),
    ],
    [
      'UDP behind an IPv6 extension header',
      new PacketBuilder()
        .ethernet()
        .ipv6({ src: LB[6], dst: ME[6] })
        .extension(PROTO.DSTOPTS)
        .udp({ dport: GUE_PORT })
        .payload(inner(4)),
    ],
    [
      'TCP to the number of the port',
      new PacketBuilder().ethernet().ipv4({ src: LB[4], dst: ME[4] }).tcp({ dport: GUE_PORT }),
    ],
  ])('but leaves to the host %s', (_name, packet) => {
    using decap = program();
    const frame = packet.build();
    const moved = decap.counted(() => expect(hex(decap.run(frame).data)).toBe(hex(frame)));
    expect(moved).toEqual({ seen: 1, passed_other: 1 });
  });
});

describe('decap on broken GUE frames', () => {
  it('never lets a truncated one in', () => {
    using decap = program();
    for (const [kind, i, o] of CASES) {
      // The UDP header has to be there before anybody can tell that it is for us.
      const readable = 14 + (o === 4 ? 20 : 40) + 8;
      for (const frame of truncations(WRAP[kind](o, i))) {
        const expected = frame.length < readable ? 'passed_other' : 'drop_malformed';
        const moved = decap.counted(() => decap.run(frame));
        expect(moved, `${kind}, ${i}in${o}, ${frame.length} bytes`).toEqual({ seen: 1, [expected]: 1 });
      }
    }
  });

  it('gives each of thousands of corrupted packets one outcome, and the host no outer byte', () => {
    const seed = 20261121;
    const random = randomSource(seed);
    using decap = program({ udp_checksum: 0 });
    const models = CASES.map(([kind, i, o]) => WRAP[kind](o, i));
    const runs = 6000;
    let passed = 0;
    for (let n = 0; n < runs; n++) {
      const frame = models[random() % models.length].slice();
      for (let hits = random() % 3; hits >= 0; hits--) frame[12 + (random() % (frame.length - 12))] = random();
      const { retval, data } = decap.run(frame);
      const from = `seed ${seed}, run ${n}`;
      expect([XDP.PASS, XDP.DROP, XDP.TX, XDP.REDIRECT], from).toContain(retval);
      if (retval !== XDP.PASS || data.length === frame.length) continue;
      passed++;
      const version = data[14 + 0] >> 4;
      if (data[12] === 0x08 && data[13] === 0) expect(version, from).toBe(4);
      else if (data[12] === 0x86) expect(version, from).toBe(6);
    }
    expect(passed).toBeGreaterThan(1000);
    const stats = decap.stats();
    const outcomes = Object.entries(stats).filter(([name]) => name !== 'seen' && !name.startsWith('local_'));
    expect(outcomes.reduce((sum, [, count]) => sum + count, 0)).toBe(stats.seen);
    for (const name of ['drop_gue_version', 'drop_gue_header', 'drop_gue_flags', 'drop_gue_chain'] as const) {
      expect(stats[name], name).toBeGreaterThan(5);
    }
  });
});

import { describe, expect, it } from 'vitest';
import { PacketFlag, type Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { DROP_REASONS, DropReason } from '../../src/dataplane/verdict.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed, place, random } from '../support/packets.js';

const v4 = { src: '192.0.2.1', dst: '198.51.100.10' };
const v6 = { src: '2001:db8::1', dst: '2001:db8:100::10' };
const eth = () => new PacketBuilder().ethernet();

/** description, frame, what parse() must find (reason by name, 'none' when well-formed). */
const cases: [string, Uint8Array, { reason: string } & Record<string, number | string>][] = [
  [
    'TCP over IPv4',
    eth()
      .ipv4({ ...v4, ttl: 61, tos: 0x2e })
      .tcp({ sport: 1024, dport: 80, flags: TCP.SYN })
      .build(),
    {
      reason: 'none',
      family: 4,
      protocol: 6,
      ports: (1024 << 16) | 80,
      tcpFlags: TCP.SYN,
      ttl: 61,
      tos: 0x2e,
      l3Length: 40,
    },
  ],
  [
    'UDP over IPv4 with a trailer that is not counted',
    eth().ipv4(v4).udp({ sport: 53, dport: 5353 }).payload('x').padTo(64).build(),
    { reason: 'none', family: 4, protocol: 17, ports: (53 << 16) | 5353, l3Length: 29 },
  ],
  [
    'TCP over IPv6',
    eth()
      .ipv6({ ...v6, hopLimit: 7, trafficClass: 0xb8 })
      .tcp({ sport: 65535, dport: 443, flags: TCP.ACK })
      .build(),
    { reason: 'none', family: 6, protocol: 6, ports: (65535 << 16) | 443, ttl: 7, tos: 0xb8, l3Length: 60 },
  ],
  [
    'one VLAN tag',
    eth().vlan(7).ipv4(v4).udp({ sport: 1, dport: 2 }).build(),
    { reason: 'none', vlanTags: 1, family: 4, protocol: 17 },
  ],
  [
    'two VLAN tags',
    eth().vlan(7, { tpid: 0x88a8 }).vlan(8).ipv6(v6).udp({ sport: 1, dport: 2 }).build(),
    { reason: 'none', vlanTags: 2, family: 6 },
  ],
  ['three VLAN tags', eth().vlan(1).vlan(2).vlan(3).ipv4(v4).udp({}).build(), { reason: 'vlan_too_deep' }],
  ['ARP is no error and no IP', eth().payload(new Uint8Array(28)).build(), { reason: 'none', family: 0 }],
  [
    'IPv4 options',
    eth()
      .ipv4({ ...v4, options: [7, 7, 4, 0, 0, 0, 0, 0] })
      .tcp({ sport: 5, dport: 6 })
      .build(),
    { reason: 'none', flags: PacketFlag.options | PacketFlag.hasPorts, ports: (5 << 16) | 6 },
  ],
  [
    'IPv4 version 5',
    eth()
      .ipv4({ ...v4, version: 5 })
      .udp({})
      .build(),
    { reason: 'ipv4_version' },
  ],
  [
    'IPv4 ihl 4',
    eth()
      .ipv4({ ...v4, ihl: 4 })
      .udp({})
      .build(),
    { reason: 'ipv4_header_length' },
  ],
  [
    'IPv4 ihl 15 beyond the frame',
    eth()
      .ipv4({ ...v4, ihl: 15 })
      .udp({})
      .build(),
    { reason: 'ipv4_header_length' },
  ],
  [
    'IPv4 total length beyond the frame',
    eth()
      .ipv4({ ...v4, totalLength: 1500 })
      .udp({})
      .build(),
    { reason: 'ipv4_total_length' },
  ],
  [
    'IPv4 total length below the header',
    eth()
      .ipv4({ ...v4, totalLength: 19 })
      .udp({})
      .build(),
    { reason: 'ipv4_total_length' },
  ],
  [
    'first fragment keeps its ports',
    eth()
      .ipv4({ ...v4, moreFragments: true })
      .udp({ sport: 9, dport: 10, length: 3000 })
      .payload(32)
      .build(),
    { reason: 'none', flags: PacketFlag.fragment | PacketFlag.hasPorts, ports: (9 << 16) | 10 },
  ],
  [
    'later fragment has no transport header',
    eth()
      .ipv4({ ...v4, fragmentOffset: 185, protocol: 17 })
      .payload(32)
      .build(),
    { reason: 'none', flags: PacketFlag.fragment | PacketFlag.laterFragment, l4: 0, ports: 0 },
  ],
  ['TCP data offset 4', eth().ipv4(v4).tcp({ dataOffset: 4 }).build(), { reason: 'tcp_data_offset' }],
  ['TCP data offset beyond the packet', eth().ipv4(v4).tcp({ dataOffset: 15 }).build(), { reason: 'tcp_data_offset' }],
  ['UDP length 7', eth().ipv4(v4).udp({ length: 7 }).build(), { reason: 'udp_length' }],
  [
    'UDP length beyond the packet',
    eth().ipv4(v4).udp({ length: 100 }).payload('abc').build(),
    { reason: 'udp_length' },
  ],
  [
    'UDP with 4 bytes',
    eth()
      .ipv4({ ...v4, protocol: 17 })
      .payload(4)
      .build(),
    { reason: 'udp_truncated' },
  ],
  [
    'TCP with 19 bytes',
    eth()
      .ipv4({ ...v4, protocol: 6 })
      .payload(19)
      .build(),
    { reason: 'tcp_truncated' },
  ],
  ['ICMP echo', eth().ipv4(v4).icmp({}).build(), { reason: 'none', protocol: 1, ports: 0 }],
  [
    'ICMP with 7 bytes',
    eth()
      .ipv4({ ...v4, protocol: 1 })
      .payload(7)
      .build(),
    { reason: 'icmp_truncated' },
  ],
  [
    'IPv6 version 4',
    eth()
      .ipv6({ ...v6, version: 4 })
      .udp({})
      .build(),
    { reason: 'ipv6_version' },
  ],
  [
    'IPv6 payload length beyond the frame',
    eth()
      .ipv6({ ...v6, payloadLength: 999 })
      .udp({})
      .build(),
    { reason: 'ipv6_payload_length' },
  ],
  [
    'IPv6 payload length 0 (jumbo) has no room for UDP',
    eth()
      .ipv6({ ...v6, payloadLength: 0 })
      .udp({})
      .build(),
    { reason: 'udp_truncated' },
  ],
  [
    'hop-by-hop and destination options',
    eth().ipv6(v6).extension(0).extension(60).udp({ sport: 3, dport: 4 }).build(),
    { reason: 'none', protocol: 17, ports: (3 << 16) | 4, flags: PacketFlag.options | PacketFlag.hasPorts },
  ],
  [
    'extension header longer than the packet',
    eth().ipv6(v6).extension(0, [0, 0, 0, 0, 0, 0], 200).udp({}).build(),
    { reason: 'ipv6_extension_truncated' },
  ],
  [
    'atomic fragment is no fragment',
    eth().ipv6(v6).fragment({ offset: 0, more: false }).udp({ sport: 3, dport: 4 }).build(),
    { reason: 'none', flags: PacketFlag.hasPorts, ports: (3 << 16) | 4 },
  ],
  [
    'IPv6 first fragment',
    eth().ipv6(v6).fragment({ offset: 0, more: true }).udp({ sport: 3, dport: 4, length: 4000 }).payload(8).build(),
    { reason: 'none', flags: PacketFlag.fragment | PacketFlag.hasPorts },
  ],
  [
    'IPv6 later fragment',
    eth().ipv6(v6).fragment({ offset: 100, more: false }).payload(16).build(),
    { reason: 'none', flags: PacketFlag.fragment | PacketFlag.laterFragment },
  ],
  ['nine extension headers', nineExtensions(), { reason: 'ipv6_extensions_too_many' }],
  ['13 bytes', new Uint8Array(13), { reason: 'ethernet_truncated' }],
  [
    'SCTP ports',
    eth()
      .ipv4({ ...v4, protocol: 132 })
      .payload([0, 7, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0])
      .build(),
    { reason: 'none', ports: (7 << 16) | 9 },
  ],
];

/** What parse() found, without the memory. */
const found = (packet: Packet) => ({ ...packet, view: null, words: null, halves: null });

function nineExtensions(): Uint8Array {
  const builder = eth().ipv6(v6);
  for (let i = 0; i < 9; i++) builder.extension(60);
  return builder.udp({}).build();
}

describe('parse', () => {
  it.each(cases)('%s', (_name, frame, { reason, ...fields }) => {
    const packet = parsed(frame);
    expect(DROP_REASONS[packet.malformed]).toBe(reason);
    for (const [name, value] of Object.entries(fields)) {
      expect((packet as unknown as Record<string, unknown>)[name], name).toBe(value);
    }
  });

  it('names addresses in network byte order', () => {
    const four = parsed(eth().ipv4(v4).udp({}).build());
    expect([four.src0 >>> 0, four.src1, four.dst0 >>> 0, four.dst3]).toEqual([0xc0000201, 0, 0xc633640a, 0]);
    const six = parsed(eth().ipv6(v6).udp({}).build());
    expect([six.src0, six.src1, six.src2, six.src3].map((w) => w >>> 0)).toEqual([0x20010db8, 0, 0, 1]);
    expect([six.dst0, six.dst1, six.dst2, six.dst3].map((w) => w >>> 0)).toEqual([0x20010db8, 0x01000000, 0, 0x10]);
  });

  it('leaves nothing of an IPv6 packet behind when its slot gets an IPv4 one', () => {
    const packet = parsed(eth().ipv6(v6).tcp({ flags: TCP.SYN }).build());
    const frame = eth().ipv4(v4).icmp({}).build();
    new Uint8Array(packet.view.buffer).set(frame, packet.data);
    packet.place(packet.data, frame.length);
    parse(packet);
    expect([packet.src1, packet.src2, packet.src3, packet.dst1, packet.dst2, packet.dst3]).toEqual([0, 0, 0, 0, 0, 0]);
    expect([packet.ports, packet.tcpFlags]).toEqual([0, 0]);
  });

  it('never reads behind a frame cut at any byte, and calls no cut packet whole', () => {
    for (const [name, frame] of cases) {
      for (let length = 0; length < frame.length; length++) {
        const cut = parsed(frame.subarray(0, length));
        // The same cut frame with other bytes behind it must give the same answer.
        const again = place(frame.subarray(0, length));
        new Uint8Array(again.view.buffer).fill(0x45, again.dataEnd, again.dataEnd + 128);
        parse(again);
        expect(found(again), `${name} cut at ${length}`).toEqual(found(cut));
      }
    }
    const whole = eth().ipv4(v4).tcp({ sport: 1, dport: 2 }).payload('hello').build();
    for (let length = 0; length < whole.length; length++) {
      expect(parsed(whole.subarray(0, length)).malformed, `cut at ${length}`).not.toBe(DropReason.none);
    }
  });

  it('is total on random bytes: a reason or sane positions, never a throw', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    for (let round = 0; round < 20_000; round++) {
      const frame = new Uint8Array(Math.floor(next() * 120));
      for (let i = 0; i < frame.length; i++) frame[i] = next() * 256;
      const types = [0x0800, 0x86dd, 0x8100];
      if (frame.length >= 15 && next() < 0.9) {
        const type = types[Math.floor(next() * 3)];
        frame[12] = type >> 8;
        frame[13] = type & 255;
        frame[14] = type === 0x0800 ? 0x45 : 0x60;
        if (next() < 0.7 && frame.length > 24) frame[type === 0x0800 ? 16 : 18] = 0;
      }
      const packet = parsed(frame);
      expect(packet.malformed, `seed ${seed} round ${round}`).toBeGreaterThanOrEqual(0);
      if (packet.malformed === DropReason.none) {
        expect(packet.l3 + packet.l3Length, `seed ${seed} round ${round}`).toBeLessThanOrEqual(packet.dataEnd);
        if (packet.l4 !== 0) expect(packet.l4).toBeLessThanOrEqual(packet.l3 + packet.l3Length);
      }
    }
  });
});

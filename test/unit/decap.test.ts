import { describe, expect, it } from 'vitest';
import { decapsulate } from '../../src/dataplane/packet/decap.js';
import { encapsulateSpecial } from '../../src/dataplane/packet/encap_special.js';
import { OuterFlow } from '../../src/dataplane/packet/outer_flow.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { backendRecord, type BackendSketch } from '../support/backend_record.js';
import { onesComplementSum, PacketBuilder, PROTO } from '../support/packet_builder.js';
import { bytesOf, parsed, random } from '../support/packets.js';

const inner4 = { src: '192.0.2.1', dst: '198.51.100.10' };
const inner6 = { src: '2001:db8::1', dst: '2001:db8:100::10' };
const outer4 = { src: '10.0.0.2', dst: '10.0.0.11' };
const outer6 = { src: 'fd00::2', dst: 'fd00::11' };

/** Outer header of a family, told what is inside. */
function outer(builder: PacketBuilder, family: 4 | 6, tos = 0): PacketBuilder {
  return family === 4 ? builder.ipv4({ ...outer4, tos }) : builder.ipv6({ ...outer6, trafficClass: tos });
}

function inner(builder: PacketBuilder, family: 4 | 6, tos = 0, ttl = 64): PacketBuilder {
  const ip =
    family === 4
      ? builder.ipv4({ ...inner4, tos, ttl })
      : builder.ipv6({ ...inner6, trafficClass: tos, hopLimit: ttl });
  return ip.udp({ sport: 4000, dport: 443 }).payload('hello');
}

/** The packet of `inner` alone, without Ethernet. */
function innerBytes(family: 4 | 6, tos = 0, ttl = 64): Uint8Array {
  return inner(new PacketBuilder(), family, tos, ttl).build();
}

function tagged(tags: number): PacketBuilder {
  const builder = new PacketBuilder().ethernet();
  for (let tag = 0; tag < tags; tag++) builder.vlan(100 + tag);
  return builder;
}

/** GUE around these bytes: a UDP header, `header` of GUE, the packet. */
function gue(builder: PacketBuilder, header: number[], packet: Uint8Array, udp = {}): PacketBuilder {
  return builder.udp({ sport: 50000, dport: 6080, ...udp }).payload([...header, ...packet]);
}

describe('decapsulate', () => {
  for (const [inside, outside] of [
    [4, 4],
    [6, 4],
    [4, 6],
    [6, 6],
  ] as const) {
    const protocol = inside === 4 ? 4 : 41;
    const chain =
      outside === 4
        ? [3, protocol, 0, 0, 0, 0, 0, 2, 10, 0, 0, 1, 10, 0, 0, 2]
        : [5, protocol, 0, 0, 0, 1, 0, 1, ...new Array<number>(16).fill(7)];
    const ways: [string, (builder: PacketBuilder) => PacketBuilder][] = [
      ['IP in IP', (b) => inner(outer(b, outside), inside)],
      ['GUE variant 1', (b) => gue(outer(b, outside), [], innerBytes(inside))],
      ['GUE variant 1 without a checksum', (b) => gue(outer(b, outside), [], innerBytes(inside), { checksum: 0 })],
      ['GUE variant 0', (b) => gue(outer(b, outside), [0, protocol, 0, 0], innerBytes(inside))],
      ['GUE variant 0 with a chain', (b) => gue(outer(b, outside), chain, innerBytes(inside))],
    ];
    it.each(ways)(`takes %s off, ${inside} in ${outside}: one less TTL, tags kept`, (_name, way) => {
      for (const tags of [0, 1, 2]) {
        const packet = parsed(way(tagged(tags)).build());
        expect(decapsulate(packet)).toBe(DropReason.none);
        expect(Buffer.from(bytesOf(packet)).toString('hex')).toBe(
          Buffer.from(inner(tagged(tags), inside, 0, 63).build()).toString('hex'),
        );
        expect([parse(packet), packet.family, packet.vlanTags, packet.ttl]).toEqual([0, inside, tags, 63]);
      }
    });
  }

  it('gives back what encapsulateSpecial() wrapped, but for TTL', () => {
    const next = random(11);
    const kinds: BackendSketch[] = [
      { kind: 'ipip' },
      { kind: 'gue', variant: 0, checksum: 'computed' },
      { kind: 'gue', checksum: 'computed' },
    ];
    for (let round = 0; round < 600; round++) {
      const family = next() < 0.5 ? 4 : 6;
      const sketch = {
        ...kinds[round % 3],
        ...(next() < 0.5 ? { address: outer4.dst } : { address: outer6.dst }),
      };
      const tags = Math.floor(next() * 3);
      const tos = Math.floor(next() * 256);
      const packet = parsed(inner(tagged(tags), family, tos, 10).build());
      expect(encapsulateSpecial(packet, backendRecord(sketch), 0, new OuterFlow(), new Int32Array(0), 0, 4)).toBe(0);
      parse(packet);
      expect(decapsulate(packet), JSON.stringify(sketch)).toBe(DropReason.none);
      const expected = inner(tagged(tags), family, tos, 9).build();
      expect(bytesOf(packet).subarray(14 + 4 * tags)).toEqual(expected.subarray(14 + 4 * tags));
    }
  });

  // RFC 6040, figure 4. Rows: inner Not-ECT, ECT(1), ECT(0), CE. Columns: outer the same.
  const figure4 = [
    [0, 0, 0, -1],
    [1, 1, 1, 3],
    [2, 1, 2, 3],
    [3, 3, 3, 3],
  ];
  it.each([
    [4, 4],
    [6, 4],
    [4, 6],
    [6, 6],
  ] as const)('merges the ECN field as RFC 6040 says, %i in %i', (inside, outside) => {
    for (const [arriving, row] of figure4.entries()) {
      for (const [mark, leaving] of row.entries()) {
        // DSCP bits differ: those of the inside stay.
        const frame = inner(outer(tagged(0), outside, 0xb8 | mark), inside, 0x28 | arriving).build();
        const packet = parsed(frame);
        expect(decapsulate(packet)).toBe(leaving < 0 ? DropReason.decapMalformed : DropReason.none);
        const expected = leaving < 0 ? frame : inner(tagged(0), inside, 0x28 | leaving, 63).build();
        expect(Buffer.from(bytesOf(packet)).toString('hex')).toBe(Buffer.from(expected).toString('hex'));
      }
    }
  });

  it('keeps the IPv4 checksum inside right for every TTL and TOS, and wrong when it was wrong', () => {
    for (let ttl = 2; ttl < 256; ttl++) {
      const packet = parsed(inner(outer(tagged(0), 6, 3), 4, (ttl & 0xfc) | 1, ttl).build());
      decapsulate(packet);
      expect(onesComplementSum(bytesOf(packet).subarray(14, 34))).toBe(0xffff);
    }
    const packet = parsed(
      outer(tagged(0), 4)
        .ipv4({ ...inner4, checksum: 0x1234 })
        .udp({})
        .build(),
    );
    expect(decapsulate(packet)).toBe(DropReason.none);
    expect(onesComplementSum(bytesOf(packet).subarray(14, 34))).not.toBe(0xffff);
  });

  const expired = (family: 4 | 6, ttl: number) => inner(outer(tagged(0), 4), family, 0, ttl).build();
  const v4 = innerBytes(4);
  const over4 = () => outer(tagged(0), 4);
  const refused: [string, DropReason, Uint8Array][] = [
    ['TTL 1 inside', DropReason.ttlExpired, expired(4, 1)],
    ['TTL 0 inside', DropReason.ttlExpired, expired(4, 0)],
    ['hop limit 1 inside', DropReason.ttlExpired, expired(6, 1)],
    [
      'an outer first fragment',
      DropReason.fragment,
      tagged(0)
        .ipv4({ ...outer4, moreFragments: true })
        .ipv4(inner4)
        .udp({})
        .build(),
    ],
    [
      'an outer later fragment',
      DropReason.fragment,
      tagged(0)
        .ipv4({ ...outer4, fragmentOffset: 9 })
        .ipv4(inner4)
        .udp({})
        .build(),
    ],
    [
      'an outer IPv6 fragment',
      DropReason.fragment,
      tagged(0).ipv6(outer6).fragment({ more: true }).ipv4(inner4).udp({}).build(),
    ],
    [
      'outer options',
      DropReason.decapMalformed,
      tagged(0)
        .ipv4({ ...outer4, options: [1, 1, 1, 0] })
        .ipv4(inner4)
        .udp({})
        .build(),
    ],
    [
      'an outer extension header',
      DropReason.decapMalformed,
      tagged(0).ipv6(outer6).extension(PROTO.DSTOPTS).ipv4(inner4).udp({}).build(),
    ],
    [
      'a wrong outer header checksum',
      DropReason.decapMalformed,
      tagged(0)
        .ipv4({ ...outer4, checksum: 1 })
        .ipv4(inner4)
        .udp({})
        .build(),
    ],
    [
      'IPv6 where IPv4 is said to be',
      DropReason.decapMalformed,
      tagged(0)
        .ipv4({ ...outer4, protocol: 4 })
        .ipv6(inner6)
        .udp({})
        .build(),
    ],
    [
      'IPv4 where IPv6 is said to be',
      DropReason.decapMalformed,
      tagged(0)
        .ipv4({ ...outer4, protocol: 41 })
        .ipv4(inner4)
        .udp({})
        .payload(40)
        .build(),
    ],
    [
      'an inner header that is cut off',
      DropReason.decapMalformed,
      tagged(0)
        .ipv4({ ...outer4, protocol: 4 })
        .payload(v4.subarray(0, 19))
        .build(),
    ],
    [
      'nothing inside',
      DropReason.decapMalformed,
      tagged(0)
        .ipv4({ ...outer4, protocol: 4 })
        .trailer(v4)
        .build(),
    ],
    [
      'an inner IPv4 longer than the outer',
      DropReason.decapMalformed,
      over4()
        .ipv4({ ...inner4, totalLength: 100 })
        .udp({})
        .build(),
    ],
    [
      'an inner IPv4 shorter than its header',
      DropReason.decapMalformed,
      over4()
        .ipv4({ ...inner4, totalLength: 19 })
        .udp({})
        .build(),
    ],
    [
      'an inner header length below 5',
      DropReason.decapMalformed,
      over4()
        .ipv4({ ...inner4, ihl: 4 })
        .udp({})
        .build(),
    ],
    [
      'an inner IPv6 longer than the outer',
      DropReason.decapMalformed,
      over4()
        .ipv6({ ...inner6, payloadLength: 9 })
        .udp({})
        .build(),
    ],
    ['a wrong UDP checksum', DropReason.decapMalformed, gue(over4(), [], v4, { checksum: 0x1234 }).build()],
    [
      'an inner packet longer than the UDP datagram',
      DropReason.decapMalformed,
      gue(over4(), [], v4, { length: 8 + v4.length - 1, checksum: 0 }).build(),
    ],
    ['an empty datagram', DropReason.decapMalformed, gue(over4(), [], new Uint8Array(0)).build()],
    ['three bytes', DropReason.decapMalformed, gue(over4(), [0, 4, 0], new Uint8Array(0)).build()],
    ['GUE version 2', DropReason.decapMalformed, gue(over4(), [0x80, 4, 0, 0], v4).build()],
    ['a first nibble of 5', DropReason.decapMalformed, gue(over4(), [0x55], v4).build()],
    ['a control message', DropReason.decapMalformed, gue(over4(), [0x20, 4, 0, 0], v4).build()],
    ['GUE flags', DropReason.decapMalformed, gue(over4(), [0, 4, 0x80, 0], v4).build()],
    ['TCP in GUE', DropReason.decapMalformed, gue(over4(), [0, 6, 0, 0], v4).build()],
    [
      'another family in GUE than it says',
      DropReason.decapMalformed,
      gue(over4(), [0, 41, 0, 0], [...v4, ...v4] as unknown as Uint8Array).build(),
    ],
    ['a GUE header longer than the datagram', DropReason.decapMalformed, gue(over4(), [31, 4, 0, 0], v4).build()],
    ['private data of another type', DropReason.decapMalformed, gue(over4(), [1, 4, 0, 0, 0, 9, 0, 0], v4).build()],
    [
      'a chain of the other family',
      DropReason.decapMalformed,
      gue(outer(tagged(0), 6), [2, 4, 0, 0, 0, 0, 0, 1, 10, 0, 0, 1], v4).build(),
    ],
    [
      'a chain of another length',
      DropReason.decapMalformed,
      gue(over4(), [2, 4, 0, 0, 0, 0, 0, 2, 10, 0, 0, 1], v4).build(),
    ],
  ];
  it.each(refused)('refuses %s and leaves the packet as it is', (_name, reason, frame) => {
    const packet = parsed(frame);
    expect(decapsulate(packet)).toBe(reason);
    expect(bytesOf(packet)).toEqual(frame);
  });

  it('never reads or writes outside of random and damaged packets', () => {
    const seed = 5;
    const next = random(seed);
    for (let round = 0; round < 4000; round++) {
      const family = next() < 0.5 ? 4 : 6;
      const frame = (
        next() < 0.5 ? gue(outer(tagged(0), 4), [0, 4, 0, 0], v4, { checksum: 0 }) : inner(outer(tagged(0), 6), family)
      ).build();
      for (let i = 0; i < 2; i++) frame[34 + Math.floor(next() * (frame.length - 34))] = Math.floor(next() * 256);
      const packet = parsed(frame.subarray(0, frame.length - Math.floor(next() * 4)));
      if (packet.malformed !== 0 || packet.l4 === 0) continue;
      const end = packet.dataEnd;
      const result = decapsulate(packet);
      expect(packet.dataEnd, `seed ${seed}, round ${round}`).toBe(end);
      const memory = new Uint8Array(packet.view.buffer);
      expect(memory.subarray(end).every((byte) => byte === 0xee)).toBe(true);
      if (result === DropReason.none) expect(parse(packet) === DropReason.none || packet.family !== 0).toBe(true);
    }
  });
});

import { describe, expect, it } from 'vitest';
import { encapsulateSpecial } from '../../src/dataplane/packet/encap_special.js';
import { innerMtu, outerOverhead } from '../../src/dataplane/packet/encap_size.js';
import { OuterFlow } from '../../src/dataplane/packet/outer_flow.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { parseAddress } from '../../src/shared/addr.js';
import { BackendField, BackendFlag } from '../../src/shared/layout.js';
import { backendRecord, DMAC, SMAC, type BackendSketch } from '../support/backend_record.js';
import { readEncapsulated } from '../support/outer_reader.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { bytesOf, CHUNK, parsed, place, random } from '../support/packets.js';

const NO_HOPS = new Int32Array(0);
const outer4 = { address: '10.0.0.11', source: '10.0.0.2' };
const outer6 = { address: 'fd00::11', source: 'fd00::2' };

function flowOf(hash: number): OuterFlow {
  const flow = new OuterFlow();
  flow.hash = hash | 0;
  return flow;
}

/** Hops as the words that encapsulateSpecial() takes. */
function hopWords(...hops: string[]): Int32Array {
  return Int32Array.from(
    hops.map(parseAddress).flatMap((hop) => (hop.family === 4 ? hop.words.slice(0, 1) : [...hop.words])),
  );
}

function encapsulate(packet: Packet, record: Int32Array, hash = 0x1234567, hops: Int32Array = NO_HOPS): DropReason {
  const family = (record[BackendField.flags] & BackendFlag.ipv6) === 0 ? 4 : 6;
  return encapsulateSpecial(packet, record, 0, flowOf(hash), hops, hops.length, family);
}

/** A frame of this family with so many tags, and the bytes of its IP packet. */
function frameOf(family: 4 | 6, tags: number, tos: number, payload: number, headroom = 256) {
  const builder = new PacketBuilder().ethernet();
  for (let tag = 0; tag < tags; tag++) builder.vlan(100 + tag, tag === 0 && tags === 2 ? { tpid: 0x88a8 } : {});
  if (family === 4) builder.ipv4({ src: '192.0.2.1', dst: '198.51.100.10', tos });
  else builder.ipv6({ src: '2001:db8::1', dst: '2001:db8:100::10', trafficClass: tos, flowLabel: 0xabcde });
  const frame = builder.tcp({ sport: 4000, dport: 80 }).payload(payload).build();
  const packet = place(frame, headroom);
  parse(packet);
  return { packet, frame, inner: frame.subarray(14 + 4 * tags) };
}

const kinds: [string, BackendSketch][] = [
  ['ipip', { kind: 'ipip' }],
  ['gue variant 0', { kind: 'gue', variant: 0 }],
  ['gue variant 0, checksum', { kind: 'gue', variant: 0, checksum: 'computed' }],
  ['gue variant 1', { kind: 'gue', variant: 1 }],
  ['gue variant 1, checksum', { kind: 'gue', variant: 1, checksum: 'computed' }],
];

describe('encapsulateSpecial', () => {
  for (const [name, sketch] of kinds) {
    for (const [inner, outer] of [
      [4, 4],
      [6, 4],
      [4, 6],
      [6, 6],
    ] as const) {
      it(`${name}, ${inner} in ${outer}: every header as the RFCs say, the packet inside untouched, tags kept`, () => {
        const record = backendRecord({ ...sketch, ...(outer === 4 ? outer4 : outer6) });
        for (const tags of [0, 1, 2]) {
          for (const headroom of [256, 257, 258]) {
            for (const payload of [0, 1, 2, 3, 14, 700]) {
              const { packet, inner: bytes } = frameOf(inner, tags, 0xb9, payload, headroom);
              expect(encapsulate(packet, record)).toBe(DropReason.none);
              const read = readEncapsulated(bytesOf(packet));
              const gue = sketch.kind === 'gue';
              const protocol = inner === 4 ? 4 : 41;
              expect(read).toEqual({
                dmac: DMAC,
                smac: SMAC,
                tags: [
                  [],
                  [[0x8100, 100]],
                  [
                    [0x88a8, 100],
                    [0x8100, 101],
                  ],
                ][tags],
                version: outer,
                src: (outer === 4 ? outer4 : outer6).source,
                dst: (outer === 4 ? outer4 : outer6).address,
                tos: 0xb9,
                ttl: 64,
                id: 0,
                fragment: outer === 4 ? 0x4000 : 0,
                label: outer === 4 ? 0 : 0x1234567 >>> 12,
                protocol: gue ? 17 : protocol,
                udp: gue ? expect.objectContaining({ sport: 0x8000 | 0x4567, dport: 6080 }) : null,
                gue: gue ? (sketch.variant === 1 ? { variant: 1 } : { variant: 0, protocol }) : null,
                inner: bytes,
              });
              if (sketch.checksum === 'computed') expect(read.udp!.checksumRight).toBe(true);
              else if (gue) expect(read.udp!.checksum).toBe(0);
              expect(packet.length - (14 + 4 * tags) - bytes.length).toBe(outerOverhead(record, 0, 0));
            }
          }
        }
      });
    }
  }

  it('wraps random packets of all kinds without changing a byte of them, and without one outside of the frame', () => {
    const seed = 20260801;
    const next = random(seed);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)];
    for (let round = 0; round < 3000; round++) {
      const inner = pick([4, 6] as const);
      const sketch = { ...pick(kinds)[1], ...pick([outer4, outer6]) };
      const bytes = Uint8Array.from({ length: Math.floor(next() * 600) }, () => Math.floor(next() * 256));
      const builder = new PacketBuilder().ethernet();
      const tags = pick([0, 1, 2]);
      for (let tag = 0; tag < tags; tag++) builder.vlan(1 + tag);
      const tos = Math.floor(next() * 256);
      if (inner === 4) builder.ipv4({ protocol: 253, tos, ttl: 1 + Math.floor(next() * 255) });
      else builder.ipv6({ nextHeader: 253, trafficClass: tos });
      const frame = builder.payload(bytes).build();
      const packet = place(frame, 128 + Math.floor(next() * 8));
      parse(packet);
      const what = `seed ${seed}, round ${round}: ${JSON.stringify(sketch)}`;
      expect(encapsulate(packet, backendRecord(sketch), (next() * 0x100000000) | 0), what).toBe(DropReason.none);
      const read = readEncapsulated(bytesOf(packet));
      expect(Buffer.compare(read.inner, frame.subarray(14 + 4 * tags)), what).toBe(0);
      expect([read.tos, read.ttl], what).toEqual([tos, 64]);
      if (sketch.checksum === 'computed') expect(read.udp!.checksumRight, what).toBe(true);
      const memory = new Uint8Array(packet.view.buffer);
      expect(
        memory.subarray(0, packet.data).every((byte) => byte === 0xee),
        what,
      ).toBe(true);
      expect(
        memory.subarray(packet.dataEnd).every((byte) => byte === 0xee),
        what,
      ).toBe(true);
    }
  });

  it('sums what is there: a wrong checksum inside is as wrong behind the tunnel, and the outer one right', () => {
    const frame = new PacketBuilder().ethernet().ipv4().udp({ checksum: 0x1234 }).payload('odd').build();
    const packet = parsed(frame);
    encapsulate(packet, backendRecord({ kind: 'gue', checksum: 'computed', ...outer6 }));
    const read = readEncapsulated(bytesOf(packet));
    expect(read.udp!.checksumRight).toBe(true);
    expect(read.inner).toEqual(frame.subarray(14));
  });

  it('sends a UDP checksum that comes out as 0 as 0xffff', () => {
    const record = backendRecord({ kind: 'gue', checksum: 'computed', ...outer4 });
    const frame = new PacketBuilder().ethernet().ipv4({ protocol: 253 }).payload([0, 0]).build();
    const first = parsed(frame);
    encapsulate(first, record);
    // What the checksum was is what the payload lacks for a sum of 0xffff.
    const { checksum } = readEncapsulated(bytesOf(first)).udp!;
    const packet = parsed(
      new PacketBuilder()
        .ethernet()
        .ipv4({ protocol: 253 })
        .payload([checksum >> 8, checksum & 255])
        .build(),
    );
    encapsulate(packet, record);
    expect(readEncapsulated(bytesOf(packet)).udp).toMatchObject({ checksum: 0xffff, checksumRight: true });
  });

  it.each([
    [4, ['10.0.0.12'], 0],
    [4, ['10.0.0.12', '10.0.0.13', '10.0.0.14'], 0],
    [6, ['fd00::12'], 1],
    [6, ['fd00::12', 'fd00::13', 'fd00::14'], 1],
  ] as const)('lists the further hops of a chain over IPv%i: %j', (family, hops, type) => {
    for (const checksum of ['zero', 'computed'] as const) {
      const outer = family === 4 ? outer4 : outer6;
      const record = backendRecord({ kind: 'gue', variant: 0, checksum, ...outer });
      const { packet, inner } = frameOf(6, 1, 0, 33);
      const words = hopWords(...hops);
      expect(encapsulate(packet, record, 99, words)).toBe(DropReason.none);
      const read = readEncapsulated(bytesOf(packet));
      expect(read.gue).toEqual({ variant: 0, protocol: 41, chain: { type, nextHop: 0, hops } });
      expect(read.inner).toEqual(inner);
      expect(read.udp!.checksumRight).toBe(checksum === 'computed');
      expect(packet.length - 18 - inner.length).toBe(outerOverhead(record, 0, words.length));
    }
  });

  it("writes GLB Director's chain bit for bit", () => {
    const { packet } = frameOf(4, 0, 0, 4);
    const record = backendRecord({ kind: 'gue', variant: 0, port: 19523, ...outer4 });
    encapsulate(packet, record, 0, hopWords('10.0.0.12', '10.0.0.13'));
    const gue = Buffer.from(bytesOf(packet)).subarray(14 + 20 + 8, 14 + 20 + 8 + 16);
    // Version 0 and three words; IPv4 inside; no flags. Type 0, next hop 0, two hops.
    expect(gue.toString('hex')).toBe('03040000' + '00000002' + '0a00000c' + '0a00000d');
  });

  it('leaves a chain out where there is no header for it', () => {
    for (const sketch of [{ kind: 'ipip' }, { kind: 'gue', variant: 1 }] as const) {
      const { packet, inner } = frameOf(4, 0, 0, 4);
      expect(encapsulate(packet, backendRecord({ ...sketch, ...outer4 }), 0, hopWords('10.0.0.12'))).toBe(0);
      expect(readEncapsulated(bytesOf(packet)).inner).toEqual(inner);
    }
  });

  it('wraps a fragment like any packet, and cuts padding off', () => {
    const frame = new PacketBuilder()
      .ethernet()
      .ipv4({ moreFragments: true, fragmentOffset: 185, protocol: 17 })
      .payload(8)
      .padTo(60)
      .build();
    const packet = parsed(frame);
    expect(encapsulate(packet, backendRecord({ kind: 'gue', ...outer4 }))).toBe(DropReason.none);
    expect(readEncapsulated(bytesOf(packet)).inner).toEqual(frame.subarray(14, 14 + 28));
  });

  it.each(kinds.map(([name, sketch]) => ({ name, sketch })))(
    '$name: the largest packet that fits passes, one byte more and too little headroom leave it as it was',
    ({ sketch }) => {
      const hops = sketch.variant === 0 ? hopWords('fd00::12', 'fd00::13') : hopWords();
      for (const outer of [outer4, outer6]) {
        const mtu = 1400;
        const record = backendRecord({ ...sketch, ...outer, mtu });
        const room = innerMtu(record, 0, hops.length);
        expect(room).toBe(mtu - outerOverhead(record, 0, hops.length));
        const frame = (bytes: number) =>
          new PacketBuilder()
            .ethernet()
            .ipv4({ protocol: 253 })
            .payload(bytes - 20)
            .build();
        const fits = parsed(frame(room));
        expect(encapsulate(fits, record, 1, hops)).toBe(DropReason.none);
        expect(fits.length).toBe(14 + mtu);
        const tooBig = parsed(frame(room + 1));
        expect(encapsulate(tooBig, record, 1, hops)).toBe(DropReason.tooBig);
        expect(bytesOf(tooBig)).toEqual(frame(room + 1));

        const small = frame(100);
        const needed = outerOverhead(record, 0, hops.length);
        const cramped = place(small, needed - 1);
        parse(cramped);
        expect(encapsulate(cramped, record, 1, hops)).toBe(DropReason.noHeadroom);
        expect(bytesOf(cramped)).toEqual(small);
        const tight = place(small, needed);
        parse(tight);
        expect(encapsulate(tight, record, 1, hops)).toBe(DropReason.none);
        expect(tight.data).toBe(CHUNK);
      }
    },
  );
});

describe('encapsulation l2', () => {
  for (const [family, tags] of [4, 6].flatMap((f) => [0, 1, 2].map((t) => [f, t] as [4 | 6, number]))) {
    it(`rewrites the Ethernet addresses of IPv${family} with ${tags} tags and nothing else`, () => {
      const { packet, frame } = frameOf(family, tags, 0xb9, 30);
      // No address of the backend's is in the packet, so its family does not matter.
      for (const { address } of [outer4, outer6]) {
        expect(encapsulate(packet, backendRecord({ kind: 'l2', address }))).toBe(DropReason.none);
        const macs = Buffer.from((DMAC + SMAC).replaceAll(':', ''), 'hex');
        expect(Buffer.from(bytesOf(packet))).toEqual(Buffer.concat([macs, frame.subarray(12)]));
      }
    });
  }

  it('needs no headroom, and checks the MTU without overhead', () => {
    const frame = new PacketBuilder().ethernet().ipv4({ protocol: 253, ttl: 1 }).payload(1480).build();
    const packet = place(frame, 0);
    parse(packet);
    expect(encapsulate(packet, backendRecord({ kind: 'l2', mtu: 1500 }))).toBe(DropReason.none);
    const tooBig = parsed(frame);
    expect(encapsulate(tooBig, backendRecord({ kind: 'l2', mtu: 1499 }))).toBe(DropReason.tooBig);
    expect(bytesOf(tooBig)).toEqual(frame);
  });

  it.each([
    [28, 80, 60],
    [28, 60, 60],
    [28, 50, 50],
    [100, 140, 114],
  ])('of %i bytes of IP in a frame of %i sends %i: padding stays, trailers do not', (ip, frame, sent) => {
    const built = new PacketBuilder()
      .ethernet()
      .ipv4({ protocol: 253 })
      .payload(ip - 20);
    const packet = parsed(built.padTo(frame).build());
    encapsulate(packet, backendRecord({ kind: 'l2' }));
    expect(packet.length).toBe(sent);
  });
});

describe('backend records', () => {
  const flags = (sketch: BackendSketch) => backendRecord(sketch)[BackendField.flags];

  it('mark all but IP in IP from one address as special', () => {
    const special = (sketch: BackendSketch) => (flags(sketch) & BackendFlag.special) !== 0;
    expect([special({ ...outer4 }), special({ ...outer6 }), special({ source: '' })]).toEqual([false, false, false]);
    for (const sketch of [
      { kind: 'gue' },
      { kind: 'l2' },
      { katran: true },
      { source: '10.1.0.0/16' },
      { address: 'fd00::11', source: 'fd00:1::/64' },
    ] as BackendSketch[]) {
      expect(special(sketch), JSON.stringify(sketch)).toBe(true);
    }
  });

  it('take no way by a router without an outer header', () => {
    const resolved = (sketch: BackendSketch) => (flags(sketch) & BackendFlag.resolved) !== 0;
    expect(resolved({ kind: 'l2' })).toBe(true);
    expect(resolved({ kind: 'l2', gateway: '10.0.0.1' })).toBe(false);
    expect(resolved({ kind: 'gue', gateway: '10.0.0.1' })).toBe(true);
  });

  it('hold the host bits of the source as a mask', () => {
    const masks = (sketch: BackendSketch) => {
      const record = backendRecord(sketch);
      return [...record.subarray(BackendField.entropy0, BackendField.entropy0 + 4)].map((word) => word >>> 0);
    };
    expect(masks({ source: '10.1.0.0/16' })).toEqual([0xffff, 0, 0, 0]);
    expect(masks({ source: '10.1.0.0' })).toEqual([0, 0, 0, 0]);
    expect(masks({ address: 'fd00::11', source: 'fd00:1::/60' })).toEqual([0, 0xf, 0xffffffff, 0xffffffff]);
    expect(masks({ katran: true })).toEqual([0xffff, 0, 0, 0]);
    expect(masks({ katran: true, address: 'fd00::11' })).toEqual([0, 0, 0, 0xffffffff]);
    expect(masks({ katran: true, kind: 'gue' })).toEqual([0, 0, 0, 0]);
  });
});

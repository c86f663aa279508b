/** The view of a frame: its invariants under any sequence of adjustments, and the packet turned round. */
import { describe, expect, it } from 'vitest';
import { Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { turnAround } from '../../src/dataplane/packet/turn_around.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { MemoryPort } from '../../src/dataplane/ports/memory.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { bytesOf, CHUNK, HEADROOM, parsed, place, random } from '../support/packets.js';

const seed = Number(process.env.SEED ?? 20260);

/** What must hold of a packet at any time (features.md X5). */
function check(packet: Packet): void {
  const { dataHardStart, dataMeta, data, dataEnd, dataHardEnd } = packet;
  const text = JSON.stringify({ seed, dataHardStart, dataMeta, data, dataEnd, dataHardEnd });
  const holds =
    dataHardStart <= dataMeta && dataMeta <= data && data + 14 <= dataEnd && dataEnd <= dataHardEnd &&
    dataHardStart % CHUNK === 0 && dataHardEnd - dataHardStart === CHUNK; // prettier-ignore
  if (!holds) throw new Error(text);
}

const state = ({ dataMeta, data, dataEnd }: Packet) => [dataMeta, data, dataEnd];

describe('a packet in its frame', () => {
  it('keeps hard start ≤ meta ≤ data < end ≤ hard end in its own chunk, whatever is asked of it', () => {
    const next = random(seed);
    /** Small steps, steps of the size of a chunk, and steps that overflow int32. */
    const delta = () => {
      const kind = next();
      const size = kind < 0.7 ? 64 : kind < 0.95 ? 2 * CHUNK : 2 ** 32;
      return Math.trunc((next() * 2 - 1) * size);
    };
    const outcomes = { true: 0, false: 0 };
    for (let round = 0; round < 300; round++) {
      const packet = place(new Uint8Array(14 + Math.trunc(next() * 1700)));
      const chunk = packet.dataHardStart;
      for (let step = 0; step < 60; step++) {
        const before = state(packet);
        const by = delta();
        const which = next();
        const done = which < 0.4 ? packet.adjustHead(by) : which < 0.7 ? packet.adjustTail(by) : packet.adjustMeta(by);
        check(packet);
        expect(packet.dataHardStart).toBe(chunk);
        if (!done) expect(state(packet), `seed ${seed}: refused, and yet changed`).toEqual(before);
        outcomes[`${done}`]++;
      }
    }
    // Both happened, or the test tests nothing.
    expect(outcomes.true).toBeGreaterThan(2000);
    expect(outcomes.false).toBeGreaterThan(2000);
  });

  it('moves by exactly what was asked, up to the last byte of its room', () => {
    const packet = place(new Uint8Array(100));
    expect(packet.adjustHead(-HEADROOM)).toBe(true);
    expect([packet.data, packet.length]).toEqual([CHUNK, 100 + HEADROOM]);
    expect(packet.adjustHead(-1)).toBe(false);
    expect(packet.adjustHead(HEADROOM + 86)).toBe(true);
    expect(packet.length).toBe(14);
    expect(packet.adjustHead(1)).toBe(false);
    expect(packet.adjustTail(-1)).toBe(false);
    expect(packet.adjustTail(packet.dataHardEnd - packet.dataEnd)).toBe(true);
    expect(packet.dataEnd).toBe(2 * CHUNK);
    expect(packet.adjustTail(1)).toBe(false);
  });

  it('has metadata in front of it, which a moved head drops', () => {
    const packet = place(new Uint8Array(100));
    expect(packet.dataMeta).toBe(packet.data);
    expect(packet.adjustMeta(-32)).toBe(true);
    expect(packet.data - packet.dataMeta).toBe(32);
    expect(packet.adjustMeta(33)).toBe(false);
    expect(packet.adjustMeta(16)).toBe(true);
    expect(packet.metaLength).toBe(16);
    expect(packet.adjustMeta(-HEADROOM)).toBe(false);
    expect(packet.adjustHead(4)).toBe(true);
    expect(packet.dataMeta).toBe(packet.data);
  });

  it('forgets the packet before it in its slot', () => {
    const packet = place(new Uint8Array(100));
    packet.adjustMeta(-8);
    packet.place(2 * CHUNK + HEADROOM, 60);
    expect(state(packet)).toEqual([2 * CHUNK + HEADROOM, 2 * CHUNK + HEADROOM, 2 * CHUNK + HEADROOM + 60]);
    expect(packet.dataHardStart).toBe(2 * CHUNK);
  });

  it('works in the first chunk and in chunks of 4096 bytes', () => {
    const packet = new Packet(new DataView(new ArrayBuffer(8192)), 4096);
    packet.place(256, 60);
    expect([packet.dataHardStart, packet.dataHardEnd]).toEqual([0, 4096]);
    expect(packet.adjustHead(-257)).toBe(false);
    expect(packet.adjustHead(-256)).toBe(true);
    expect(packet.adjustTail(4096 - 316)).toBe(true);
    expect(packet.length).toBe(4096);
  });

  it('comes from a port with at least 256 bytes of room in front', () => {
    const pool = new MemoryPool({ frameCount: 64, chunkSize: CHUNK });
    const port = new MemoryPort(pool, { index: 0, name: 'mem0' });
    for (let i = 0; i < 16; i++) port.inject(new Uint8Array(60 + i));
    expect(port.exchange()).toBe(16);
    const packet = new Packet(new DataView(pool.memory), CHUNK);
    for (let i = 0; i < 16; i++) {
      packet.place(port.burst.offset[i], port.burst.length[i]);
      check(packet);
      expect(packet.data - packet.dataHardStart).toBeGreaterThanOrEqual(256);
    }
  });
});

describe('a packet turned round', () => {
  const udp4 = () => new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.2' });
  const there = { sport: 1111, dport: 7 };
  const back = { sport: 7, dport: 1111 };
  const macs = { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' };
  const ip4 = { src: '198.51.100.2', dst: '192.0.2.1' };
  const ip6 = { src: '2001:db8::2', dst: '2001:db8::1' };

  const pairs: [string, PacketBuilder, PacketBuilder][] = [
    ['UDP over IPv4', udp4().udp(there), new PacketBuilder().ethernet(macs).ipv4(ip4).udp(back)],
    ['TCP over IPv4', udp4().tcp(there), new PacketBuilder().ethernet(macs).ipv4(ip4).tcp(back)],
    ['ICMP, which has no ports', udp4().icmp(), new PacketBuilder().ethernet(macs).ipv4(ip4).icmp()],
    [
      'IPv4 with options',
      new PacketBuilder()
        .ethernet()
        .ipv4({ ...{ src: ip4.dst, dst: ip4.src }, options: [7, 4, 4, 0] })
        .udp(there),
      new PacketBuilder()
        .ethernet(macs)
        .ipv4({ ...ip4, options: [7, 4, 4, 0] })
        .udp(back),
    ],
    [
      'UDP over IPv6 behind two VLAN tags',
      new PacketBuilder().ethernet().vlan(5, { tpid: 0x88a8 }).vlan(6).ipv6().udp(there),
      new PacketBuilder().ethernet(macs).vlan(5, { tpid: 0x88a8 }).vlan(6).ipv6(ip6).udp(back),
    ],
  ];

  it.each(pairs)('is the same in the other direction, checksums right: %s', (_name, forth, reply) => {
    const packet = parsed(forth.payload('hello').build());
    expect(turnAround(packet)).toBe(true);
    expect(bytesOf(packet)).toEqual(reply.payload('hello').build());
  });

  it('agrees with what the parser finds in it, and is itself again after two turns', () => {
    for (const [, forth] of pairs) {
      const frame = forth.build();
      const packet = parsed(frame);
      turnAround(packet);
      const fresh = new Packet(packet.view, CHUNK);
      fresh.place(packet.data, packet.length);
      parse(fresh);
      const fields = ({ src0, src3, dst0, dst3, ports, protocol, l3, l4, flags }: Packet) =>
        [src0, src3, dst0, dst3, ports, protocol, l3, l4, flags]; // prettier-ignore
      expect(fields(packet)).toEqual(fields(fresh));
      turnAround(packet);
      expect(bytesOf(packet)).toEqual(frame);
    }
  });

  it.each([
    ['ARP', new PacketBuilder().ethernet({ type: 0x0806 }).payload(new Uint8Array(28))],
    ['a malformed packet', new PacketBuilder().ethernet().ipv4({ ihl: 4 }).udp(there)],
    ['an Ethernet broadcast', new PacketBuilder().ethernet({ dst: 'ff:ff:ff:ff:ff:ff' }).ipv4().udp(there)],
    ['an IPv4 multicast', new PacketBuilder().ethernet().ipv4({ dst: '224.0.0.1' }).udp(there)],
    ['the limited broadcast', new PacketBuilder().ethernet().ipv4({ dst: '255.255.255.255' }).udp(there)],
    ['an IPv6 multicast', new PacketBuilder().ethernet().ipv6({ dst: 'ff02::1' }).udp(there)],
  ])('is refused, and left alone, when it is %s', (_name, builder) => {
    const frame = builder.build();
    const packet = parsed(frame);
    expect(turnAround(packet)).toBe(false);
    expect(bytesOf(packet)).toEqual(frame);
  });
});

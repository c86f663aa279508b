import { describe, expect, it } from 'vitest';
import { transportChecksum } from '../../src/dataplane/packet/checksum.js';
import { clampMss, mssOf } from '../../src/dataplane/packet/mss.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { bytesOf, parsed, random } from '../support/packets.js';

const syn = (options: number[], flags: number = TCP.SYN, family: 4 | 6 = 4) => {
  const builder = new PacketBuilder().ethernet();
  return (family === 4 ? builder.ipv4() : builder.ipv6()).tcp({ flags, options, seq: 0x01020304 });
};
const mss = (value: number) => [2, 4, value >> 8, value & 255];
const LINUX = [...mss(1460), 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];

describe('the MSS of a SYN', () => {
  it.each([
    ['IPv4', 4],
    ['IPv6', 6],
  ] as const)('is lowered, and nothing else but the checksum changes: %s', (_, family) => {
    const frame = syn(LINUX, TCP.SYN, family).build();
    const packet = parsed(frame);
    expect(clampMss(packet, 1400)).toBe(true);
    const expected = syn([...mss(1400), ...LINUX.slice(4)], TCP.SYN, family).build();
    expect(bytesOf(packet)).toEqual(expected);
  });

  it('is lowered on a SYN-ACK', () => {
    const packet = parsed(syn(LINUX, TCP.SYN | TCP.ACK).build());
    expect(clampMss(packet, 1400)).toBe(true);
    expect(bytesOf(packet)).toEqual(syn([...mss(1400), ...LINUX.slice(4)], TCP.SYN | TCP.ACK).build());
  });

  it.each([1, 2, 3, 4])('is found behind %i bytes of padding, at odd places too', (padding) => {
    const before = Array.from({ length: padding }, () => 1);
    const packet = parsed(syn([...before, ...mss(9000)]).build());
    expect(clampMss(packet, 0x0123)).toBe(true);
    expect(bytesOf(packet)).toEqual(syn([...before, ...mss(0x0123)]).build());
  });

  it.each([
    ['lower already', LINUX, TCP.SYN, 1461],
    ['just that', LINUX, TCP.SYN, 1460],
    ['not there', [1, 3, 3, 7], TCP.SYN, 500],
    ['of a wrong length', [2, 3, 9, 9], TCP.SYN, 500],
    ['behind the end of options', [0, 0, 0, 0, ...mss(1460)], TCP.SYN, 500],
    ['on no SYN', LINUX, TCP.ACK, 500],
  ])('stays when it is %s', (_, options, flags, limit) => {
    const frame = syn(options, flags).build();
    const packet = parsed(frame);
    expect(clampMss(packet, limit)).toBe(false);
    expect(bytesOf(packet)).toEqual(frame);
  });

  it('stays in what is not TCP', () => {
    const frame = new PacketBuilder().ethernet().ipv4().udp().payload(LINUX).build();
    const packet = parsed(frame);
    expect(clampMss(packet, 100)).toBe(false);
    expect(bytesOf(packet)).toEqual(frame);
  });

  it('always leaves a right checksum right, whatever the values and places', () => {
    const next = random(5);
    let lowered = 0;
    for (let round = 0; round < 3000; round++) {
      const padding = Array.from({ length: Math.floor(next() * 9) }, () => 1);
      const packet = parsed(
        syn([...padding, ...mss(Math.floor(next() * 65536))])
          .payload(round & 31)
          .build(),
      );
      if (clampMss(packet, Math.floor(next() * 65536))) lowered++;
      const sent = packet.view.getUint16(packet.l4 + 16);
      // 0 and 0xffff are the same sum.
      expect(sent === 0 ? 0xffff : sent).toBe(transportChecksum(packet) || 0xffff);
    }
    expect(lowered).toBeGreaterThan(1000);
  });

  it('fits the packet: 40 and 60 bytes less', () => {
    expect([mssOf(1500, 4), mssOf(1500, 6), mssOf(1480, 4), mssOf(1452, 6)]).toEqual([1460, 1440, 1440, 1392]);
    expect(mssOf(80, 6)).toBe(64);
  });
});

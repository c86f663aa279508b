import { describe, expect, it } from 'vitest';
import {
  internetChecksum,
  onesComplementSum,
  PacketBuilder,
  PROTO,
  pseudoHeaderSum,
  TCP,
} from '../support/packet_builder.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

describe('PacketBuilder', () => {
  it('writes the IPv4 header that RFC 1071 examples give', () => {
    // The header of Wikipedia's "Internet checksum" example: 4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7.
    const packet = new PacketBuilder()
      .ipv4({ src: '192.168.0.1', dst: '192.168.0.199', dontFragment: true, protocol: 17 })
      .payload(95)
      .build();
    expect(hex(packet.subarray(0, 20))).toBe('45000073000040004011b861c0a80001c0a800c7');
  });

  it('fills EtherTypes, protocols and lengths from what follows', () => {
    const packet = new PacketBuilder()
      .ethernet({ src: '02:00:00:00:00:0a', dst: '02:00:00:00:00:0b' })
      .vlan(100, { tpid: 0x88a8, priority: 5 })
      .vlan(7)
      .ipv6({ src: '2001:db8::a', dst: '2001:db8::b', trafficClass: 0xb9, flowLabel: 0x12345 })
      .extension(PROTO.HOPOPTS)
      .fragment({ offset: 3, more: true, id: 0xdeadbeef })
      .udp({ sport: 1, dport: 2 })
      .payload([1, 2, 3])
      .build();
    expect(hex(packet)).toBe(
      '02000000000b02000000000a' +
        '88a8a064' +
        '81000007' +
        '86dd' +
        '6b912345001b0040' +
        '20010db800000000000000000000000a20010db800000000000000000000000b' +
        '2c00010400000000' +
        '11000019deadbeef' +
        `00010002000b${hex(packet.subarray(84, 86))}` +
        '010203',
    );
  });

  it.each([4, 6] as const)('computes L4 checksums that verify over IPv%d, odd lengths included', (family) => {
    for (const protocol of ['tcp', 'udp', 'icmp'] as const) {
      for (const length of [0, 1, 2, 33]) {
        const builder = family === 4 ? new PacketBuilder().ipv4() : new PacketBuilder().ipv6();
        if (protocol === 'tcp') builder.tcp({ options: [2, 4, 5, 0xb4, 1] });
        else if (protocol === 'udp') builder.udp();
        else if (family === 4) builder.icmp();
        else builder.icmp6();
        const packet = builder.payload(length).build();
        const size = family === 4 ? 20 : 40;
        const segment = packet.subarray(size);
        const number = packet[family === 4 ? 9 : 6]!;
        const [src, dst] =
          family === 4
            ? [packet.subarray(12, 16), packet.subarray(16, 20)]
            : [packet.subarray(8, 24), packet.subarray(24, 40)];
        const pseudo = number === PROTO.ICMP ? 0 : pseudoHeaderSum(src, dst, number, segment.length);
        expect(internetChecksum(segment, pseudo), `${protocol} ${length}`).toBe(0);
        expect(number).toBe({ tcp: 6, udp: 17, icmp: family === 4 ? 1 : 58 }[protocol]);
      }
    }
  });

  it('sends a UDP checksum of zero as ffff, and leaves it out when told to', () => {
    const build = (rest: number, checksum?: number): Uint8Array =>
      new PacketBuilder()
        .ipv4({ src: '0.0.0.0', dst: '0.0.0.0' })
        .udp({ sport: 0, dport: 0, checksum })
        .payload([rest >> 8, rest & 0xff])
        .build();
    // Pseudo-header: 17 + 10; header: length 10. A payload that completes the sum to ffff makes the checksum 0.
    expect(view(build(0xffff - 37)).getUint16(26)).toBe(0xffff);
    expect(view(build(5, 0)).getUint16(26)).toBe(0);
  });

  it("leaves the pseudo-header sum alone for checksum: 'pseudo'", () => {
    const packet = new PacketBuilder().ipv4().udp({ checksum: 'pseudo' }).payload(4).build();
    expect(view(packet).getUint16(26)).toBe(pseudoHeaderSum(packet.subarray(12, 16), packet.subarray(16, 20), 17, 12));
  });

  it('nests IP in IP with the inner checksum over the inner addresses', () => {
    const inner = new PacketBuilder().ipv4({ src: '198.51.100.1', dst: '203.0.113.1' }).tcp({ flags: TCP.SYN }).build();
    const outer = new PacketBuilder()
      .ethernet()
      .ipip({ src: '2001:db8::1', dst: '2001:db8::2', tos: 3 })
      .ipv4({ src: '198.51.100.1', dst: '203.0.113.1' })
      .tcp({ flags: TCP.SYN })
      .build();
    expect(outer[14 + 6]).toBe(PROTO.IPIP);
    expect(view(outer).getUint16(14)).toBe(0x6030);
    expect(hex(outer.subarray(54))).toBe(hex(inner));
    const sixInFour = new PacketBuilder().ipip({ src: '10.0.0.1', dst: '10.0.0.2' }).ipv6().udp().build();
    expect(sixInFour[9]).toBe(PROTO.IPV6);
    expect(view(sixInFour).getUint16(2)).toBe(68);
  });

  it('writes every field that an option overrides, even when it lies', () => {
    const packet = new PacketBuilder()
      .ethernet({ type: 0x1234 })
      .ipv4({
        version: 5,
        ihl: 4,
        totalLength: 9999,
        checksum: 0xabcd,
        fragmentOffset: 0x1fff,
        moreFragments: true,
        ttl: 0,
      })
      .tcp({ dataOffset: 15, checksum: 1, seq: 0xffffffff, flags: 0xff })
      .build();
    expect(hex(packet.subarray(12, 26))).toBe('123454' + '00270f' + '0000' + '3fff' + '0006' + 'abcd');
    expect(hex(packet.subarray(38, 42))).toBe('ffffffff');
    expect(hex(packet.subarray(46, 52))).toBe('f0ff' + 'ffff' + '0001');
  });

  it('pads options to words and frames to a minimum; trailers count in no length field', () => {
    const packet = new PacketBuilder()
      .ethernet()
      .ipv4({ options: [7, 3, 4] })
      .trailer([9])
      .padTo(60)
      .build();
    expect(packet.length).toBe(60);
    expect(packet[14]).toBe(0x46);
    expect(view(packet).getUint16(16)).toBe(24);
    expect(internetChecksum(packet.subarray(14, 38))).toBe(0);
    expect(packet[38]).toBe(9);
  });

  it('refuses addresses of the wrong family and bad MACs', () => {
    expect(() => new PacketBuilder().ipv4({ src: '::1' })).toThrow(RangeError);
    expect(() => new PacketBuilder().ethernet({ src: '02:00' }).build()).toThrow(RangeError);
  });

  it('folds carries of long sums', () => {
    expect(onesComplementSum(new Uint8Array(131072).fill(0xff))).toBe(0xffff);
    expect(internetChecksum(Uint8Array.from([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]))).toBe(0x220d);
  });
});

import { describe, expect, it } from 'vitest';
import { portKeyOf } from '../../src/shared/sets/index.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

const v4 = (): PacketBuilder => new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.1' });
const v6 = (): PacketBuilder => new PacketBuilder().ethernet().ipv6({ src: '2001:db8::1', dst: '2001:db8::2' });
const proto = (protocol: number): PacketBuilder =>
  new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.1', protocol });
const ports = [0x04, 0xd2, 0x00, 0x50, 0, 0, 0, 0, 0, 0, 0, 0];
const key = (builder: PacketBuilder, destination: boolean): number => portKeyOf(parsed(builder.build()), destination);

describe('the port of a packet, as ipset sees it', () => {
  it.each<[string, PacketBuilder, number, number]>([
    ['TCP', v4().tcp({ sport: 1234, dport: 80 }), (6 << 16) | 1234, (6 << 16) | 80],
    ['UDP over IPv6', v6().udp({ sport: 1234, dport: 80 }), (17 << 16) | 1234, (17 << 16) | 80],
    ['SCTP', proto(132).payload(ports), (132 << 16) | 1234, (132 << 16) | 80],
    ['UDP-Lite', proto(136).payload(ports), (136 << 16) | 1234, (136 << 16) | 80],
    ['ICMP', v4().icmp({ type: 3, code: 4 }), (1 << 16) | 0x304, (1 << 16) | 0x304],
    ['ICMPv6', v6().icmp6({ type: 129, code: 0 }), (58 << 16) | 0x8100, (58 << 16) | 0x8100],
    ['GRE', proto(47).payload(ports), 47 << 16, 47 << 16],
    ['DCCP, whose ports ipset does not know', proto(33).payload(ports), 33 << 16, 33 << 16],
    [
      'a first fragment',
      v6().fragment({ more: true }).udp({ sport: 1234, dport: 80 }),
      (17 << 16) | 1234,
      (17 << 16) | 80,
    ],
    ['a later fragment of IPv6', v6().fragment({ offset: 64 }).payload(ports), -1, -1],
  ])('%s', (_name, builder, source, destination) => {
    expect(key(builder, false)).toBe(source);
    expect(key(builder, true)).toBe(destination);
  });

  it('of a later fragment is not known where the protocol has ports, and 0 where it has none', () => {
    for (const [protocol, expected] of [
      [6, -1],
      [17, -1],
      [132, -1],
      [136, -1],
      [1, -1],
      [47, 47 << 16],
      [50, 50 << 16],
    ]) {
      // prettier-ignore
      const frame = proto(protocol).payload(ports).build();
      new DataView(frame.buffer, frame.byteOffset).setUint16(14 + 6, 8);
      expect(portKeyOf(parsed(frame), true), `protocol ${protocol}`).toBe(expected);
    }
  });

  it('of a malformed packet is not known', () => {
    expect(key(proto(6).payload([0, 80, 0, 80]), true)).toBe(-1);
    expect(key(proto(1).payload([8]), true)).toBe(-1);
    expect(key(proto(132).payload([0, 80]), true)).toBe(-1);
  });
});

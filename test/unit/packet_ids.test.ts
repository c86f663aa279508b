/** Readers of ids and options in packets: QUIC headers, Katran's connection ids, stable UDP, TCP options. */
import { describe, expect, it } from 'vitest';
import { katranServerId } from '../../src/dataplane/packet/katran_cid.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { QuicHeader, QuicPacketType } from '../../src/dataplane/packet/quic.js';
import { stableUdpServerId } from '../../src/dataplane/packet/stable_udp.js';
import { findTcpOption, mssOptionOffset, tcpServerId } from '../../src/dataplane/packet/tcp_options.js';
import { guardedPacket } from '../support/guarded_view.js';
import { PacketBuilder, type UdpOptions } from '../support/packet_builder.js';
import { random } from '../support/packets.js';

const udp = (payload: readonly number[], options: UdpOptions = {}, ipv6 = false): Packet => {
  const ip = new PacketBuilder().ethernet();
  if (ipv6) ip.ipv6({ src: 'fc00::1', dst: 'fc00::2' });
  else ip.ipv4({ src: '192.0.2.1', dst: '192.0.2.2' });
  return guardedPacket(ip.udp(options).payload(payload).build());
};

const tcp = (options: readonly number[], more: { flags?: number } = {}): Packet =>
  guardedPacket(
    new PacketBuilder()
      .ethernet()
      .ipv4({ src: '192.0.2.1', dst: '192.0.2.2' })
      .tcp({ options, ...more })
      .payload('data')
      .build(),
  );

const V1 = [0, 0, 0, 1];
const V2 = [0x6b, 0x33, 0x43, 0xcf];
const long = (first: number, version: readonly number[], cid: readonly number[]): number[] => [
  first,
  ...version,
  cid.length,
  ...cid,
  0,
  1,
  2,
];
const CID = [0x41, 1, 2, 3, 4, 5, 6, 7];

function header(packet: Packet): Record<string, number | boolean> | null {
  const quic = new QuicHeader();
  if (!quic.read(packet)) return null;
  const { type, version, cidBytes, mayStartConnection } = quic;
  return { type, version, cid: quic.cid - packet.l4 - 8, cidBytes, mayStartConnection };
}

describe('QUIC headers', () => {
  it.each([
    ['Initial', 0xc3, V1, QuicPacketType.initial],
    ['0-RTT', 0xd3, V1, QuicPacketType.zeroRtt],
    ['Handshake', 0xe3, V1, QuicPacketType.handshake],
    ['Retry', 0xf3, V1, QuicPacketType.retry],
    ['Initial of version 2', 0xd3, V2, QuicPacketType.initial],
    ['0-RTT of version 2', 0xe3, V2, QuicPacketType.zeroRtt],
    ['Handshake of version 2', 0xf3, V2, QuicPacketType.handshake],
    ['Retry of version 2', 0xc3, V2, QuicPacketType.retry],
    ['Initial of draft 29', 0xc3, [0xff, 0, 0, 29], QuicPacketType.initial],
    ['version negotiation', 0xf3, [0, 0, 0, 0], QuicPacketType.versionNegotiation],
    ['Initial with a greased fixed bit', 0x83, V1, QuicPacketType.initial],
  ])('long: %s', (_name, first, version, type) => {
    for (const ipv6 of [false, true]) {
      expect(header(udp(long(first, version, CID), {}, ipv6))).toEqual({
        type,
        version: new DataView(Uint8Array.from(version).buffer).getInt32(0),
        cid: 6,
        cidBytes: 8,
        mayStartConnection: type === QuicPacketType.initial || type === QuicPacketType.zeroRtt,
      });
    }
  });

  it('short: the connection id starts behind the first byte, its length unknown', () => {
    const expected = { type: QuicPacketType.short, version: 0, cid: 1, cidBytes: 8, mayStartConnection: false };
    expect(header(udp([0x43, ...CID]))).toEqual(expected);
    expect(header(udp([0x03, ...CID]))).toEqual(expected);
    expect(header(udp([0x43]))).toEqual({ ...expected, cidBytes: 0 });
  });

  it('an empty connection id, and the longest', () => {
    expect(header(udp(long(0xc3, V1, [])))).toMatchObject({ cid: 6, cidBytes: 0 });
    expect(header(udp(long(0xc3, V1, Array<number>(255).fill(1))))).toMatchObject({ cidBytes: 255 });
  });

  it('no header: nothing there, cut off, not UDP, a later fragment', () => {
    expect(header(udp([]))).toBe(null);
    const whole = long(0xc3, V1, CID).slice(0, 14);
    for (let length = 1; length < whole.length; length++) expect(header(udp(whole.slice(0, length)))).toBe(null);
    expect(header(udp(whole))).toMatchObject({ cidBytes: 8 });
    expect(header(tcp([]))).toBe(null);
    const fragment = new PacketBuilder()
      .ethernet()
      .ipv4({ src: '192.0.2.1', dst: '192.0.2.2', fragmentOffset: 3, protocol: 17 });
    expect(header(guardedPacket(fragment.payload([0x43, ...CID]).build()))).toBe(null);
  });

  it('ends where UDP says, not where the frame does', () => {
    expect(header(udp([0x43, ...CID], { length: 8 + 3 }))).toMatchObject({ cidBytes: 2 });
    expect(header(udp(long(0xe3, V1, CID), { length: 8 + 10 }))).toBe(null);
  });
});

describe("Katran's connection ids", () => {
  const idOf = (payload: readonly number[]): number => {
    const packet = udp(payload);
    const quic = new QuicHeader();
    return quic.read(packet) ? katranServerId(packet.view, quic) : -1;
  };
  const tail = [9, 9, 9, 9, 9, 9, 9];

  it.each([
    ['version 1, 16 bits', [0x41, 0x00, 0x00], 0x0400],
    ['version 1, all of its bits', [0x7f, 0xff, 0xff], 0xffff],
    ['version 1, the low two', [0x40, 0x00, 0xc0], 3],
    ['version 2, 24 bits', [0x80, 0x03, 0x04, 0x01], 0x030401],
    ['version 2, all of its bits', [0xbf, 0xff, 0xff, 0xff], 0xffffff],
    ['version 3, 32 bits', [0xc0, 0x01, 0x02, 0x03, 0x04], 0x01020304],
    ['version 3, above 2^31, where Katran takes it for negative', [0xc0, 0xff, 0xff, 0xff, 0xfe], -2],
    ['version 0', [0x3f, 1, 2, 3, 4], 0],
    ['id 0', [0x80, 0, 0, 0], 0],
  ])('%s', (_name, start, id) => {
    const cid = [...start, ...tail].slice(0, 8);
    expect(idOf([0x43, ...cid])).toBe(id);
    expect(idOf(long(0xe0, V1, cid))).toBe(id);
    expect(idOf(long(0xf0, V1, cid))).toBe(id);
  });

  it('none in first packets, and none in short ones', () => {
    expect(idOf(long(0xc0, V1, CID))).toBe(0);
    expect(idOf(long(0xd0, V1, CID))).toBe(0);
    expect(idOf(long(0xe0, V2, CID))).toBe(0);
    expect(idOf(long(0xe0, V1, CID.slice(0, 7)))).toBe(0);
    expect(idOf([0x43, ...CID.slice(0, 7)])).toBe(0);
    expect(idOf([0x43, ...CID])).toBe(0x0404);
  });
});

describe('stable UDP', () => {
  it.each([
    ['its three bytes', [0x52, 0x03, 0x04, 0x03, 0, 0, 0, 0], 0x030403],
    ['the largest', [0x52, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5], 0xffffff],
    ['id 0', [0x52, 0, 0, 0, 0, 0, 0, 0], 0],
    ['another first byte', [0x53, 1, 2, 3, 0, 0, 0, 0], 0],
    ['seven bytes', [0x52, 1, 2, 3, 0, 0, 0], 0],
    ['nothing', [], 0],
  ])('%s', (_name, payload, id) => {
    expect(stableUdpServerId(udp(payload))).toBe(id);
    expect(stableUdpServerId(udp(payload, {}, true))).toBe(id);
  });

  it('is not read behind the end of the datagram, nor in TCP', () => {
    expect(stableUdpServerId(udp([0x52, 1, 2, 3, 0, 0, 0, 0], { length: 8 + 7 }))).toBe(0);
    expect(stableUdpServerId(tcp([0x52, 1, 2, 3, 0, 0, 0, 0]))).toBe(0);
  });
});

describe('TCP options', () => {
  const id = [0xb7, 6, 0x01, 0x04, 0, 0];

  it.each([
    ['alone', id, 1025],
    ['little-endian, all four bytes', [0xb7, 6, 0x78, 0x56, 0x34, 0x12], 0x12345678],
    ['above 2^31', [0xb7, 6, 0xfe, 0xff, 0xff, 0xff], -2],
    ['behind a timestamp', [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, ...id], 1025],
    ['behind more padding than Katran looks at', [...Array<number>(34).fill(1), ...id], 1025],
    ['behind the end of the list', [0, ...id], 0],
    ['with another length', [0xb7, 4, 1, 4], 0],
    ['with a length beyond the header', [0xb7, 9, 1, 4, 0, 0, 0, 0], 0],
    ['behind an option of length 0', [3, 0, ...id], 0],
    ['behind an option of length 1', [3, 1, ...id], 0],
    ['behind an option that says it is longer than the header', [3, 200, ...id], 0],
    ['cut off', [1, 1, 1, 0xb7], 0],
    ["the servers' kind", [0xb6, 6, 1, 4, 0, 0], 0],
    ['no options', [], 0],
  ])("Katran's server id: %s", (_name, options, expected) => {
    expect(tcpServerId(tcp(options))).toBe(expected);
  });

  it('finds the maximum segment size where it is', () => {
    const packet = tcp([1, 1, 4, 2, 2, 4, 0x05, 0xb4], { flags: 2 });
    const at = mssOptionOffset(packet);
    expect(at - packet.l4).toBe(24);
    expect(packet.view.getUint16(at + 2)).toBe(1460);
    expect(mssOptionOffset(tcp([4, 2, 1, 1]))).toBe(0);
    expect(mssOptionOffset(udp([2, 4, 5, 180]))).toBe(0);
  });

  it('finds an option of two bytes at the very end', () => {
    const packet = tcp([1, 1, 4, 2]);
    expect(findTcpOption(packet, 4, 2) - packet.l4).toBe(22);
  });
});

describe('all of them', () => {
  it('read nothing outside the packet and never throw, whatever the bytes', () => {
    const next = random(21);
    const quic = new QuicHeader();
    for (let i = 0; i < 6000; i++) {
      const bytes = Array.from({ length: Math.floor(next() * 60) }, () => Math.floor(next() * 256));
      // Often what makes a reader go on.
      if (next() < 0.5 && bytes.length > 0) bytes[0] = [0x52, 0x43, 0xe0, 0xc0, 1, 0xb7][i % 6];
      const packet =
        i % 2 === 0
          ? udp(bytes, next() < 0.3 ? { length: 8 + Math.floor(next() * bytes.length) } : {}, i % 4 === 0)
          : tcp(bytes.slice(0, 40));
      if (quic.read(packet)) katranServerId(packet.view, quic);
      stableUdpServerId(packet);
      tcpServerId(packet);
      mssOptionOffset(packet);
    }
  });
});

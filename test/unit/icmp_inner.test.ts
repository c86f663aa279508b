import { describe, expect, it } from 'vitest';
import { isIcmpError } from '../../src/dataplane/packet/icmp.js';
import { readInner } from '../../src/dataplane/packet/icmp_quote.js';
import { Packet, PacketFlag } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { addressBytes, PacketBuilder, PROTO } from '../support/packet_builder.js';
import { guardedPacket } from '../support/guarded_view.js';
import { CHUNK, parsed, place, random } from '../support/packets.js';

const VIP = '192.0.2.1';
const CLIENT = '198.51.100.7';
const ROUTER = '203.0.113.9';
const VIP6 = '2001:db8::1';
const CLIENT6 = '2001:db8:c::7';
const ROUTER6 = '2001:db8:f::9';

/** What a backend sent to the client from the service's address. */
const answer = () => new PacketBuilder().ipv4({ src: VIP, dst: CLIENT, dontFragment: true });
const answer6 = () => new PacketBuilder().ipv6({ src: VIP6, dst: CLIENT6 });

function error4(quote: Uint8Array, type = 3, code = 4, rest = 1400): Uint8Array {
  return new PacketBuilder().ethernet().ipv4({ src: ROUTER, dst: VIP }).icmp({ type, code, rest }).quote(quote).build();
}

function error6(quote: Uint8Array, type = 2, code = 0, rest = 1400): Uint8Array {
  return new PacketBuilder()
    .ethernet()
    .ipv6({ src: ROUTER6, dst: VIP6 })
    .icmp6({ type, code, rest })
    .quote(quote)
    .build();
}

/** The flow of the message, which may be read no further than the frame goes; null where there is none. */
function inner(frame: Uint8Array): Packet | null {
  const packet = guardedPacket(frame);
  expect(packet.malformed).toBe(DropReason.none);
  expect(isIcmpError(packet)).toBe(true);
  const flow = new Packet(new DataView(new ArrayBuffer(0)), CHUNK);
  const reason = readInner(packet, flow);
  if (reason !== DropReason.none) expect(reason).toBe(DropReason.icmpInner);
  return reason === DropReason.none ? flow : null;
}

/** Words of an address. */
function words(text: string): number[] {
  const family = text.includes(':') ? 6 : 4;
  const bytes = new Uint8Array(16);
  bytes.set(addressBytes(text, family));
  const view = new DataView(bytes.buffer);
  return [0, 4, 8, 12].map((at) => view.getInt32(at));
}

const fields = (p: Packet) => ({
  family: p.family,
  src: [p.src0, p.src1, p.src2, p.src3],
  dst: [p.dst0, p.dst1, p.dst2, p.dst3],
  protocol: p.protocol,
  ports: [p.sourcePort, p.destinationPort],
  hasPorts: (p.flags & PacketFlag.hasPorts) !== 0,
});

const forward4 = { family: 4, src: words(CLIENT), dst: words(VIP), hasPorts: true };
const forward6 = { family: 6, src: words(CLIENT6), dst: words(VIP6), hasPorts: true };

describe('the flow that an ICMP error is about', () => {
  it.each([
    ['unreachable', 3, 1],
    ['fragmentation needed', 3, 4],
    ['port unreachable', 3, 3],
    ['time exceeded', 11, 0],
    ['parameter problem', 12, 0],
  ])('is the client’s, IPv4: %s', (_, type, code) => {
    const tcp = answer().tcp({ sport: 443, dport: 31337 }).payload(100).build();
    expect(fields(inner(error4(tcp, type, code))!)).toEqual({ ...forward4, protocol: PROTO.TCP, ports: [31337, 443] });
  });

  it.each([
    ['unreachable', 1],
    ['packet too big', 2],
    ['time exceeded', 3],
    ['parameter problem', 4],
  ])('is the client’s, IPv6: %s', (_, type) => {
    const udp = answer6().udp({ sport: 53, dport: 4000 }).payload(100).build();
    expect(fields(inner(error6(udp, type))!)).toEqual({ ...forward6, protocol: PROTO.UDP, ports: [4000, 53] });
  });

  it('is the same as that of the client’s own packets, field for field', () => {
    const tcp = { sport: 31337, dport: 443 };
    const request = parsed(new PacketBuilder().ethernet().ipv4({ src: CLIENT, dst: VIP }).tcp(tcp).build());
    const quoted = answer().tcp({ sport: 443, dport: 31337 }).build();
    expect(fields(inner(error4(quoted))!)).toEqual(fields(request));
    const request6 = parsed(new PacketBuilder().ethernet().ipv6({ src: CLIENT6, dst: VIP6 }).tcp(tcp).build());
    const quoted6 = answer6().tcp({ sport: 443, dport: 31337 }).build();
    expect(fields(inner(error6(quoted6))!)).toEqual(fields(request6));
  });

  it('needs no more than the ports: 8 bytes of transport, or 4', () => {
    const tcp = answer().tcp({ sport: 443, dport: 31337 }).payload(100).build();
    for (const bytes of [28, 24]) expect(inner(error4(tcp.subarray(0, bytes)))?.ports, `${bytes}`).toBe(0x7a6901bb);
    for (const bytes of [23, 21, 20, 19, 8, 1, 0]) expect(inner(error4(tcp.subarray(0, bytes))), `${bytes}`).toBeNull();
    const tcp6 = answer6().tcp({ sport: 443, dport: 31337 }).build();
    for (const bytes of [48, 44]) expect(inner(error6(tcp6.subarray(0, bytes)))?.ports, `${bytes}`).toBe(0x7a6901bb);
    for (const bytes of [43, 40, 39, 8, 0]) expect(inner(error6(tcp6.subarray(0, bytes))), `${bytes}`).toBeNull();
  });

  it('is found behind IPv4 options and IPv6 extension headers', () => {
    const options = { src: VIP, dst: CLIENT, options: [148, 4, 0, 0, 1, 1, 1, 0] };
    const tcp = new PacketBuilder().ipv4(options).tcp({ sport: 443, dport: 31337 }).build();
    expect(inner(error4(tcp))?.ports).toBe(0x7a6901bb);
    const chain = answer6().extension(PROTO.HOPOPTS).extension(PROTO.DSTOPTS).fragment({ more: true }).tcp({ sport: 443, dport: 31337 }).build(); // prettier-ignore
    const found = inner(error6(chain))!;
    expect(fields(found)).toEqual({ ...forward6, protocol: PROTO.TCP, ports: [31337, 443] });
    for (let bytes = 40; bytes < 40 + 24 + 4; bytes++)
      expect(inner(error6(chain.subarray(0, bytes))), `${bytes}`).toBeNull();
  });

  it('has no ports where its protocol has none', () => {
    const echo = answer().icmp({ type: 0 }).payload(8).build();
    expect(fields(inner(error4(echo, 11))!)).toMatchObject({ protocol: PROTO.ICMP, ports: [0, 0], hasPorts: false });
  });

  it('leaves no transport header to be read', () => {
    const flow = inner(error4(answer().tcp({ sport: 443, dport: 31337 }).build().subarray(0, 28)))!;
    expect([flow.l4, flow.tcpFlags]).toEqual([0, 0]);
  });

  it('is not to be had from a later fragment, another version, another sender', () => {
    const later = new PacketBuilder().ipv4({ src: VIP, dst: CLIENT, fragmentOffset: 100 }).udp().build();
    expect(inner(error4(later))).toBeNull();
    expect(inner(error6(answer6().fragment({ offset: 3 }).udp().build()))).toBeNull();
    expect(inner(error4(answer6().udp().build()))).toBeNull();
    expect(inner(error6(answer().udp().payload(40).build()))).toBeNull();
    expect(inner(error4(new PacketBuilder().ipv4({ src: '192.0.2.2', dst: CLIENT }).udp().build()))).toBeNull();
    expect(inner(error6(new PacketBuilder().ipv6({ src: '2001:db8::2', dst: CLIENT6 }).udp().build()))).toBeNull();
  });

  it('does not reach into what follows the quote (RFC 4884)', () => {
    const tcp = answer().tcp({ sport: 443, dport: 31337 }).build();
    const padded = new Uint8Array(128 + 20);
    padded.set(tcp);
    // 32 words of quote, then an object.
    const frame = error4(padded, 11, 0, 32 << 16);
    expect(inner(frame)?.dataEnd).toBe(CHUNK + 256 + 14 + 28 + 128);
    expect(inner(error4(padded, 11, 0, 0))?.dataEnd).toBe(CHUNK + 256 + 14 + 28 + 148);
  });

  it.each([
    ['echo request', error4(new Uint8Array(30), 8)],
    ['redirect', error4(answer().udp().build(), 5)],
    ['source quench', error4(answer().udp().build(), 4)],
    ['IPv6 echo reply', error6(new Uint8Array(30), 129)],
    ['neighbour solicitation', error6(new Uint8Array(30), 135)],
    ['UDP', new PacketBuilder().ethernet().ipv4({ src: CLIENT, dst: VIP }).udp().payload([3, 4]).build()],
    ['a later fragment', new PacketBuilder().ethernet().ipv4({ fragmentOffset: 9, protocol: 1 }).payload(64).build()],
  ])('is not asked for with %s', (_, frame) => {
    expect(isIcmpError(parsed(frame))).toBe(false);
  });

  it('comes without throwing or reading outside from any bytes', () => {
    const next = random(4711);
    const seeds = [
      error4(answer().tcp().payload(40).build()),
      error6(answer6().extension(PROTO.HOPOPTS).fragment({ more: true }).udp().payload(40).build()),
    ];
    let found = 0;
    for (let round = 0; round < 20000; round++) {
      const seed = seeds[round & 1];
      const frame = seed.slice(0, next() < 0.3 ? Math.floor(next() * seed.length) : seed.length);
      for (let i = Math.floor(next() * 6); i > 0; i--) frame[14 + Math.floor(next() * frame.length)] = next() * 256;
      const packet = guardedPacket(frame);
      if (packet.malformed !== DropReason.none || !isIcmpError(packet)) continue;
      if (readInner(packet, new Packet(packet.view, CHUNK)) === DropReason.none) found++;
    }
    expect(found).toBeGreaterThan(1000);
  });

  it('leaves the packet as it is', () => {
    const frame = error4(answer().tcp().build());
    const packet = place(frame);
    parse(packet);
    const before = new Uint8Array(packet.view.buffer).slice();
    readInner(packet, new Packet(packet.view, CHUNK));
    expect(new Uint8Array(packet.view.buffer)).toEqual(before);
  });
});

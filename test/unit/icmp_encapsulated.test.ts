/** ICMP errors of routers between balancer and backend: about our outer packet, told on to the client. */
import { describe, expect, it } from 'vitest';
import {
  EncapsulatedQuote,
  readEncapsulatedInner,
  relayToClient,
} from '../../src/dataplane/packet/encapsulated_quote.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { isIcmpError } from '../../src/dataplane/packet/icmp.js';
import { readIcmp } from '../support/icmp_message.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { guardedPacket } from '../support/guarded_view.js';
import { bytesOf, CHUNK, parsed, random } from '../support/packets.js';

const NODE = '10.0.0.2';
const BACKEND = '10.1.0.1';
const NODE6 = 'fd00::2';
const BACKEND6 = 'fd01::1';
const CLIENT = '198.51.100.7';
const VIP = '192.0.2.1';
const CLIENT6 = '2001:db8:c::7';
const VIP6 = '2001:db8::1';
const MACS = { smac: '020000000002', dmac: '020000000001' };
const told4 = { ...MACS, src: 'c0000201', dst: 'c6336407', ttl: 64 };
const told6 = { ...MACS, src: '20010db8000000000000000000000001', dst: '20010db8000c00000000000000000007', ttl: 64 };

type Outer = 'ipip' | 'gue1' | 'gue0' | 'chain';

/** An outer packet of ours with 1400 bytes of the client's TCP or UDP in it; 'chain': GUE with one hop. */
function sent(
  outer: Outer,
  outside: 4 | 6,
  inside: 4 | 6,
  change = (b: PacketBuilder) => b.udp({ sport: 7, dport: 53 }).payload(1372),
): Uint8Array {
  // prettier-ignore
  const builder = new PacketBuilder();
  const gue = outer !== 'ipip';
  const protocol = gue ? 17 : inside === 4 ? 4 : 41;
  if (outside === 4) builder.ipv4({ src: NODE, dst: BACKEND, dontFragment: true, protocol });
  else builder.ipv6({ src: NODE6, dst: BACKEND6, nextHeader: protocol });
  if (gue) builder.udp({ sport: 0x8123, dport: 6080, checksum: 0 });
  if (outer === 'gue0') builder.payload([0, inside === 4 ? 4 : 41, 0, 0]);
  if (outer === 'chain') builder.payload([2, inside === 4 ? 4 : 41, 0, 0, 0, 0, 0, 1, 10, 1, 0, 2]);
  if (inside === 4) builder.ipv4({ src: CLIENT, dst: VIP, dontFragment: true });
  else builder.ipv6({ src: CLIENT6, dst: VIP6 });
  return change(builder).build();
}

function error(family: 4 | 6, type: number, code: number, rest: number, quote: Uint8Array): Uint8Array {
  const builder = new PacketBuilder().ethernet();
  return family === 4
    ? builder.ipv4({ src: '10.9.9.9', dst: NODE }).icmp({ type, code, rest }).quote(quote.subarray(0, 548)).build()
    : builder.ipv6({ src: 'fd09::9', dst: NODE6 }).icmp6({ type, code, rest }).quote(quote.subarray(0, 1232)).build();
}

function read(frame: Uint8Array) {
  const packet = parsed(frame);
  expect(packet.malformed).toBe(0);
  const quote = new EncapsulatedQuote(packet.view, CHUNK);
  return { packet, quote, reason: readEncapsulatedInner(packet, quote) };
}

const OVERHEADS: [Outer, number][] = [
  ['ipip', 0],
  ['gue1', 8],
  ['gue0', 12],
  ['chain', 20],
];
const CASES = OVERHEADS.flatMap(([outer, extra]) =>
  ([4, 6] as const).flatMap((outside) =>
    ([4, 6] as const).map((inside) => [outer, outside, inside, extra + (outside === 4 ? 20 : 40)] as const),
  ),
);

describe('an error about an outer packet', () => {
  it.each(CASES)(
    '%s, IPv%i outside, IPv%i inside: finds the client’s flow and tells it the MTU less %i',
    (outer, outside, inside, overhead) => {
      // prettier-ignore
      const bytes = sent(outer, outside, inside);
      const { packet, quote, reason } = read(error(outside, outside === 4 ? 3 : 2, outside === 4 ? 4 : 0, 1400, bytes));
      expect(reason).toBe(DropReason.none);
      expect(quote.overhead).toBe(overhead);
      expect(quote.mtu).toBe(1400 - overhead);
      const client = parsed(new PacketBuilder().ethernet().quote(bytes.subarray(overhead)).build());
      new DataView(client.view.buffer).setUint16(client.data + 12, inside === 4 ? 0x0800 : 0x86dd);
      expect([quote.client.family, quote.client.protocol, quote.client.sourcePort, quote.client.destinationPort]).toEqual([inside, 17, 7, 53]); // prettier-ignore
      expect(quote.outer.dst0).toBe(outside === 4 ? 0x0a010001 : 0xfd010000 | 0);

      expect(relayToClient(packet, quote)).toBe(true);
      const message = readIcmp(bytesOf(packet));
      expect(message).toMatchObject(inside === 4 ? told4 : told6);
      expect([message.type, message.code, message.rest]).toEqual([
        ...(inside === 4 ? [3, 4] : [2, 0]),
        1400 - overhead,
      ]);
      const quotedBytes = Math.min(outside === 4 ? 548 : 1232, bytes.length) - overhead;
      expect(message.body).toEqual(
        bytes.subarray(overhead, overhead + Math.min(quotedBytes, inside === 4 ? 548 : 1232)),
      );
    },
  );

  it.each([
    ['network unreachable', 4, 3, 0],
    ['host unreachable', 4, 3, 1],
    ['protocol unreachable', 4, 3, 2],
    ['time exceeded', 4, 11, 0],
    ['no route, IPv6', 6, 1, 0],
    ['time exceeded, IPv6', 6, 3, 0],
  ] as const)('%s is host or address unreachable for the client', (_, outside, type, code) => {
    for (const inside of [4, 6] as const) {
      const { packet, quote, reason } = read(error(outside, type, code, 0, sent('ipip', outside, inside)));
      expect([reason, quote.mtu]).toEqual([DropReason.none, 0]);
      expect(relayToClient(packet, quote)).toBe(true);
      const message = readIcmp(bytesOf(packet));
      expect([message.type, message.code, message.rest]).toEqual(inside === 4 ? [3, 1, 0] : [1, 3, 0]);
    }
  });

  it('without an MTU, of an old router, tells the next smaller of the usual ones', () => {
    // 1420 bytes outside.
    expect(read(error(4, 3, 4, 0, sent('ipip', 4, 4))).quote.mtu).toBe(1006 - 20);
  });

  it('never tells less than what every link carries', () => {
    expect(read(error(4, 3, 4, 50, sent('ipip', 4, 4))).quote.mtu).toBe(68);
    expect(read(error(4, 3, 4, 1290, sent('ipip', 4, 6))).quote.mtu).toBe(1280);
  });

  const relayed = (frame: Uint8Array): boolean => {
    const { packet, quote, reason } = read(frame);
    expect(reason).toBe(DropReason.none);
    const before = bytesOf(packet);
    const done = relayToClient(packet, quote);
    if (!done) expect(bytesOf(packet)).toEqual(before);
    return done;
  };

  it('is not told on where that must not or need not be', () => {
    // About our header.
    expect(relayed(error(4, 12, 0, 0, sent('ipip', 4, 4)))).toBe(false);
    expect(relayed(error(6, 4, 0, 40, sent('ipip', 6, 4)))).toBe(false);
    // The client's packet was within it: an error that is late, or made up.
    expect(relayed(error(4, 3, 4, 1420, sent('ipip', 4, 4)))).toBe(false);
    expect(relayed(error(4, 3, 4, 1419, sent('ipip', 4, 4)))).toBe(true);
    expect(relayed(error(6, 2, 0, 0x80000000, sent('ipip', 6, 6)))).toBe(false);
    // The client's packet is an error itself; or an echo request, which may be answered.
    expect(
      relayed(
        error(
          4,
          3,
          1,
          0,
          sent('ipip', 4, 4, (b) => b.icmp({ type: 3 }).payload(40)),
        ),
      ),
    ).toBe(false);
    expect(
      relayed(
        error(
          4,
          3,
          1,
          0,
          sent('ipip', 4, 6, (b) => b.icmp6({ type: 1 }).payload(40)),
        ),
      ),
    ).toBe(false);
    expect(
      relayed(
        error(
          4,
          3,
          1,
          0,
          sent('ipip', 4, 4, (b) => b.icmp({ type: 8 }).payload(40)),
        ),
      ),
    ).toBe(true);
  });

  it.each<[string, Uint8Array]>([
    ['cut behind 8 bytes of the client’s header', error(4, 3, 4, 1400, sent('ipip', 4, 4).subarray(0, 28))],
    ['cut before the client’s ports', error(4, 3, 4, 1400, sent('ipip', 4, 4).subarray(0, 43))],
    ['cut in GUE', error(4, 3, 4, 1400, sent('gue0', 4, 4).subarray(0, 30))],
    ['to another than the outer source', error(4, 3, 4, 1400, new PacketBuilder().ipv4({ src: '10.0.0.3', dst: BACKEND }).ipv4().udp().build())], // prettier-ignore
    ['about TCP of the host', error(4, 3, 1, 0, new PacketBuilder().ipv4({ src: NODE, dst: BACKEND }).tcp().build())],
    ['about UDP of the host', error(4, 3, 3, 0, new PacketBuilder().ipv4({ src: NODE, dst: BACKEND }).udp().payload(60).build())], // prettier-ignore
    ['with the wrong version inside', error(4, 3, 4, 1400, new PacketBuilder().ipv4({ src: NODE, dst: BACKEND, protocol: 4 }).ipv6().udp().payload(9).build())], // prettier-ignore
    ['about a later fragment of the client’s', error(4, 3, 4, 1400, new PacketBuilder().ipv4({ src: NODE, dst: BACKEND }).ipv4({ fragmentOffset: 4 }).payload(40).build())], // prettier-ignore
  ])('is not understood when it is %s', (_, frame) => {
    expect(read(frame).reason).toBe(DropReason.icmpInner);
  });

  it('comes without throwing, reading outside or writing outside, from any bytes', () => {
    const next = random(31);
    const seeds = CASES.map(([outer, outside, inside]) => error(outside, outside === 4 ? 3 : 2, outside === 4 ? 4 : 0, 1300, sent(outer, outside, inside))); // prettier-ignore
    let found = 0;
    for (let round = 0; round < 6000; round++) {
      const seed = seeds[round % seeds.length];
      const frame = seed.slice(0, next() < 0.2 ? 42 + Math.floor(next() * 120) : seed.length);
      for (let i = Math.floor(next() * 5); i > 0; i--) frame[14 + Math.floor(next() * 130)] = next() * 256;
      const packet = guardedPacket(frame);
      if (packet.malformed !== DropReason.none || !isIcmpError(packet)) continue;
      const quote = new EncapsulatedQuote(packet.view, CHUNK);
      if (readEncapsulatedInner(packet, quote) !== DropReason.none) continue;
      found++;
      if (relayToClient(packet, quote)) expect(packet.data).toBeGreaterThanOrEqual(CHUNK);
      const bytes = new Uint8Array(packet.view.buffer);
      expect(bytes.subarray(0, CHUNK).every((byte) => byte === 0xee) && bytes.subarray(2 * CHUNK).every((byte) => byte === 0xee)).toBe(true); // prettier-ignore
    }
    expect(found).toBeGreaterThan(1000);
  });
});

/** Messages that are made here: echo replies and "too big". */
import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../src/dataplane/balance/token_bucket.js';
import { answerEcho } from '../../src/dataplane/packet/echo.js';
import { makeTooBig } from '../../src/dataplane/packet/too_big.js';
import { readIcmp } from '../support/icmp_message.js';
import { ETHERTYPE, PacketBuilder, PROTO } from '../support/packet_builder.js';
import { bytesOf, CHUNK, parsed, random } from '../support/packets.js';

const CLIENT = '198.51.100.7';
const VIP = '192.0.2.1';
const CLIENT6 = '2001:db8:c::7';
const VIP6 = '2001:db8::1';
const MACS = { smac: '020000000002', dmac: '020000000001' };
const from4 = { src: 'c0000201', dst: 'c6336407' };
const from6 = { src: '20010db8000000000000000000000001', dst: '20010db8000c00000000000000000007' };

const to4 = (o = {}) => new PacketBuilder().ethernet().ipv4({ src: CLIENT, dst: VIP, ...o });
const to6 = (o = {}) => new PacketBuilder().ethernet().ipv6({ src: CLIENT6, dst: VIP6, ...o });

/** Whatever happens, the chunks beside the packet's stay as they were. */
function expectNeighboursUntouched(buffer: ArrayBufferLike): void {
  const bytes = new Uint8Array(buffer);
  expect(bytes.subarray(0, CHUNK).every((byte) => byte === 0xee)).toBe(true);
  expect(bytes.subarray(2 * CHUNK).every((byte) => byte === 0xee)).toBe(true);
}

describe('an echo request', () => {
  it.each([0, 1, 37, 56, 1400])('is answered with its own %i bytes, IPv4', (bytes) => {
    const packet = parsed(to4({ ttl: 3, tos: 0x28, id: 77 }).icmp({ rest: 0x12345678 }).payload(bytes).build());
    const data = readIcmp(bytesOf(packet)).body;
    expect(answerEcho(packet)).toBe(true);
    const reply = readIcmp(bytesOf(packet));
    expect(reply).toMatchObject({ ...MACS, ...from4, ttl: 64, type: 0, code: 0, rest: 0x12345678 });
    expect(reply.body).toEqual(data);
    expect(data).toHaveLength(bytes);
  });

  it.each([0, 1, 56, 1400])('is answered with its own %i bytes, IPv6', (bytes) => {
    const packet = parsed(to6({ hopLimit: 250 }).icmp6({ rest: 0x12345678 }).payload(bytes).build());
    expect(answerEcho(packet)).toBe(true);
    const reply = readIcmp(bytesOf(packet));
    expect(reply).toMatchObject({ ...MACS, ...from6, ttl: 64, type: 129, code: 0, rest: 0x12345678 });
    expect(reply.body).toHaveLength(bytes);
  });

  it('keeps its tags', () => {
    const tagged = new PacketBuilder().ethernet().vlan(5, { tpid: ETHERTYPE.QINQ }).vlan(7).ipv4({ src: CLIENT, dst: VIP }); // prettier-ignore
    const packet = parsed(tagged.icmp({}).build());
    expect(answerEcho(packet)).toBe(true);
    expect(readIcmp(bytesOf(packet)).tags).toBe('88a8000581000007');
  });

  it.each<[string, Uint8Array]>([
    ['to a group', to4({ dst: '224.0.0.1' }).icmp().build()],
    ['to all', to4({ dst: '255.255.255.255' }).icmp().build()],
    ['to an Ethernet group', new PacketBuilder().ethernet({ dst: 'ff:ff:ff:ff:ff:ff' }).ipv4().icmp().build()],
    ['to an IPv6 group', to6({ dst: 'ff02::1' }).icmp6().build()],
    ['from a group', to4({ src: '224.0.0.9' }).icmp().build()],
    ['from nobody', to4({ src: '0.0.0.0' }).icmp().build()],
    ['from loopback', to4({ src: '127.0.0.1' }).icmp().build()],
    ['from nobody, IPv6', to6({ src: '::' }).icmp6().build()],
    ['from loopback, IPv6', to6({ src: '::1' }).icmp6().build()],
    ['in fragments', to4({ moreFragments: true }).icmp().payload(64).build()],
    ['in fragments, IPv6', to6().fragment({ more: true }).icmp6().payload(64).build()],
    [
      'with a source route',
      to4({ options: [131, 7, 4, 1, 2, 3, 4, 0] })
        .icmp()
        .build(),
    ],
    ['with extension headers', to6().extension(PROTO.DSTOPTS).icmp6().build()],
    ['that is a reply', to4().icmp({ type: 0 }).build()],
    ['that is an error', to4().icmp({ type: 3 }).payload(28).build()],
    ['of the other version', to4({ protocol: PROTO.ICMPV6 }).icmp({ type: 128 }).build()],
    ['that is none', to4().udp().payload([8, 0]).build()],
  ])('%s is not', (_, frame) => {
    const packet = parsed(frame);
    expect(answerEcho(packet)).toBe(false);
    expect(bytesOf(packet)).toEqual(frame);
  });

  it('with a wrong checksum gets an answer with a wrong one', () => {
    const packet = parsed(to4().icmp({ checksum: 0x1234 }).payload(8).build());
    expect(answerEcho(packet)).toBe(true);
    expect(() => readIcmp(bytesOf(packet))).toThrow('ICMP checksum');
  });
});

describe('a packet that is too big', () => {
  it('is answered with fragmentation needed, IPv4', () => {
    const packet = parsed(to4({ dontFragment: true, tos: 0x10 }).tcp({ sport: 5, dport: 80 }).payload(1460).build());
    const original = bytesOf(packet).subarray(14);
    expect(makeTooBig(packet, 1480)).toBe(true);
    const message = readIcmp(bytesOf(packet));
    expect(message).toMatchObject({ ...MACS, ...from4, ttl: 64, type: 3, code: 4, rest: 1480, ipBytes: 576 });
    expect(message.body).toEqual(original.subarray(0, 548));
    expect(packet.length).toBe(14 + 576);
    expectNeighboursUntouched(packet.view.buffer);
  });

  it('is answered with packet too big, IPv6', () => {
    const packet = parsed(to6().tcp({ sport: 5, dport: 80 }).payload(1440).build());
    const original = bytesOf(packet).subarray(14);
    expect(makeTooBig(packet, 1460)).toBe(true);
    const message = readIcmp(bytesOf(packet));
    expect(message).toMatchObject({ ...MACS, ...from6, ttl: 64, type: 2, code: 0, rest: 1460, ipBytes: 1280 });
    expect(message.body).toEqual(original.subarray(0, 1232));
    expectNeighboursUntouched(packet.view.buffer);
  });

  it.each([0, 1, 2])('keeps %i tags, and the odd byte', (tags) => {
    const builder = new PacketBuilder().ethernet();
    for (let tag = 0; tag < tags; tag++) builder.vlan(10 + tag);
    const packet = parsed(builder.ipv4({ src: CLIENT, dst: VIP }).udp({}).payload(301).trailer([9, 9]).build());
    const original = bytesOf(packet).subarray(14 + 4 * tags, 14 + 4 * tags + 329);
    expect(makeTooBig(packet, 300)).toBe(true);
    const message = readIcmp(bytesOf(packet));
    expect(message.tags).toBe(['', '8100000a', '8100000a8100000b'][tags]);
    expect(message).toMatchObject({ ...MACS, ...from4, rest: 300, ipBytes: 28 + 329 });
    // All of it, and nothing of what came behind.
    expect(message.body).toEqual(original);
  });

  it('is told of as what every link carries, where less fits', () => {
    const six = parsed(to6().udp().payload(1400).build());
    expect(makeTooBig(six, 1000)).toBe(true);
    expect(readIcmp(bytesOf(six)).rest).toBe(1280);
    const four = parsed(to4().udp().payload(100).build());
    expect(makeTooBig(four, 10)).toBe(true);
    expect(readIcmp(bytesOf(four)).rest).toBe(68);
  });

  it('is answered when it is an echo request, or the first fragment', () => {
    expect(makeTooBig(parsed(to4().icmp().payload(1400).build()), 1400)).toBe(true);
    expect(makeTooBig(parsed(to6().icmp6().payload(1400).build()), 1400)).toBe(true);
    expect(makeTooBig(parsed(to4({ moreFragments: true }).udp().payload(1472).build()), 1400)).toBe(true);
  });

  const big = 1472;
  it.each<[string, Uint8Array]>([
    ['an ICMP error', to4().icmp({ type: 3 }).payload(big).build()],
    ['time exceeded', to4().icmp({ type: 11 }).payload(big).build()],
    ['a redirect', to4().icmp({ type: 5 }).payload(big).build()],
    ['an ICMPv6 error', to6().icmp6({ type: 1 }).payload(1400).build()],
    ['an ICMPv6 redirect', to6().icmp6({ type: 137 }).payload(1400).build()],
    ['a later fragment', to4({ fragmentOffset: 2 }).payload(big).build()],
    ['a later IPv6 fragment', to6().fragment({ offset: 2 }).payload(1400).build()],
    ['what went to a group', to4({ dst: '239.1.1.1' }).udp().payload(big).build()],
    ['what went to an Ethernet group', new PacketBuilder().ethernet({ dst: '01:00:5e:00:00:01' }).ipv4().udp().payload(big).build()], // prettier-ignore
    ['what came from nobody', to4({ src: '0.1.2.3' }).udp().payload(big).build()],
    ['what came from a group', to6({ src: 'ff02::1' }).udp().payload(1400).build()],
    ['what is small enough', to4().udp().payload(1000).build()],
    [
      'IPv6 within what must fit anyway',
      to6()
        .udp()
        .payload(1280 - 48)
        .build(),
    ],
    ['what is not IP', new PacketBuilder().ethernet({ type: 0x0806 }).payload(1500).build()],
  ])('is not answered about %s', (_, frame) => {
    const packet = parsed(frame);
    expect(makeTooBig(packet, 1200)).toBe(false);
    expect(bytesOf(packet)).toEqual(frame);
  });

  it('is left alone where there is no room in front', () => {
    const frame = to4().udp().payload(1000).build();
    for (const [headroom, fits] of [
      [0, false],
      [27, false],
      [28, true],
    ] as const) {
      const packet = parsed(frame, headroom);
      expect(makeTooBig(packet, 500), `${headroom}`).toBe(fits);
      if (fits) readIcmp(bytesOf(packet));
      expectNeighboursUntouched(packet.view.buffer);
    }
  });

  it('and an echo request stay in their chunk with any bytes', () => {
    const next = random(99);
    const seeds = [to4().icmp().payload(700).build(), to6().fragment().icmp6().payload(1300).build()];
    let made = 0;
    for (let round = 0; round < 4000; round++) {
      const frame = seeds[round & 1].slice();
      for (let i = Math.floor(next() * 5); i > 0; i--) frame[Math.floor(next() * 80)] = next() * 256;
      const packet = parsed(frame, [0, 20, 64, 256][Math.floor(next() * 4)]);
      if (packet.malformed !== 0) continue;
      if (next() < 0.5 ? makeTooBig(packet, next() * 1500) : answerEcho(packet)) made++;
      expect(packet.data).toBeGreaterThanOrEqual(CHUNK);
      expect(packet.dataEnd).toBeLessThanOrEqual(2 * CHUNK);
      expectNeighboursUntouched(packet.view.buffer);
    }
    expect(made).toBeGreaterThan(500);
  });
});

describe('the rate of messages', () => {
  const admitted = (bucket: TokenBucket, nowMs: number, tries: number): number => {
    let count = 0;
    for (let i = 0; i < tries; i++) if (bucket.take(nowMs)) count++;
    return count;
  };

  it.each([1, 7, 10, 1000, 1_000_000])('of %i a second is kept, over seconds and in each', (rate) => {
    const bucket = new TokenBucket(rate);
    const perSecond: number[] = [];
    // From just before the clock's wrap on.
    let now = 0x7fffffff - 1500;
    for (let second = 0; second < 4; second++) {
      let count = 0;
      for (let ms = 0; ms < 1000; ms++) count += admitted(bucket, (now + ms) | 0, Math.ceil(rate / 500) + 1);
      perSecond.push(count);
      now = (now + 1000) | 0;
    }
    const burst = Math.max(1, Math.floor(rate / 10));
    for (const count of perSecond) expect(count).toBeLessThanOrEqual(rate + burst);
    expect(perSecond[0]).toBeGreaterThanOrEqual(rate);
    for (const count of perSecond.slice(1)) expect(Math.abs(count - rate)).toBeLessThanOrEqual(1);
  });

  it('lets a tenth of a second’s through at once, after however long', () => {
    const bucket = new TokenBucket(500);
    expect(admitted(bucket, 0, 1000)).toBe(50);
    expect(admitted(bucket, 0, 1000)).toBe(0);
    expect(admitted(bucket, 2, 1000)).toBe(1);
    expect(admitted(bucket, 1_000_000, 1000)).toBe(50);
    expect(admitted(bucket, 999_000, 1000)).toBe(0);
  });

  it('of 0 lets nothing through, until it is changed', () => {
    const bucket = new TokenBucket(0);
    for (const now of [0, 1000, 100_000]) expect(bucket.take(now)).toBe(false);
    bucket.setRate(10);
    expect(admitted(bucket, 100_000, 5)).toBe(1);
  });
});

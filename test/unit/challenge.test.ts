import { describe, expect, it } from 'vitest';
import {
  ChallengeVerdict,
  DEFAULT_CHALLENGE,
  SynChallenge,
  type ChallengeOptions,
} from '../../src/dataplane/mitigate/challenge.js';
import { AuthenticatedTable } from '../../src/dataplane/mitigate/authenticated.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { ETHERTYPE, internetChecksum, PacketBuilder, pseudoHeaderSum, TCP } from '../support/packet_builder.js';
import { bytesOf, parsed, random } from '../support/packets.js';

const KEY = [1, -2, 3, 0x7fffffff];
const { Continue, Tx, DropAnswer, DropLimited, DropNeeded } = {
  Continue: ChallengeVerdict.Continue,
  Tx: ChallengeVerdict.Tx,
  DropAnswer: ChallengeVerdict.DropAnswer,
  DropLimited: ChallengeVerdict.DropLimited,
  DropNeeded: ChallengeVerdict.DropNeeded,
};

function make(options: Partial<ChallengeOptions> = {}, key = KEY): SynChallenge {
  return new SynChallenge({ ...DEFAULT_CHALLENGE, mode: 'always', slots: 1024, ...options }, key);
}

interface Sent {
  family?: 4 | 6;
  src?: string;
  dst?: string;
  sport?: number;
  seq?: number;
  flags?: number;
  vlans?: number[];
  options?: number[];
  payload?: number;
}

/** A packet from the client, as it looks with SACK, timestamps and window scaling. */
function from({
  family = 4,
  src,
  dst,
  sport = 40_000,
  seq = 1000,
  flags = TCP.SYN,
  vlans = [],
  options,
  payload = 0,
}: Sent = {}): Packet {
  const builder = new PacketBuilder().ethernet({ src: '02:00:00:00:00:aa', dst: '02:00:00:00:00:bb' });
  for (const vlan of vlans) builder.vlan(vlan, { tpid: vlan > 1000 ? ETHERTYPE.QINQ : ETHERTYPE.VLAN });
  if (family === 4)
    builder.ipv4({ src: src ?? '203.0.113.9', dst: dst ?? '198.51.100.1', ttl: 51, tos: 0x2a, id: 777 });
  else
    builder.ipv6({
      src: src ?? '2001:db8:1:2:3:4:5:6',
      dst: dst ?? '2001:db8:ffff::1',
      hopLimit: 51,
      trafficClass: 0x2a,
      flowLabel: 0xabcde,
    });
  const usual = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 10];
  const frame = builder
    .tcp({ sport, dport: 443, seq, flags, options: options ?? usual })
    .payload(payload)
    .build();
  return parsed(frame);
}

/** The RST of a client that got this challenge, and the number in it. */
function answerTo(challenge: Packet, like: Sent = {}): Packet {
  return from({ ...like, flags: TCP.RST, seq: challenge.view.getUint32(challenge.l4 + 8), options: [], payload: 0 });
}

/** All that the packet says of itself. */
function numbersOf(packet: Packet): [string, unknown][] {
  return Object.entries(packet).filter(([, value]) => typeof value === 'number');
}

describe('a challenge on the wire', () => {
  it.each<[string, Sent]>([
    ['IPv4', {}],
    ['IPv6', { family: 6 }],
    ['one VLAN tag', { vlans: [7] }],
    ['two VLAN tags, IPv6', { vlans: [1001, 7], family: 6 }],
    ['data in the SYN', { payload: 777 }],
    ['no TCP options', { options: [] }],
    ['ECN', { flags: TCP.SYN | TCP.ECE | TCP.CWR }],
  ])('%s: an ACK of headers alone, every byte', (_, sent) => {
    const packet = from(sent);
    const before = packet.length;
    expect(make().judge(packet, 5000)).toBe(Tx);
    const ack = packet.view.getUint32(packet.l4 + 8);
    const builder = new PacketBuilder().ethernet({ src: '02:00:00:00:00:bb', dst: '02:00:00:00:00:aa' });
    for (const vlan of sent.vlans ?? []) builder.vlan(vlan, { tpid: vlan > 1000 ? ETHERTYPE.QINQ : ETHERTYPE.VLAN });
    if (sent.family === 6) builder.ipv6({ src: '2001:db8:ffff::1', dst: '2001:db8:1:2:3:4:5:6' });
    else builder.ipv4({ src: '198.51.100.1', dst: '203.0.113.9', dontFragment: true });
    const expected = builder
      .tcp({ sport: 443, dport: 40_000, seq: 0, ack, flags: TCP.ACK, window: 0 })
      .padTo(Math.min(before, 60))
      .build();
    expect(bytesOf(packet)).toEqual(expected);
    expect(packet.length).toBeLessThanOrEqual(before);
  });

  it('has right checksums, is well-formed and parsed as it is, and touches no byte outside of it', () => {
    const next = random(11);
    for (let round = 0; round < 500; round++) {
      const family = next() < 0.5 ? 4 : 6;
      const seq = Math.floor(next() * 0x100000000);
      const packet = from({ family, sport: 1 + Math.floor(next() * 65_534), seq, payload: Math.floor(next() * 50) });
      const { data, dataEnd } = packet;
      const memory = new Uint8Array(packet.view.buffer.slice(0));
      make().judge(packet, round * 1000);
      const after = new Uint8Array(packet.view.buffer);
      expect(Buffer.compare(after.subarray(0, data), memory.subarray(0, data))).toBe(0);
      expect(Buffer.compare(after.subarray(dataEnd), memory.subarray(dataEnd))).toBe(0);
      const noted = numbersOf(packet);
      parse(packet);
      expect(numbersOf(packet)).toEqual(noted);
      const bytes = bytesOf(packet).subarray(14, 14 + packet.l3Length);
      const header = family === 4 ? 20 : 40;
      if (family === 4) expect(internetChecksum(bytes.subarray(0, 20))).toBe(0);
      const [src, dst] =
        family === 4
          ? [bytes.subarray(12, 16), bytes.subarray(16, 20)]
          : [bytes.subarray(8, 24), bytes.subarray(24, 40)];
      expect(internetChecksum(bytes.subarray(header), pseudoHeaderSum(src, dst, 6, 20))).toBe(0);
      // RFC 9293 §3.10.7.3: not acceptable, also when the SYN had data.
      const ack = packet.view.getUint32(packet.l4 + 8);
      expect((ack - seq) >>> 0).toBeGreaterThan(65_536);
    }
  });

  it('is not sent for what cannot be answered, which is dropped as it is', () => {
    const challenge = make();
    const frames: [string, Uint8Array][] = [
      ['IP options', new PacketBuilder().ethernet().ipv4({ options: [1, 1, 1, 1] }).tcp({ flags: TCP.SYN }).build()],
      ['extension header', new PacketBuilder().ethernet().ipv6().extension(60).tcp({ flags: TCP.SYN }).build()],
      ['first fragment', new PacketBuilder().ethernet().ipv4({ moreFragments: true }).tcp({ flags: TCP.SYN }).build()],
      ['from a group', new PacketBuilder().ethernet().ipv4({ src: '224.0.0.1' }).tcp({ flags: TCP.SYN }).build()],
      ['from loopback', new PacketBuilder().ethernet().ipv6({ src: '::1' }).tcp({ flags: TCP.SYN }).build()],
      ['to a group', new PacketBuilder().ethernet().ipv6({ dst: 'ff02::1' }).tcp({ flags: TCP.SYN }).build()],
      ['Ethernet broadcast', new PacketBuilder().ethernet({ dst: 'ff:ff:ff:ff:ff:ff' }).ipv4().tcp({ flags: TCP.SYN }).build()],
    ]; // prettier-ignore
    for (const [name, frame] of frames) {
      const packet = parsed(frame);
      expect(challenge.judge(packet, 0), name).toBe(DropNeeded);
      expect(bytesOf(packet), name).toEqual(frame);
    }
    expect(challenge).toMatchObject({ challenges: 0, unanswerable: frames.length });
  });

  it('is not for other packets, which go on untouched', () => {
    const challenge = make();
    const next = random(5);
    for (let flags = 0; flags < 256; flags++) {
      if ((flags & 0x17) === TCP.SYN) continue;
      const packet = from({ flags, seq: Math.floor(next() * 0x100000000) });
      const bytes = bytesOf(packet);
      expect(challenge.judge(packet, 0)).toBe(Continue);
      expect(bytesOf(packet)).toEqual(bytes);
    }
    const udp = parsed(new PacketBuilder().ethernet().ipv4().udp().build());
    expect(challenge.judge(udp, 0)).toBe(Continue);
  });
});

describe('an answer', () => {
  it.each<[string, Sent]>([
    ['IPv4', {}],
    ['IPv6', { family: 6 }],
  ])('lets the client’s SYN pass, for as many and as long as it is good: %s', (_, sent) => {
    const challenge = make({ connections: 3, lifetimeMs: 1000 });
    const first = from(sent);
    const start = 0x7fffff00;
    expect(challenge.judge(first, start)).toBe(Tx);
    expect(challenge.judge(answerTo(first, sent), start)).toBe(DropAnswer);
    // Of any port, to any destination.
    const syn = (n: number): Packet =>
      from({ ...sent, sport: n, dst: sent.family === 6 ? '2001:db8:ffff::2' : '198.51.100.2' });
    expect([1, 2, 3, 4].map((n) => challenge.judge(syn(n), start + n))).toEqual([Continue, Continue, Continue, Tx]);
    challenge.judge(answerTo(first, sent), start);
    expect(challenge.judge(from(sent), (start + 999) | 0)).toBe(Continue);
    expect(challenge.judge(from(sent), (start + 1000) | 0)).toBe(Tx);
    expect(challenge).toMatchObject({ challenges: 3, passed: 2, admitted: 4, failed: 0 });
  });

  it('is good for one connection in scope connection, with its SYN sent again twice', () => {
    const challenge = make({ scope: 'connection' });
    for (const family of [4, 6] as const) {
      const first = from({ family });
      challenge.judge(first, 0);
      challenge.judge(answerTo(first, { family }), 0);
      expect(challenge.judge(from({ family, sport: 40_001 }), 1)).toBe(Tx);
      expect(challenge.judge(from({ family, dst: family === 4 ? '198.51.100.2' : '2001:db8:ffff::2' }), 1)).toBe(Tx);
      expect([1, 2, 3, 4].map((n) => challenge.judge(from({ family }), n))).toEqual([Continue, Continue, Continue, Tx]);
    }
  });

  it('stands for the /64 of an IPv6 source and no more', () => {
    const challenge = make();
    const first = from({ family: 6 });
    challenge.judge(first, 0);
    challenge.judge(answerTo(first, { family: 6 }), 0);
    expect(challenge.judge(from({ family: 6, src: '2001:db8:1:2:ffff::1' }), 0)).toBe(Continue);
    expect(challenge.judge(from({ family: 6, src: '2001:db8:1:3:3:4:5:6' }), 0)).toBe(Tx);
    expect(challenge.judge(from({ src: '203.0.113.10' }), 0)).toBe(Tx);
  });

  it('is taken in its epoch and the next, with ACK or without, and not after', () => {
    const epoch = 1 << 15;
    for (const [madeMs, answeredMs, good] of [
      [0, 0, true],
      [0, epoch - 1, true],
      [100, 2 * epoch - 1, true],
      [100, 2 * epoch, false],
      [-1, 0, true],
      [-1, epoch, false],
      [0x7fffffff, -0x80000000, true],
      [0x7fffffff, (-0x80000000 + epoch) | 0, false],
    ] as const) {
      const challenge = make();
      const syn = from();
      challenge.judge(syn, madeMs);
      const verdict = good ? DropAnswer : Continue;
      expect(challenge.judge(answerTo(syn), answeredMs), `${madeMs} ${answeredMs}`).toBe(verdict);
      const withAck = from({ flags: TCP.RST | TCP.ACK, seq: syn.view.getUint32(syn.l4 + 8), options: [] });
      expect(challenge.judge(withAck, answeredMs)).toBe(verdict);
    }
  });

  it('is taken by another node whose clock says the same time, and by none with another key', () => {
    const wallMs = 1_790_000_000_000;
    const [a, b, c] = [make(), make(), make({}, [1, -2, 3, 4])];
    a.setClock(12_345, wallMs);
    b.setClock(-777, wallMs + 1000);
    c.setClock(12_345, wallMs);
    const syn = from();
    a.judge(syn, 12_345);
    expect(c.judge(answerTo(syn), 12_345)).toBe(Continue);
    expect(b.judge(answerTo(syn), -777)).toBe(DropAnswer);
    expect(b.judge(from(), -777)).toBe(Continue);
  });

  it('to another connection’s challenge, or guessed, is none', () => {
    const challenge = make();
    const syn = from();
    challenge.judge(syn, 0);
    for (const like of [{ sport: 40_001 }, { src: '203.0.113.10' }, { dst: '198.51.100.2' }] as Sent[]) {
      expect(challenge.judge(answerTo(syn, like), 0)).toBe(Continue);
    }
    const next = random(99);
    let taken = 0;
    const guess = answerTo(syn);
    for (let i = 0; i < 100_000; i++) {
      guess.view.setUint32(guess.l4 + 4, Math.floor(next() * 0x100000000));
      if (challenge.judge(guess, 0) === DropAnswer) taken++;
    }
    expect(taken).toBeLessThanOrEqual(1);
    expect(challenge.failed + taken).toBe(100_003);
  });
});

describe('challenges', () => {
  it('are off in mode off, but for rules', () => {
    const challenge = make({ mode: 'off' });
    expect(challenge.judge(from(), 0)).toBe(Continue);
    expect(challenge.judge(from({ flags: TCP.ACK }), 0, true)).toBe(Continue);
    const syn = from();
    expect(challenge.judge(syn, 0, true)).toBe(Tx);
    expect(challenge.judge(answerTo(syn), 0, true)).toBe(DropAnswer);
    expect(challenge.judge(from(), 0, true)).toBe(Continue);
    expect(challenge.judge(from({ src: '203.0.113.77' }), 0)).toBe(Continue);
  });

  it('in mode auto are also for what a rule wants', () => {
    const challenge = make({ mode: 'auto' });
    expect(challenge.judge(from(), 0)).toBe(Continue);
    expect(challenge.judge(from(), 0, true)).toBe(Tx);
  });

  it('keep to their budget, in any second', () => {
    const challenge = make({ maxPerSecond: 100 });
    let sent = 0;
    for (let now = 0; now < 1000; now++) {
      for (let i = 0; i < 3; i++) if (challenge.judge(from({ sport: 1 + i }), now) === Tx) sent++;
    }
    expect(sent).toBeGreaterThanOrEqual(100);
    expect(sent).toBeLessThanOrEqual(110);
    expect(challenge.challenges).toBe(sent);
    expect(challenge.limited).toBe(3000 - sent);
    expect(challenge.judge(from(), 1000 - 1)).toBe(DropLimited);
  });

  it('in mode auto are for destinations above their rate, until they have been below for the time to hold', () => {
    const challenge = make({ mode: 'auto', startRate: 1000, stopRate: 200, holdMs: 1000 });
    const second = (perTenth: number, from0: number, dst = '198.51.100.1'): number => {
      let sent = 0;
      for (let tenth = 0; tenth < 10; tenth++) {
        for (let i = 0; i < perTenth; i++) {
          const src = `203.0.113.${1 + (i % 200)}`;
          if (challenge.judge(from({ src, dst }), from0 + tenth * 100 + Math.floor((i * 100) / perTenth)) === Tx)
            sent++;
        }
      }
      return sent;
    };
    expect(second(99, 0)).toBe(0);
    // The first 99 of the flood pass.
    expect(second(500, 1000)).toBe(5000 - 99);
    // Between the two rates, it goes on; beside it, nobody is challenged.
    expect(second(50, 2000)).toBe(500);
    expect(second(50, 2000, '198.51.100.2')).toBe(0);
    expect(second(50, 3000, '198.51.100.3')).toBe(0);
    // A second below: the time to hold, from the end of the last busy tenth.
    expect(second(10, 4000)).toBe(0);
    expect(second(10, 5000)).toBe(0);
    expect(second(500, 6000)).toBe(5000 - 99);
    expect(second(10, 7000)).toBe(100);
    expect(second(10, 8000)).toBe(0);
  });
});

describe('the table of those who answered', () => {
  it('is bounded: of more than it holds, those go that expire first, and most of a full one stay', () => {
    const table = new AuthenticatedTable(1024, KEY, 60_000, 10);
    for (let n = 0; n < 512; n++) table.add(4, n, 0, n);
    // Half full: hardly anybody's window of eight slots is.
    expect(table.count(600)).toBeGreaterThan(500);
    for (let n = 0; n < 100_000; n++) table.add(4, 1000 + n, 0, 1000 + (n >> 6));
    expect(table.count(3000)).toBeLessThanOrEqual(1024);
    expect(table.count(3000)).toBeGreaterThan(1000);
    let newest = 0;
    for (let n = 100_000 - 200; n < 100_000; n++) if (table.take(4, 1000 + n, 0, 3000)) newest++;
    expect(newest).toBeGreaterThan(190);
  });

  it('forgets what has expired, also when the clock has gone half round since', () => {
    const table = new AuthenticatedTable(8, KEY, 1000, 10);
    table.add(4, 1, 0, 0);
    expect(table.take(4, 1, 0, 999)).toBe(true);
    table.add(4, 2, 0, 0);
    expect(table.take(4, 2, 0, (0x7fffffff + 2000) | 0)).toBe(false);
    expect(table.take(4, 2, 0, 1)).toBe(false);
  });

  it('tells kinds apart, and refuses sizes that are none', () => {
    const table = new AuthenticatedTable(8, KEY, 1000, 10);
    table.add(4, 1, 2, 0);
    expect(table.take(6, 1, 2, 0)).toBe(false);
    expect(table.take(4, 1, 3, 0)).toBe(false);
    for (const slots of [0, 4, 12]) expect(() => new AuthenticatedTable(slots, KEY, 1, 1)).toThrow(RangeError);
    for (const credit of [0, 1 << 24]) expect(() => new AuthenticatedTable(8, KEY, 1, credit)).toThrow(RangeError);
    expect(() => make({}, [1, 2, 3])).toThrow(RangeError);
  });
});

import { describe, expect, it } from 'vitest';
import { HashLimit } from '../../src/dataplane/mitigate/hash_limit.js';
import { LimitVerdict } from '../../src/dataplane/mitigate/limit_verdict.js';
import { allocateHashLimit, HashLimitMode, type HashLimitSpec } from '../../src/shared/limits/hash_limit.js';
import { releaseTable, TableBucket, TableHeader, tableCount } from '../../src/shared/limits/key_table.js';
import { formatRate, parseByteCount, parseRate, type Rate } from '../../src/shared/limits/rate.js';
import { byteAverage, byteBurst, HashlimitModel, packetAverage } from '../support/hashlimit_model.js';
import { limitPacket } from '../support/limit_packets.js';
import { runThreads } from '../support/limit_threads.js';
import { random } from '../support/packets.js';

const srcip = HashLimitMode.srcip;
const srcport = HashLimitMode.srcport;
const dstip = HashLimitMode.dstip;
const dstport = HashLimitMode.dstport;

function specOf(text: string, more: Partial<HashLimitSpec> = {}): HashLimitSpec {
  return { rate: parseRate(text), direction: 'upto', mode: srcip, ...more };
}

function limitOf(text: string, more: Partial<HashLimitSpec> = {}): HashLimit {
  return new HashLimit(allocateHashLimit(specOf(text, more)), 0, 1);
}

/** Verdicts of packets at these times, as digits: 0 within, 1 above, 2 hot drop. */
function verdicts(limit: HashLimit, times: readonly number[], packet = limitPacket()): string {
  return times.map((ms) => limit.judge(packet, ms)).join('');
}

function modelOf(spec: HashLimitSpec, hz: number): HashlimitModel {
  const { rate, burst } = spec;
  const bytes = rate.unit === 'bytes';
  const avg = bytes ? byteAverage(rate.amount) : packetAverage(rate.amount, rate.seconds);
  return new HashlimitModel({
    hz,
    avg,
    burst: bytes ? (burst === undefined ? 0n : byteBurst(burst, avg)) : BigInt(burst ?? 5),
    bytes,
    interval: spec.rateMatch === true ? (spec.rateInterval ?? 1) : 0,
    expireMs: spec.htableExpireMs ?? (bytes ? (burst === undefined ? 15_000 : 60_000) : rate.seconds * 1000),
    gcIntervalMs: spec.htableGcIntervalMs ?? 1000,
    max: spec.htableMax ?? 65536,
  });
}

const names = { within: 0, above: 1, drop: 2 } as const;

describe('hashlimit over workers', () => {
  it('admits exactly a burst for each key, whoever asks', async () => {
    // One key, so that threads meet at it; then many, so that they meet at the table.
    const few = allocateHashLimit(specOf('1/minute', { burst: 400_000 }));
    const asked = await runThreads('hashlimit', 3, { shared: few, keys: 1, rounds: 250_000 });
    expect(asked.reduce((a, b) => a + b)).toBe(400_000);
    const many = allocateHashLimit(specOf('1/minute', { burst: 40 }));
    const counts = await runThreads('hashlimit', 4, { shared: many, keys: 500, rounds: 60 });
    expect(counts.reduce((a, b) => a + b)).toBe(500 * 40);
    expect(tableCount(many.table)).toBe(500);
  });

  it('keeps its count through floods of new keys, full tables and collection', async () => {
    const shared = allocateHashLimit(
      specOf('1/s', { burst: 1, htableSize: 256, htableMax: 256, htableExpireMs: 20, htableGcIntervalMs: 5 }),
    );
    const admitted = await runThreads('churn', 3, { shared, ticks: 400 });
    expect(Math.min(...admitted)).toBeGreaterThan(0);
    // Everything has expired: a last worker alone finds all places free, so none was lost.
    const limit = new HashLimit(shared, 0, 1);
    for (let ms = 400; ms < 500; ms++) limit.tick(ms);
    expect(limit.count).toBe(0);
    const packet = limitPacket();
    for (let n = 0; n < 256; n++) {
      packet.src0 = -1 - n;
      expect(limit.judge(packet, 500)).toBe(LimitVerdict.within);
    }
    packet.src0 = 5;
    expect(limit.judge(packet, 500)).toBe(LimitVerdict.hotDrop);
  });

  it('gets over a worker that died with locks in its hands', () => {
    const shared = allocateHashLimit(specOf('1/s', { burst: 1 }));
    const words = new Int32Array(shared.table);
    const buckets = words[TableHeader.buckets];
    for (let i = 0; i < buckets; i++) words[TableHeader.SIZE + i * TableBucket.STRIDE] = 2;
    const limit = new HashLimit(shared, 0, 2);
    expect(limit.judge(limitPacket(), 0)).toBe(LimitVerdict.within);
    expect(limit.unlocked).toBe(1);
    expect(releaseTable(shared.table, 1)).toBe(buckets);
    expect(limit.judge(limitPacket(), 0)).toBe(LimitVerdict.within);
    expect(limit.judge(limitPacket(), 0)).toBe(LimitVerdict.above);
    expect(limit.unlocked).toBe(1);
  });
});

describe('hashlimit', () => {
  const rates: Rate[] = ['1/s', '10/s', '7/s', '1000/s', '333333/s', '1/minute', '50/m', '3/hour', '20/day'].map(
    parseRate,
  );
  const byteRates: Rate[] = ['1000b/s', '512kb/s', '300b/s', '10mb/s', '77777b/s'].map(parseRate);

  it.each([
    ['packets, 250 Hz', 250, rates, false, 1],
    ['packets, 1000 Hz', 1000, rates, false, 2],
    ['bytes, 250 Hz', 250, byteRates, false, 3],
    ['bytes, 1000 Hz', 1000, byteRates, false, 4],
    ['rate match, packets', 250, rates, true, 5],
    ['rate match, bytes', 250, byteRates, true, 6],
  ] as const)("gives the kernel's verdicts, packet by packet: %s", (_, hz, choices, rateMatch, seed) => {
    const next = random(seed);
    const pick = <T>(values: readonly T[]): T => values[Math.floor(next() * values.length)];
    const jiffy = 1000 / hz;
    const seen = [0, 0, 0];
    for (let run = 0; run < 60; run++) {
      const rate = pick(choices);
      const packets = rate.unit === 'packets';
      const burst = packets
        ? pick([undefined, 1, 2, 5, 100])
        : pick([undefined, rate.amount * 2 + 16, rate.amount * 9 + 16]);
      const spec: HashLimitSpec = {
        rate,
        burst,
        direction: 'upto',
        mode: srcip,
        rateMatch,
        rateInterval: pick([1, 1, 5]),
        htableExpireMs: pick([undefined, undefined, 2000, 60_000]),
      };
      const limit = new HashLimit(allocateHashLimit(spec), 0, 1);
      const model = modelOf(spec, hz);
      const sources = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((src) => limitPacket({ src }));
      // Gaps around what a packet costs, with bursts between and a long pause now and then.
      const between = packets ? (1000 * rate.seconds) / rate.amount : (1000 * 700) / rate.amount;
      let now = Math.floor(next() * 2 ** 20) * 1000;
      for (let i = 0; i < 400; i++) {
        const r = next();
        const gap = r < 0.4 ? 0 : r < 0.95 ? next() * 2 * between : next() * 20 * between;
        now += Math.ceil(Math.min(gap, 1e7) / jiffy) * jiffy;
        const packet = pick(sources);
        packet.l3Length = 40 + Math.floor(next() * 1460);
        const verdict = limit.judge(packet, now | 0);
        seen[verdict]++;
        const expected = names[model.packet(String(packet.src0), packet.l3Length, now)];
        if (verdict !== expected)
          expect.fail(`${verdict}, not ${expected}: run ${run}, packet ${i}, ${JSON.stringify(spec)}`);
      }
    }
    expect(Math.min(seen[0], seen[1])).toBeGreaterThan(1000);
  });

  it('lets a burst through, then the rate', () => {
    expect(verdicts(limitOf('10/s'), [0, 0, 0, 0, 0, 0, 0, 99, 100, 100, 200, 350, 400, 401])).toBe('00000111010001');
  });

  it('survives the wrap of the clock', () => {
    const gaps = Array.from({ length: 2000 }, (_, i) => (i * 37) % 180);
    const run = (start: number) => {
      const limit = limitOf('10/s');
      let now = start;
      return gaps.map((gap) => limit.judge(limitPacket(), (now = (now + gap) | 0))).join('');
    };
    expect(run(0x7fffffff - 90_000)).toBe(run(0));
    expect(run(-45_000)).toBe(run(0));
  });

  it('starts anew after a silence longer than the clock goes round', () => {
    const limit = limitOf('1/s', { burst: 1 });
    expect(verdicts(limit, [0, 0])).toBe('01');
    // 25 days, which look like minus 24.7.
    const later = (25 * 86_400_000) | 0;
    limit.tick(later);
    expect(verdicts(limit, [later + 1000, later + 2001, later + 2001])).toBe('001');
  });

  it('does not drift: hours above the rate give rate times time', () => {
    const limit = limitOf('300/s', { burst: 10 });
    const packet = limitPacket();
    const last = 0.5 * 3_600_000;
    let within = 0;
    for (let now = 0; now <= last; now++) if (limit.judge(packet, now) === LimitVerdict.within) within++;
    // iptables cuts the time between two packets to whole microseconds, 3333; the kernel's clock is fast by 3.4 parts in 10^9.
    expect(within).toBe(Math.floor(10 + (last * 1000 * (1 + 3.4343e-9)) / 3333));
  });

  it.each([
    ['srcip', srcip, {}, { src: '192.0.2.2' }, { dst: '198.51.100.9', sport: 9, dport: 9 }],
    ['dstip', dstip, {}, { dst: '198.51.100.2' }, { src: '192.0.2.9', sport: 9, dport: 9 }],
    ['srcport', srcport, {}, { sport: 9 }, { src: '192.0.2.9', dst: '198.51.100.9', dport: 9 }],
    ['dstport', dstport, {}, { dport: 9 }, { src: '192.0.2.9', dst: '198.51.100.9', sport: 9 }],
    ['srcip,dstport', srcip | dstport, {}, { dport: 9 }, { dst: '198.51.100.9', sport: 9 }],
    ['srcip /24', srcip, { srcMask4: 24 }, { src: '192.0.3.1' }, { src: '192.0.2.200' }],
    ['dstip /31', dstip, { dstMask4: 31 }, { dst: '198.51.100.2' }, { dst: '198.51.100.0' }],
  ])('tells keys apart by %s', (_, mode, masks, other, same) => {
    const limit = limitOf('1/s', { burst: 1, mode, ...masks });
    expect(limit.judge(limitPacket(), 0)).toBe(LimitVerdict.within);
    expect(limit.judge(limitPacket(same), 0)).toBe(LimitVerdict.above);
    expect(limit.judge(limitPacket(other), 0)).toBe(LimitVerdict.within);
    expect(limit.count).toBe(2);
  });

  it.each([
    [128, '2001:db8::1', '2001:db8::2'],
    [64, '2001:db8::ffff', '2001:db8:0:1::1'],
    [48, '2001:db8:0:9::1', '2001:db8:1::1'],
    [33, '2001:db8:7fff::1', '2001:db8:8000::1'],
    [32, '2001:db8:8000::1', '2001:db9::1'],
    [0, 'fe80::1', null],
  ])('cuts IPv6 sources to /%i', (srcMask6, same, other) => {
    const limit = limitOf('1/s', { burst: 1, srcMask6 });
    expect(limit.judge(limitPacket({ src: '2001:db8::1', dst: '2001:db8:f::1' }), 0)).toBe(LimitVerdict.within);
    expect(limit.judge(limitPacket({ src: same, dst: '2001:db8:f::1' }), 0)).toBe(LimitVerdict.above);
    if (other !== null)
      expect(limit.judge(limitPacket({ src: other, dst: '2001:db8:f::1' }), 0)).toBe(LimitVerdict.within);
  });

  it('keeps the two families apart', () => {
    const limit = limitOf('1/s', { burst: 1 });
    expect(limit.judge(limitPacket({ src: '32.1.13.184' }), 0)).toBe(LimitVerdict.within);
    expect(limit.judge(limitPacket({ src: '2001:db8::', dst: '2001:db8::9' }), 0)).toBe(LimitVerdict.within);
  });

  it('drops new keys when the table is full, and goes on with those it has', () => {
    const shared = allocateHashLimit(specOf('1/s', { burst: 2, htableSize: 4, htableMax: 4 }));
    const limit = new HashLimit(shared, 0, 1);
    const from = (n: number) => limitPacket({ src: `10.0.0.${n}` });
    for (let n = 1; n <= 4; n++) expect(limit.judge(from(n), 0)).toBe(LimitVerdict.within);
    expect(limit.judge(from(5), 0)).toBe(LimitVerdict.hotDrop);
    expect(limit.judge(from(1), 0)).toBe(LimitVerdict.within);
    expect(limit.judge(from(1), 0)).toBe(LimitVerdict.above);
    expect(limit.hotDropped).toBe(1);
    expect(tableCount(shared.table)).toBe(4);
    // Idle for a second: the collector takes them at the next tick, and there is room again.
    for (let ms = 1; ms <= 2100; ms++) limit.tick(ms);
    expect(limit.count).toBe(0);
    expect(limit.judge(from(5), 2100)).toBe(LimitVerdict.within);
  });

  it('collects a large table in small steps, and never what is alive', () => {
    const limit = limitOf('1/s', { burst: 1, htableMax: 100_000 });
    const packet = limitPacket();
    for (let n = 0; n < 100_000; n++) {
      packet.src0 = n;
      limit.judge(packet, 0);
    }
    expect(limit.count).toBe(100_000);
    for (let ms = 100; ms <= 3000; ms += 1) {
      packet.src0 = 77;
      limit.judge(packet, ms);
    }
    expect(limit.count).toBe(1);
  });

  it('refuses what cannot be', () => {
    expect(() => allocateHashLimit(specOf('2000000/s'))).toThrow('2000000 packets');
    expect(() => allocateHashLimit(specOf('10/s', { burst: 0 }))).toThrow('burst of 0');
    expect(() => allocateHashLimit(specOf('10kb/s', { burst: 100 }))).toThrow('burst of 100 bytes');
    expect(() => allocateHashLimit(specOf('10/s', { srcMask4: 33 }))).toThrow('33 bits');
    expect(() => allocateHashLimit(specOf('10/s', { htableMax: 2 ** 23 }))).toThrow('keys');
    expect(() => allocateHashLimit(specOf('10/s', { htableExpireMs: 2 ** 31 }))).toThrow('life');
  });

  it('reads rates as iptables does', () => {
    expect(parseRate('10/sec')).toEqual({ unit: 'packets', amount: 10, seconds: 1 });
    expect(parseRate('3/h')).toEqual({ unit: 'packets', amount: 3, seconds: 3600 });
    expect(parseRate('7')).toEqual({ unit: 'packets', amount: 7, seconds: 1 });
    expect(parseRate('512kb/s')).toEqual({ unit: 'bytes', amount: 524288, seconds: 1 });
    expect(parseByteCount('1mb')).toBe(1048576);
    for (const text of ['10/s', '3/hour', '512kb/s', '1000b/s', '20/day'])
      expect(parseRate(formatRate(parseRate(text)))).toEqual(parseRate(text));
    for (const text of ['', '0/s', '10/week', '-1/s', '1.5/s', 'kb/s', '10kb', '10/'])
      expect(() => parseRate(text)).toThrow('no rate');
  });
});

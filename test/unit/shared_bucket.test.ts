import { describe, expect, it } from 'vitest';
import { SharedBucket } from '../../src/dataplane/mitigate/shared_bucket.js';
import { parseRate } from '../../src/shared/limits/rate.js';
import { allocateBucket } from '../../src/shared/limits/shared_bucket.js';
import { runThreads } from '../support/limit_threads.js';

describe('the shared token bucket', () => {
  it.each([
    ['20000/s', 1],
    ['20000/s', 2],
    ['20000/s', 3],
    ['20000/s', 8],
    ['10mb/s', 1],
    ['10mb/s', 2],
    ['10mb/s', 8],
  ])('keeps the total of %s over %i threads', async (text, workers) => {
    const ticks = 600;
    const rate = parseRate(text);
    const shared = allocateBucket({ rate, burst: rate.amount / 100 }, workers);
    // Three times the rate is asked for, whatever the number of threads.
    const units = rate.unit === 'bytes' ? 780 : 1;
    const perTick = Math.ceil((3 * rate.amount) / 1000 / units / workers);
    const counts = await runThreads('bucket', workers, {
      shared,
      ticks,
      perTick,
      startMs: 0x7fffffff - 300,
      quietFrom: ticks,
    });
    const total = counts.reduce((a, b) => a + b);
    const expected = rate.amount / 100 + (rate.amount * (ticks - 1)) / 1000;
    expect(total / expected).toBeGreaterThan(0.99);
    expect(total / expected).toBeLessThanOrEqual(1);
  });

  it('grants exactly the burst when every packet of four threads asks for it', async () => {
    const shared = allocateBucket({ rate: parseRate('1/day'), burst: 150_000 }, 4);
    const counts = await runThreads('bucket', 4, { shared, ticks: 1, perTick: 60_000, startMs: 0, quietFrom: 1 });
    expect(counts.reduce((a, b) => a + b)).toBe(150_000);
  });

  it('gives one thread all when the others fall silent', async () => {
    const shared = allocateBucket({ rate: parseRate('20000/s'), burst: 200 }, 4);
    const counts = await runThreads('bucket', 4, { shared, ticks: 600, perTick: 60, startMs: 0, quietFrom: 100 });
    expect(counts[0] / (0.5 * 20000)).toBeGreaterThan(0.99);
    const expected = 200 + 20000 * 0.599;
    expect(counts.reduce((a, b) => a + b) / expected).toBeGreaterThan(0.99);
    expect(counts.reduce((a, b) => a + b) / expected).toBeLessThanOrEqual(1);
  });

  it('counts slow rates over hours to the packet, through the wrap of the clock', () => {
    const bucket = new SharedBucket(allocateBucket({ rate: parseRate('7/minute'), burst: 3 }, 1), 0, 1);
    let within = 0;
    const start = 0x7fffffff - 3_600_000;
    for (let ms = 0; ms <= 7_200_100; ms += 10) if (bucket.take(100, (start + ms) | 0)) within++;
    expect(within).toBe(3 + 7 * 120);
  });

  it('lets small packets have what is too little for a large one', () => {
    const bucket = new SharedBucket(allocateBucket({ rate: parseRate('1000b/s'), burst: 2000 }, 2), 0, 2);
    expect(bucket.take(1500, 0)).toBe(true);
    expect(bucket.take(1500, 0)).toBe(false);
    expect(bucket.take(400, 0)).toBe(true);
    expect(bucket.take(101, 0)).toBe(false);
    expect(bucket.take(100, 0)).toBe(true);
    expect(bucket.take(1, 0)).toBe(false);
    expect(bucket.take(60, 60)).toBe(true);
  });

  it('is full again after a silence longer than the clock goes round', () => {
    const bucket = new SharedBucket(allocateBucket({ rate: parseRate('1/day'), burst: 2 }, 1), 0, 1);
    expect([bucket.take(1, 0), bucket.take(1, 0), bucket.take(1, 0)]).toEqual([true, true, false]);
    const later = (25 * 86_400_000) | 0;
    expect([bucket.take(1, later), bucket.take(1, later), bucket.take(1, later)]).toEqual([true, true, false]);
  });

  it('goes on without the limit while a dead worker holds it', () => {
    const shared = allocateBucket({ rate: parseRate('1/s'), burst: 1 }, 2);
    new Int32Array(shared.bucket)[0] = 2;
    expect(new SharedBucket(shared, 0, 2).take(1, 0)).toBe(true);
  });

  it('refuses a burst of nothing', () => {
    expect(() => allocateBucket({ rate: parseRate('1/s'), burst: 0 }, 1)).toThrow('burst of 0');
  });
});

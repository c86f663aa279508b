/** The monitor under a clock of our own: when checks begin, how many at once, what a reload keeps, whose fault a result is. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { HealthTarget } from '../../src/control/health/backend_health.js';
import { HealthMonitor, type HealthMonitorOptions } from '../../src/control/health/monitor.js';
import type { Outcome, RunningCheck } from '../../src/control/health/outcome.js';
import type { StartCheck } from '../../src/control/health/run_check.js';
import { parseAddress, parsePrefix } from '../../src/shared/addr.js';
import type { HealthConfig } from '../../src/shared/health_config.js';

const CONFIG: HealthConfig = {
  check: { type: 'tcp' },
  port: null,
  intervalMs: 2000,
  timeoutMs: 1000,
  rise: 2,
  fall: 3,
  jitter: 0.1,
  through: 'direct',
  allDown: 'keep_last',
  flap: null,
};

function target(n: number, config: Partial<HealthConfig> = {}): HealthTarget {
  const address = parseAddress(`10.0.${n >> 8}.${n & 255}`);
  const whole = { ...CONFIG, ...config };
  return {
    key: `web ${address.text}`,
    service: 'web',
    address,
    vip: parsePrefix('198.51.100.10'),
    port: 80,
    config: whole,
  };
}

const targets = (count: number, config: Partial<HealthConfig> = {}) =>
  Array.from({ length: count }, (_, i) => target(i, config));

/** Backends made of a function: what each check comes to after how many ms; null: it never answers. */
class FakeNet {
  readonly begins: { host: string; atMs: number }[] = [];
  open = 0;
  most = 0;
  answer: (host: string, atMs: number) => { afterMs: number; outcome: Outcome } | null = () => ({
    afterMs: 1,
    outcome: { result: 'ok' },
  });

  readonly start: StartCheck = ({ host }, _, done): RunningCheck => {
    this.begins.push({ host, atMs: performance.now() });
    this.open++;
    this.most = Math.max(this.most, this.open);
    const answer = this.answer(host, performance.now());
    let closed = false;
    const close = (): void => {
      if (!closed) this.open--;
      closed = true;
    };
    const timer = answer && setTimeout(() => (close(), done(answer.outcome)), answer.afterMs);
    return {
      stage: 'no connection',
      cancel: () => {
        if (timer) clearTimeout(timer);
        close();
      },
    };
  };

  /** Largest number of begins in any window of this length. */
  densest(windowMs: number, fromMs = 0): number {
    const times = this.begins.map(({ atMs }) => atMs).filter((ms) => ms >= fromMs);
    let most = 0;
    for (let i = 0, j = 0; j < times.length; j++) {
      while (times[j] - times[i] >= windowMs) i++;
      most = Math.max(most, j - i + 1);
    }
    return most;
  }
}

let net: FakeNet;
let monitor: HealthMonitor;

function open(options: HealthMonitorOptions = {}): HealthMonitor {
  let seed = 1;
  const random = () => (seed = Math.imul(seed, 48271) >>> 0) / 2 ** 32;
  return (monitor = new HealthMonitor({ random, start: net.start, ...options }));
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const failed: Outcome = { result: 'failed', reason: 'connection refused' };

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate', 'performance'] });
  net = new FakeNet();
});

afterEach(async () => {
  await monitor.close();
  expect(net.open).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

describe('the schedule', () => {
  it('asks a few backends at once, and each at its interval from then on', async () => {
    open().setTargets(targets(3));
    await pass(5);
    expect(net.begins).toHaveLength(3);
    await pass(600_000);
    for (const { address } of targets(3)) {
      const times = net.begins.filter(({ host }) => host === address.text).map(({ atMs }) => atMs);
      expect(times.length).toBeGreaterThan(297);
      expect(times.length).toBeLessThan(304);
      // The second finds its phase; all others keep to interval ± jitter (and a timer's ms).
      const pauses = times.slice(2).map((ms, i) => ms - times[i + 1]);
      expect(Math.min(...pauses)).toBeGreaterThanOrEqual(1790);
      expect(Math.max(...pauses)).toBeLessThanOrEqual(2210);
      expect(Math.max(...pauses) - Math.min(...pauses)).toBeGreaterThan(200);
    }
  });

  it('spreads thousands evenly: no moment has many times its share', async () => {
    open().setTargets(targets(5000));
    await pass(20_000);
    // 5,000 in 2 s are 25 in 10 ms.
    expect(net.densest(10)).toBeLessThan(100);
    expect(net.densest(10, 10_000)).toBeLessThan(60);
    expect(net.begins.length).toBeGreaterThan(45_000);
    expect(net.begins.length).toBeLessThan(56_000);
  });

  it('has no more under way than it may, serves all in turn, and says who waits', async () => {
    net.answer = () => null;
    open({ concurrency: 10 }).setTargets(targets(100));
    await pass(1900);
    expect(monitor.load()).toEqual({ targets: 100, running: 10, waiting: 90 - 10 });
    await pass(10_000);
    expect(net.most).toBe(10);
    const checked = new Set(net.begins.slice(0, 100).map(({ host }) => host));
    expect(checked.size).toBe(100);
  });

  it('does not begin everything at once after the process stood still', async () => {
    open().setTargets(targets(2000));
    await pass(10_000);
    const beforeMs = performance.now();
    // The clock goes on, timers do not: SIGSTOP.
    const real = performance.now.bind(performance);
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => real() + 60_000);
    await pass(5000);
    const resumedMs = beforeMs + 60_000;
    expect(net.begins.filter(({ atMs }) => atMs >= resumedMs).length).toBeGreaterThan(4000);
    // 2,000 in 2 s are 10 in 10 ms.
    expect(net.densest(10, resumedMs)).toBeLessThan(40);
    expect(monitor.all().every(({ up, changes }) => up === true && changes === 0)).toBe(true);
    clock.mockRestore();
  });
});

describe('results', () => {
  it('goes down after fall, up after rise, and tells each change once', async () => {
    const seen: (boolean | null)[] = [];
    open().on('change', ({ up }) => seen.push(up));
    monitor.setTargets([target(1)]);
    expect(monitor.get(target(1).key)).toMatchObject({ up: null, held: false, ok: 0, failed: 0, lastError: '' });
    await pass(10);
    expect(seen).toEqual([true]);
    net.answer = () => ({ afterMs: 3, outcome: failed });
    await pass(4000);
    expect(seen).toEqual([true]);
    await pass(2500);
    expect(seen).toEqual([true, false]);
    expect(monitor.get(target(1).key)).toMatchObject({ up: false, lastError: 'connection refused', changes: 1 });
    net.answer = () => ({ afterMs: 7, outcome: { result: 'ok' } });
    await pass(7000);
    expect(seen).toEqual([true, false, true]);
    const health = monitor.get(target(1).key)!;
    expect(health).toMatchObject({ up: true, lastError: '', changes: 2, service: 'web', address: '10.0.0.1' });
    expect(health.lastLatencyMs).toBeCloseTo(7, 0);
    expect(monitor.get('nobody')).toBeUndefined();
  });

  it('counts silence as a failure once the time is up, and says how far it came', async () => {
    net.answer = () => null;
    open().setTargets([target(1)]);
    await pass(1100);
    expect(monitor.get(target(1).key)).toMatchObject({
      up: false,
      lastError: 'no connection within 1000 ms',
      failed: 1,
    });
  });

  it('blames no backend for a fault of this node', async () => {
    open().setTargets(targets(10));
    await pass(10);
    net.answer = () => ({ afterMs: 1, outcome: { result: 'skipped', reason: 'this node: EMFILE' } });
    await pass(60_000);
    for (const { up, failed: bad, skipped, lastError } of monitor.all()) {
      expect([up, bad, skipped > 20, lastError]).toEqual([true, 0, true, 'this node: EMFILE']);
    }
  });

  it('blames no backend for a pause of the process, but is not fooled by a process that always pauses', async () => {
    open().setTargets([target(1, { fall: 1 })]);
    await pass(10);
    const stalled: Outcome = { result: 'skipped', reason: 'this process stood still for 900 ms', stalled: true };
    let answers = 0;
    net.answer = () => (answers++, { afterMs: 1, outcome: answers === 1 ? stalled : { result: 'ok' } });
    await pass(10_000);
    expect(monitor.all()[0]).toMatchObject({ up: true, changes: 0, skipped: 1 });
    net.answer = () => ({ afterMs: 1, outcome: stalled });
    await pass(5000);
    expect(monitor.all()[0]).toMatchObject({ up: false, skipped: 2 });
  });

  it('holds a backend that flaps, and lets it go in time', async () => {
    const seen: string[] = [];
    const flap = { halfLifeMs: 10_000, suppress: 2.5, reuse: 1, maxHoldMs: 60_000 };
    open().on('change', ({ up, held }) => seen.push(`${up ? 'up' : 'down'}${held ? ' held' : ''}`));
    let answers = 0;
    // Twelve results, changing each time; well from then on.
    net.answer = () => ({ afterMs: 1, outcome: answers++ < 12 && answers % 2 === 0 ? failed : { result: 'ok' } });
    monitor.setTargets([target(1, { rise: 1, fall: 1, intervalMs: 1000, flap })]);
    await pass(120_000);
    expect(seen.slice(0, 5)).toEqual(['up', 'down', 'up', 'down', 'up']);
    expect(seen).toContain('down held');
    expect(seen.at(-1)).toBe('up');
    expect(seen.filter((each) => each === 'up held').length).toBeGreaterThan(1);
  });
});

describe('other targets', () => {
  it('keeps state and schedule of those that stay, and forgets the others', async () => {
    open().setTargets(targets(20));
    await pass(9500);
    const before = monitor.get(target(3).key)!;
    const due = net.begins.filter(({ host }) => host === '10.0.0.3').map(({ atMs }) => atMs);
    for (let i = 0; i < 50; i++) {
      monitor.setTargets([...targets(10), target(900 + i)]);
      await pass(20);
    }
    expect(monitor.all().map(({ address }) => address)).toEqual([
      ...targets(10).map(({ address }) => address.text),
      target(949).address.text,
    ]);
    await pass(10_000);
    const after = net.begins.filter(({ host }) => host === '10.0.0.3').map(({ atMs }) => atMs);
    const pauses = after.slice(2).map((ms, i) => ms - after[i + 1]);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(2210);
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(1790);
    expect(after.slice(0, due.length)).toEqual(due);
    expect(monitor.get(target(3).key)).toMatchObject({ up: true, sinceMs: before.sinceMs });
    const late = net.begins.filter(({ host, atMs }) => host === '10.0.0.15' && atMs > 10_600);
    expect(late).toEqual([]);
  });

  it('keeps the state over another way of checking, and drops a check of the former way', async () => {
    open().setTargets([target(1)]);
    await pass(10);
    net.answer = () => null;
    await pass(2100);
    expect(net.open).toBe(1);
    net.answer = () => ({ afterMs: 1, outcome: { result: 'ok' } });
    monitor.setTargets([target(1, { check: { type: 'udp', request: new Uint8Array(1), expect: null }, fall: 1 })]);
    await pass(10);
    expect(monitor.all()[0]).toMatchObject({ up: true, ok: 2, failed: 0, changes: 0 });
  });

  it('skips checks through a tunnel that is not there', async () => {
    open().setTargets([target(1, { through: 'tunnel' })]);
    await pass(100);
    expect(monitor.all()[0]).toMatchObject({ up: null, skipped: 1, lastError: 'this node: there is no tunnel' });
    expect(net.begins).toEqual([]);
  });
});

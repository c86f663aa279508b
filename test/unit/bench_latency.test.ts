/** Results of the latency and idle benches: what is compared is of one round, and tables have it all. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processMemory, processUse, idleCases } from '../../bench/idle/rig.js';
import { idleResults } from '../../bench/idle/run.js';
import { idleRows } from '../../bench/idle/show.js';
import { latencyResults, type LatencyTrial } from '../../bench/latency/run.js';
import { latencyRows } from '../../bench/latency/show.js';
import { packageRoot } from '../../src/native.js';

const trip = (p50: number, p999: number): LatencyTrial => {
  return { count: 900, lost: 100, p50, p99: p50 * 2, p999, max: p999 * 2, offered: 5e5, carried: 1 };
};

describe('round trips', () => {
  const trials = new Map([
    ['veth, nothing between udp idle', [trip(4, 30), trip(6, 30)]],
    ['forward: C, spinning udp idle', [trip(36, 110), trip(40, 200)]],
    ['forward: sluice, spinning udp idle', [trip(37, 115), trip(40, 190)]],
    ['forward: C, spinning udp half', [trip(50, 300), trip(50, 310)]],
    ['forward: sluice, spinning udp half', [trip(51, 330), trip(52, 320)]],
  ]);
  const results = latencyResults(trials);

  it('are compared within a round: with the direct way at rest, and with C', () => {
    expect(results.map(({ name, load }) => `${name} ${load}`)).toHaveLength(5);
    const [direct, c, ours, , loaded] = results;
    expect([direct.added, direct.aboveC, c.aboveC]).toEqual([null, null, null]);
    expect(c.added).toEqual({ median: 33, min: 32, max: 34 });
    expect(ours.aboveC).toEqual({ median: -2.5, min: -10, max: 5 });
    expect(loaded.added).toEqual({ median: 46.5, min: 46, max: 47 });
    expect(loaded.aboveC).toEqual({ median: 20, min: 10, max: 30 });
    expect(loaded.lost.median).toBe(0.1);
  });

  it('are two tables', () => {
    const [idle, half] = latencyRows(results);
    expect(idle[3].slice(0, 2)).toEqual(['UDP forward: sluice, spinning', '38.5 [37.0..40.0]']);
    expect(half[2].slice(-2)).toEqual(['0.50 [0.50..0.50]', '10.00 [10.00..10.00]']);
    expect(new Set([...idle, ...half].map(({ length }) => length))).toEqual(new Set([7, 9]));
  });
});

describe('the ends', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'sluice-pingpong-'));
    const source = join(packageRoot, 'bench/reference/pingpong.c');
    const flags = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-o', join(folder, 'pingpong'), source];
    expect(spawnSync('gcc', flags, { encoding: 'utf8' }).stderr).toBe('');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    ['-u', '12007'],
    ['-t', '12008'],
  ])('measure round trips with %s', async (protocol, port) => {
    const where = [protocol, '-a', '127.0.0.1', '-p', port];
    const server = spawn(join(folder, 'pingpong'), ['server', ...where], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await new Promise((resolve) => server.stdout.once('data', resolve));
      const client = spawnSync(join(folder, 'pingpong'), ['client', ...where, '-d', '0.5', '-w', '0.02'], {
        encoding: 'utf8',
      });
      const [ready, trips] = client.stdout.trim().split('\n').map((line) => JSON.parse(line) as Record<string, number>); // prettier-ignore
      expect(ready).toEqual({ ready: true });
      expect(trips.count).toBeGreaterThan(50);
      const { p50, p99, p999, max } = trips;
      expect([p50, p99, p999, max]).toEqual([p50, p99, p999, max].sort((a, b) => a - b));
      // A system call each way at least; and each in the time of the run.
      expect(p50).toBeGreaterThan(1000);
      expect(p50 * trips.count).toBeLessThan(1e9);
    } finally {
      server.kill();
    }
  });

  it('count a message that nobody answers as lost, and give up when all are', () => {
    const args = ['client', '-u', '-a', '127.0.0.1', '-p', '12009', '-d', '0.1', '-w', '0'];
    const client = spawnSync(join(folder, 'pingpong'), args, { encoding: 'utf8' });
    expect(client.status).toBe(1);
    expect(client.stderr).toMatch(/pingpong: (recv|send|no answer)/);
  });
});

describe('an idle daemon', () => {
  it('is a case for each number of workers and services, with checks and without', () => {
    const cases = idleCases();
    expect(cases).toHaveLength(9);
    expect(new Set(cases.map(({ name }) => name)).size).toBe(9);
  });

  it('is a row with all that it costs', () => {
    const one = { cpuNs: 2e6, slept: 50, preempted: 1, rss: 64 << 20, pss: 32 << 20, checks: 0 };
    const [, row] = idleRows(idleResults([idleCases()[1]], [[one, { ...one, cpuNs: 4e6 }]]));
    const expected = ['3000 [2000..4000]', '0.30 [0.20..0.40]', '50 [50..50]', '1 [1..1]', '64 [64..64]', '32 [32..32]', '']; // prettier-ignore
    expect(row).toEqual(['1 worker, 10 services', ...expected]);
  });

  it("is measured by the kernel's own account", () => {
    const before = processUse(process.pid);
    const own = process.cpuUsage();
    while (process.cpuUsage(own).user < 50_000);
    const used = processUse(process.pid).cpuNs - before.cpuNs;
    expect(used).toBeGreaterThan(25e6);
    const { rss, pss } = processMemory(process.pid);
    expect(pss).toBeLessThanOrEqual(rss);
    expect(pss).toBeGreaterThan(10 << 20);
  });
});

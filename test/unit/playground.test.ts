import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { Status } from '../../src/control/api/contract.js';
import { parseConfig } from '../../src/control/config/index.js';
import { cpuTimeNs } from '../../src/playground/cpu_time.js';
import { configText, FLOOD_RULE, SERVICES } from '../../src/playground/daemon_config.js';
import { Tally } from '../../src/playground/http_tally.js';
import { tableLines, type Reading } from '../../src/playground/live_table.js';
import { playScene, Report, type Scene, type Stage } from '../../src/playground/scenes/scene.js';
import { Screen } from '../../src/playground/screen.js';
import type { Topology } from '../../src/playground/topology.js';

function screen(live: boolean, columns = 40) {
  const out = new PassThrough();
  return { screen: new Screen(out, live, () => columns), text: () => String(out.read() ?? '') };
}

describe('the screen', () => {
  it('writes lines and nothing else when it is no terminal', () => {
    const { screen: plain, text } = screen(false);
    plain.setFooter(['table']);
    plain.print('one');
    plain.setFooter([]);
    plain.print('two');
    expect(text()).toBe('one\ntwo\n');
  });

  it('keeps the footer under the lines on a terminal, cut to its width', () => {
    const { screen: live, text } = screen(true, 11);
    live.setFooter(['0123456789abcdef', 'b']);
    live.print('one');
    live.setFooter([]);
    expect(text()).toBe('0123456789\nb\n\x1b[2F\x1b[Jone\n0123456789\nb\n\x1b[2F\x1b[J');
  });
});

describe('a scene', () => {
  const play = (scene: Scene['play'], onLine?: (line: string) => void) =>
    playScene({ title: 'title', story: '', play: scene }, {} as Stage, new Report(onLine));

  it('is well when every claim holds, and tells each line at once', async () => {
    const heard: string[] = [];
    const result = await play(
      async (_, report) => {
        report.tell('fact');
        report.check(true, 'claim');
        report.facts.number = 7;
      },
      (line) => heard.push(line),
    );
    expect(result).toEqual({
      title: 'title',
      lines: ['  fact', '✓ claim'],
      facts: { number: 7 },
      failures: [],
      ok: true,
    });
    expect(heard).toEqual(result.lines);
  });

  it('fails by the claims that do not hold, and by an exception', async () => {
    const result = await play(async (_, report) => {
      report.check(false, 'first');
      report.check(true, 'second');
      throw new Error('third');
    });
    expect(result).toMatchObject({ ok: false, failures: ['first', 'third'] });
  });
});

describe('the tally of an HTTP load', () => {
  it('gives nearest-rank percentiles of the times', () => {
    const tally = new Tally();
    for (let ms = 100; ms >= 1; ms--) tally.answered('b1', ms);
    expect(tally.result('result', 1000).latencyMs).toEqual({ p50: 50, p90: 90, p99: 99, max: 100 });
    expect(new Tally().result('result', 0).latencyMs).toEqual({ p50: 0, p90: 0, p99: 0, max: 0 });
  });
});

it('CPU time of a process is what the process itself sees of it, to some milliseconds', () => {
  const [before, own] = [cpuTimeNs(process.pid), process.cpuUsage()];
  // Of CPU time: beside other work it takes as long as it must.
  for (let used = 0; used < 100_000; used = process.cpuUsage(own).user + process.cpuUsage(own).system);
  const { user, system } = process.cpuUsage(own);
  const ms = (cpuTimeNs(process.pid) - before) / 1e6;
  expect(ms).toBeGreaterThan(50);
  expect(Math.abs(ms - (user + system) / 1000)).toBeLessThan(35);
});

it('the configuration of the playground is one that sluice accepts without a warning', () => {
  const topology = { attacker: { address4: '10.77.0.66' } } as Topology;
  const text = configText(topology, {
    backends: [
      { address: '10.77.0.11', weight: 1, state: 'draining' },
      { address: '10.77.0.12', weight: 2 },
    ],
    metricsPort: 9477,
    controlSocket: '/run/sluice-playground/test/control.sock',
    offload: 'auto',
  });
  const config = parseConfig(text);
  expect([config.warnings, config.offload]).toEqual([[], 'auto']);
  expect(config.services.map((service) => service.name)).toEqual(Object.values(SERVICES));
  expect(config.services.map((service) => service.backends.map(({ weight, state }) => [weight, state]))).toEqual(
    Array(3).fill([
      [1, 'draining'],
      [2, 'active'],
    ]),
  );
  expect(config.rules).toMatchObject([{ name: FLOOD_RULE, action: 'drop', match: { src: { text: '10.77.0.66' } } }]);
});

describe('the live table', () => {
  const backend = (packets: number) => ({ address: '10.77.0.11', weight: 2, state: 'active', packets, flows: 3 });
  const reading = (clockMs: number, rx: number, packets: number, queues = 1) =>
    ({
      clockMs,
      workers: Array.from({ length: queues }, (_, queue) => ({ queue, rx, tx: 0, drop: 0, kernelLost: 5, flows: 9 })),
      services: [{ backends: [backend(packets)] }, { backends: [backend(packets)] }],
    }) as unknown as Status;
  const cells = (readings: Reading[]) => tableLines(readings).map((line) => line.trim().split(/\s+/));

  it('shows rates between two readings and sums backends over services', () => {
    const lines = cells([{ name: 'lb', before: reading(1000, 100, 10), now: reading(1500, 1100, 60) }]);
    expect(lines).toContainEqual(['0', '2,000', '0', '0', '5', '9']);
    expect(lines).toContainEqual(['10.77.0.11', '2', '200', '6', 'active']);
  });

  it('has a line for each of several sluices, and sums backends over them', () => {
    const lb1 = { name: 'lb1', before: reading(1000, 100, 10, 2), now: reading(1500, 1100, 60, 2) };
    // Restarted: no rate yet.
    const lb2 = { name: 'lb2', now: reading(1500, 700, 60) };
    const lines = cells([lb1, lb2, { name: 'lb3' }]);
    expect(lines).toContainEqual(['lb1', '4,000', '0', '0', '10', '18']);
    expect(lines).toContainEqual(['lb2', '0', '0', '0', '5', '9']);
    expect(lines).toContainEqual(['lb3', 'does', 'not', 'answer']);
    expect(lines).toContainEqual(['10.77.0.11', '2', '200', '12', 'active']);
  });
});

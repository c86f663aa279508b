import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { backendCommand } from '../../src/cli/commands/backend.js';
import { reloadCommand } from '../../src/cli/commands/reload.js';
import { statusCommand } from '../../src/cli/commands/status.js';
import { statusTable } from '../../src/cli/status_table.js';
import type { BackendSetResult, ControlTarget, ReloadResult, Status } from '../../src/control/api/contract.js';
import { resolveBackend } from '../../src/control/api/resolve.js';
import { ControlServer } from '../../src/control/api/server.js';
import { buildStatus } from '../../src/control/api/status.js';
import type { RuntimeView } from '../../src/control/api/view.js';
import { createLog } from '../../src/control/log.js';
import { BackendCounter, Counter, CounterBlock, RuleCounter, ServiceCounter } from '../../src/shared/layout.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';
import { FakeRuleDaemon } from '../support/fake_rules.js';
import { fakeBackend, fakeService, fakeView } from '../support/fake_view.js';

let directory: string;
let server: ControlServer;
let view: RuntimeView;
let clockMs: number;
let reloadResult: ReloadResult;
let changes: unknown[];
let env: FakeEnv;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
  const socketPath = join(directory, 'run', 'control.sock');
  view = fakeView();
  clockMs = 0;
  changes = [];
  reloadResult = { applied: true, generation: 4, changes: ['service dns: added', 'rule x: removed'], problems: [] };
  const target: ControlTarget = {
    version: () => ({ version: '0.1.0', protocol: 1, node: process.version, pid: process.pid }),
    status: () => buildStatus(view, (clockMs += 1000)),
    reload: () => Promise.resolve(reloadResult),
    rules: new FakeRuleDaemon().control,
    setBackend(service, backend, change): Promise<BackendSetResult> {
      const { weight, state } = resolveBackend(view.services, service, backend).backend;
      changes.push({ service, backend, ...change });
      return Promise.resolve({
        service,
        backend,
        before: { weight, state },
        after: { weight, state, ...change },
        generation: 9,
      });
    },
  };
  server = await ControlServer.listen(
    socketPath,
    target,
    createLog({ level: 'silent', format: 'json', stream: new PassThrough() }),
  );
  env = new FakeEnv({ SLUICE_SOCKET: socketPath });
});

afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

function words(queue = 0): Float64Array {
  return new Float64Array(view.counters.worker(queue).block);
}

const status = (...args: string[]) => runCommand(statusCommand(env), args);
const reload = (...args: string[]) => runCommand(reloadCommand(env), args);
const backend = (...args: string[]) => runCommand(backendCommand(env), args);

describe('sluice status', () => {
  it('says which rules are in shadow mode', async () => {
    view = { ...view, rules: [{ id: 0, name: 'trial', action: 'drop', mode: 'shadow' }] };
    await status('--no-rates');
    expect(env.out).toMatch(/^trial +drop \(shadow\) +0 +0 B$/m);
  });

  it('shows totals, rates, interfaces, workers, services, rules and drops', async () => {
    words().set([1000, 64000, 400, 100, 500, 0, 0], Counter.rx);
    words()[CounterBlock.reasons + 18] = 400;
    words()[CounterBlock.services + ServiceCounter.packets] = 500;
    words()[CounterBlock.backends + BackendCounter.SIZE + BackendCounter.flows] = 17;
    words()[CounterBlock.rules + RuleCounter.packets] = 400;
    env.onSleep = () => {
      words()[Counter.rx] += 250;
      words()[Counter.pass] += 250;
      words()[CounterBlock.rules + RuleCounter.packets] += 50;
    };
    expect(await status()).toEqual({ code: 0, error: null });
    expect(env.slept).toEqual([500]);
    expect(env.out).toMatch(/^sluice 0\.1\.0 {2}pid 4242 {2}up 1m30s {2}generation 3 {2}ready\n/);
    expect(env.out).toMatch(/packets +1,250 +400 +350 +500 +0 +0 +0\n/);
    expect(env.out).toMatch(/a second +250 +0 +250/);
    expect(env.out).toMatch(/veth0 +up +native copy +2 +- +pass 5 {2}redirect 95\n/);
    expect(env.out).toMatch(/web +192\.0\.2\.1:80 tcp +500 +0 +17\n/);
    expect(env.out).toMatch(/ {2}10\.1\.0\.1 +active +3 +02:00:00:00:00:01 +0 +0 +17\n/);
    expect(env.out).toMatch(/drop-flood +drop +450 +50 +0 B\n/);
    expect(env.out).toMatch(/rule +400 +0\n/);
    expect(env.out).not.toContain('\u001b');
  });

  it('prints at once without rates, and JSON that is the whole status', async () => {
    await status('--no-rates');
    expect(env.slept).toEqual([]);
    expect(env.out).not.toContain('A SECOND');
    env.out = '';
    await status('--json');
    const printed = JSON.parse(env.out) as Status;
    expect(printed.services[0].backends).toHaveLength(2);
    expect(printed).toMatchObject({ ready: true, generation: 3, violations: [] });
  });

  it('watches for as many readings as asked, drawing over the former page on a terminal only', async () => {
    await status('--watch', '--count', '3', '--interval', '2');
    expect(env.slept).toEqual([2000, 2000]);
    expect(env.out.match(/^sluice 0\.1\.0/gm)).toHaveLength(3);
    expect(env.out).not.toContain('\u001b');

    const terminal = new FakeEnv({ ...env.variables, NO_COLOR: '1' }, true);
    await runCommand(statusCommand(terminal), ['-w', '-n', '2']);
    expect(terminal.out.split('\u001b[H')).toHaveLength(3);
    expect(terminal.out.split('\u001b[2J')).toHaveLength(2);
    expect(terminal.out).not.toMatch(/\u001b\[\d+m/);
  });

  it('watches as lines of JSON, and ends when the user wants it to', async () => {
    env.onSleep = () => {
      if (env.slept.length === 3) env.controller.abort();
    };
    expect((await status('--watch', '--json')).code).toBe(0);
    const lines = env.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Status);
    expect(lines.map((line) => line.clockMs)).toEqual([1000, 2000, 3000]);
  });

  it('says why it is not ready, and that the last reload failed', async () => {
    view = fakeView({
      workers: [{ ...view.workers[0], up: false, problem: 'queue 0 is busy' }],
      lastReload: { success: false, atMs: Date.now() - 5000, error: 'sluice.yaml:3:1: unknown key' },
    });
    await status('--no-rates');
    expect(env.out).toContain('not ready');
    expect(env.out).toContain('worker 0 is down: queue 0 is busy');
    expect(env.out).toMatch(/last reload failed [56]s ago\n {2}sluice.yaml:3:1: unknown key/);
  });

  it('fails with what to do when sluice does not run, and on options that cannot be', async () => {
    const { code, error } = await status('--socket', join(directory, 'none.sock'));
    expect(code).toBe(1);
    expect(error).toMatchObject({
      code: 'SLUICE_CONTROL',
      remedy: expect.stringContaining('Is sluice running?') as string,
    });
    expect((await status('--interval', '0')).code).toBe(2);
    expect((await status('--count', 'x')).code).toBe(2);
    expect((await status('--jsno')).code).toBe(2);
  });
});

describe('the status page', () => {
  function pageOf(of: RuntimeView, change: Partial<Parameters<typeof statusTable>[1]> = {}): string[] {
    return statusTable(buildStatus(of, 1), {
      before: null,
      width: 100,
      colour: false,
      maxRows: 40,
      nowMs: Date.now(),
      ...change,
    });
  }

  it('fits 100 columns also with long names and large numbers', () => {
    const name = 'a-service-with-quite-a-long-name-as-people-like-to-give-them';
    const of = fakeView({
      services: [
        fakeService(0, name, [fakeBackend(0, { address: '2001:db8:1111:2222:3333:4444:5555:6666', weight: 65535 })]),
      ],
      rules: [
        { id: 0, name: `${name}-rule-and-then-some-more-of-it-to-go-over-the-line`, action: 'drop', mode: 'enforce' },
      ],
      configPath: `/etc/${'x'.repeat(120)}.yaml`,
      lastReload: { success: false, atMs: 0, error: 'e'.repeat(200) },
    });
    const block = new Float64Array(of.counters.worker(0).block);
    for (let i = 0; i < CounterBlock.services; i++) block[i] = 2 ** 52;
    for (const start of [CounterBlock.services, CounterBlock.backends, CounterBlock.rules])
      block.fill(2 ** 52, start, start + 4);
    const before = { ...buildStatus(of, 0), drops: {}, clockMs: 0 };
    const lines = pageOf(of, { before });
    for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(100);
  });

  it('shows so many rows and says how many more there are', () => {
    const of = fakeView({ services: Array.from({ length: 50 }, (_, s) => fakeService(s, `s${s}`, [fakeBackend(s)])) });
    expect(pageOf(of, { maxRows: 10 }).join('\n')).toContain('… and 90 rows more (--all shows them)');
    expect(pageOf(of, { maxRows: Infinity }).join('\n')).not.toContain('more (--all');
  });

  it('makes no rates from the counters of another process', () => {
    const before = { ...buildStatus(view, 0), pid: 1 };
    expect(pageOf(view, { before }).join('\n')).not.toContain('a second');
  });

  it('shouts when counters do not add up', () => {
    words()[Counter.rx] = 1;
    expect(pageOf(view).join('\n')).toContain('counters do not add up: queue 0: rx = drop + pass');
  });
});

describe('sluice reload', () => {
  it('prints what changed', async () => {
    expect((await reload()).code).toBe(0);
    expect(env.out).toBe('reloaded, generation 4: 2 changes\n  service dns: added\n  rule x: removed\n');
    reloadResult = { ...reloadResult, changes: [] };
    env.out = '';
    await reload();
    expect(env.out).toBe('reloaded, generation 4: nothing changed\n');
  });

  it('prints each problem with its place, and exits 78', async () => {
    const problem = {
      file: 'sluice.yaml',
      line: 12,
      column: 7,
      path: 'rules[0].action',
      message: 'no such action',
      remedy: 'Use drop.',
    };
    reloadResult = { applied: false, generation: 3, changes: [], problems: [problem] };
    const { code, error } = await reload();
    expect(code).toBe(78);
    expect(error).toMatchObject({ message: 'not reloaded: 1 problem', remedy: 'Generation 3 goes on as before.' });
    expect(env.err).toBe('sluice.yaml:12:7: rules[0].action: no such action\n  Use drop.\n');
    expect(env.out).toBe('');
  });

  it('prints JSON in both cases', async () => {
    await reload('--json');
    expect(JSON.parse(env.out)).toEqual(reloadResult);
    env.out = '';
    reloadResult = { ...reloadResult, applied: false, problems: [] };
    expect((await reload('--json')).code).toBe(78);
    expect(JSON.parse(env.out)).toHaveProperty('applied', false);
  });
});

describe('sluice backend', () => {
  it('lists backends, of one service if asked', async () => {
    view = fakeView({
      services: [...view.services, fakeService(1, 'dns', [fakeBackend(7, { state: 'draining', nextHop: null })])],
    });
    await backend('list');
    expect(env.out).toMatch(/web +10\.1\.0\.1 +active +3 +02:00:00:00:00:01 +0 +0 +0 +\S+ +config\n/);
    expect(env.out).toMatch(/dns +10\.1\.0\.7 +draining +1 +unknown/);
    env.out = '';
    await backend('list', 'dns', '--json');
    expect(JSON.parse(env.out)).toMatchObject([{ service: 'dns', address: '10.1.0.7', state: 'draining' }]);
    expect((await backend('list', 'dsn')).error).toMatchObject({ remedy: 'Did you mean "dns"?' });
  });

  it.each<[string[], object, string]>([
    [['drain', 'web', '10.1.0.1'], { state: 'draining' }, 'web 10.1.0.1: active → draining (generation 9)\n'],
    [['deactivate', 'web', '10.1.0.1'], { state: 'inactive' }, 'web 10.1.0.1: active → inactive (generation 9)\n'],
    [
      ['activate', 'web', '10.1.0.1'],
      { state: 'active' },
      'web 10.1.0.1: is active with weight 3 already (generation 9)\n',
    ],
    [['weight', 'web', '10.1.0.1', '0'], { weight: 0 }, 'web 10.1.0.1: weight 3 → 0 (generation 9)\n'],
  ])('%j asks the daemon for just that', async (args, change, text) => {
    expect(await backend(...args)).toEqual({ code: 0, error: null });
    expect(changes).toEqual([{ service: 'web', backend: '10.1.0.1', ...change }]);
    expect(env.out).toBe(text);
  });

  it('shows what health checks say, since when a state holds, and why', async () => {
    const health = { up: false, sinceMs: 0, lastError: 'timeout', latencyMs: null, ok: 4, failed: 3, held: false };
    const sinceMs = Date.now() - 90_000;
    view = fakeView({
      services: [
        fakeService(1, 'dns', [
          fakeBackend(7, { state: 'draining', reason: 'health: timeout', sinceMs, health }),
          fakeBackend(8, { health: { ...health, up: true, held: true } }),
          fakeBackend(9, { health: { ...health, up: null } }),
        ]),
      ],
    });
    // Not a terminal: nothing is cut.
    env.width = 60;
    await backend('list');
    expect(env.out).toMatch(/10\.1\.0\.7 .* down +1m3\ds +health: timeout\n/);
    expect(env.out).toMatch(/10\.1\.0\.8 .* up \(held\)/);
    expect(env.out).toMatch(/10\.1\.0\.9 .* unknown/);
  });

  it('tells the daemon why', async () => {
    expect(await backend('drain', 'web', '10.1.0.1', '--reason', 'disk')).toEqual({ code: 0, error: null });
    expect(changes).toEqual([{ service: 'web', backend: '10.1.0.1', state: 'draining', reason: 'disk' }]);
    expect((await backend('drain', 'web', '10.1.0.1', '--reason', 'a\nb')).error).toMatchObject({
      message: 'reason must be text of 1 to 200 printable characters',
    });
  });

  it('waits until a draining backend has no flows, and says how many are left', async () => {
    const flows = CounterBlock.backends + BackendCounter.SIZE + BackendCounter.flows;
    words()[flows] = 3;
    env.onSleep = () => {
      words()[flows] = Math.max(0, words()[flows] - 2);
    };
    expect((await backend('drain', 'web', '10.1.0.1', '--wait', '10')).code).toBe(0);
    expect(env.out).toBe('web 10.1.0.1: active → draining (generation 9)\n3 flows left\n1 flow left\n0 flows left\n');
  });

  it('exits 1 when flows are left after the time', async () => {
    words()[CounterBlock.backends + BackendCounter.SIZE + BackendCounter.flows] = 3;
    const { code, error } = await backend('drain', 'web', '10.1.0.1', '--wait', '2.5');
    expect(code).toBe(1);
    expect(error?.message).toBe('backend 10.1.0.1 still has 3 flows');
    expect(env.slept).toEqual([1000, 1000, 500]);
  });

  it('names the nearest service and backend when one is misspelt, exit 2', async () => {
    const service = await backend('drain', 'wbe', '10.1.0.1');
    expect([service.code, (service.error as { remedy?: string }).remedy]).toEqual([2, 'Did you mean "web"?']);
    const address = await backend('drain', 'web', '10.1.0.10');
    expect((address.error as { remedy?: string }).remedy).toBe('Did you mean "10.1.0.0"?');
  });

  it.each([['-1'], ['65536'], ['1.5'], ['x'], ['']])('refuses the weight %j before asking', async (weight) => {
    expect((await backend('weight', 'web', '10.1.0.1', '--', weight)).code).toBe(2);
    expect(changes).toEqual([]);
  });
});

describe('help', () => {
  it.each([['status'], ['reload'], ['backend']])('of %s has examples and names the socket', (name) => {
    const command = { status: statusCommand, reload: reloadCommand, backend: backendCommand }[name]!(env);
    let text = '';
    command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
    expect(text).toContain('Examples:');
    expect(text).toContain(`sluice ${name}`);
  });
});

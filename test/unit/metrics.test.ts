import { readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { createLog } from '../../src/control/log.js';
import { MetricsCollector } from '../../src/control/metrics/collector.js';
import { MonotoneCounts } from '../../src/control/metrics/monotone.js';
import { labels, TextWriter } from '../../src/control/metrics/text.js';
import type { RuntimeView } from '../../src/control/api/view.js';
import {
  BackendCounter,
  Counter,
  CounterBlock,
  PortCounter,
  RuleCounter,
  ServiceCounter,
} from '../../src/shared/layout.js';
import { parseExposition, type Exposition } from '../support/exposition.js';
import { fakeBackend, fakeService, fakeView } from '../support/fake_view.js';

async function scrape(view: RuntimeView): Promise<Exposition> {
  return parseExposition(await new MetricsCollector(() => view).render());
}

function block(view: RuntimeView, queue: number): Float64Array {
  return new Float64Array(view.counters.worker(queue).block);
}

describe('the text', () => {
  it('escapes backslashes, quotes and line feeds of label values, and nothing else', () => {
    const text = new TextWriter()
      .family('sluice_x', 'gauge', 'One\nline with a \\.')
      .sample(labels({ a: 'C:\\DIR\\"q"\n', b: 'ü€ 😀 {}=,' }), 1)
      .finish()
      .toString();
    expect(text).toBe(
      '# HELP sluice_x One\\nline with a \\\\.\n# TYPE sluice_x gauge\n' +
        'sluice_x{a="C:\\\\DIR\\\\\\"q\\"\\n",b="ü€ 😀 {}=,"} 1\n',
    );
    expect(() => parseExposition(text)).not.toThrow();
  });

  it('writes numbers as the format spells them', () => {
    const out = new TextWriter().family('sluice_x', 'gauge', 'x');
    [2 ** 53, 1e21, 0.1, Infinity, -Infinity, NaN].forEach((value, i) => out.sample(`i="${i}"`, value));
    const values = out
      .finish()
      .toString()
      .trim()
      .split('\n')
      .slice(2)
      .map((line) => line.split(' ')[1]);
    expect(values).toEqual(['9007199254740992', '1e+21', '0.1', '+Inf', '-Inf', 'NaN']);
  });

  it('refuses the same family twice', () => {
    const out = new TextWriter().family('sluice_x', 'gauge', 'x');
    expect(() => out.family('sluice_x', 'gauge', 'x')).toThrow('written twice');
  });
});

describe('a scrape', () => {
  it('is well formed, and names follow the conventions', async () => {
    const { types, samples } = await scrape(fakeView());
    expect(samples.size).toBeGreaterThan(150);
    for (const [name, type] of types) {
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      expect(name).toMatch(/^(sluice|process|nodejs)_/);
      expect(name).not.toMatch(/_(ns|ms|us|kb|mb|milliseconds)(_|$)/);
    }
  });

  it('reads every counter where it belongs', async () => {
    const view = fakeView({ filters: [{ name: 'mine', position: 1 }] });
    const words = block(view, 1);
    words.set([100, 6400, 40, 10, 20, 25, 5], Counter.rx);
    words[Counter.sampledNs] = 2.5e9;
    words[Counter.flows] = 77;
    words.set([4, 2], Counter.programsCompiled);
    words[CounterBlock.reasons + 18] = 45;
    words[CounterBlock.ports + PortCounter.rxPackets] = 100;
    words[CounterBlock.ports + PortCounter.kernelFillEmpty] = 3;
    words[CounterBlock.ports + PortCounter.framesFree] = 60;
    words[CounterBlock.ports + PortCounter.framesFill] = 4;
    words[CounterBlock.ports + PortCounter.framesTotal] = 64;
    words[CounterBlock.services + ServiceCounter.bytes] = 7;
    words[CounterBlock.backends + BackendCounter.SIZE + BackendCounter.flows] = 8;
    words[CounterBlock.backends + BackendCounter.SIZE + BackendCounter.packets] = 9;
    words[CounterBlock.rules + RuleCounter.SIZE + RuleCounter.packets] = 10;
    words[CounterBlock.filters + 1] = 11;
    const { samples } = await scrape(view);
    const expected: Record<string, number> = {
      [`sluice_build_info{version="0.1.0",node="${process.versions.node}"}`]: 1,
      sluice_ready: 1,
      sluice_config_generation: 3,
      sluice_config_last_reload_success: 1,
      sluice_counter_violations: 0,
      'sluice_worker_up{queue="1"}': 1,
      'sluice_verdict_packets_total{verdict="drop",queue="1"}': 40,
      'sluice_verdict_packets_total{verdict="aborted",queue="1"}': 5,
      'sluice_verdict_packets_total{verdict="redirect",queue="1"}': 25,
      'sluice_drop_packets_total{reason="rule",queue="1"}': 45,
      'sluice_drop_packets_total{reason="rule",queue="0"}': 0,
      'sluice_sampled_seconds_total{queue="1"}': 2.5,
      'sluice_flows{queue="1"}': 77,
      'sluice_programs{engine="js",queue="1"}': 4,
      'sluice_programs{engine="interpreter",queue="1"}': 2,
      'sluice_rx_packets_total{interface="veth0",queue="1"}': 100,
      'sluice_kernel_fill_ring_empty_total{interface="veth0",queue="1"}': 3,
      'sluice_frames{owner="free",queue="1"}': 60,
      'sluice_frames{owner="fill",queue="1"}': 4,
      'sluice_service_bytes_total{service="web"}': 7,
      'sluice_backend_flows{service="web",backend="10.1.0.1"}': 8,
      'sluice_backend_packets_total{service="web",backend="10.1.0.1"}': 9,
      'sluice_backend_weight{service="web",backend="10.1.0.1"}': 3,
      'sluice_backend_state{service="web",backend="10.1.0.1",state="active"}': 1,
      'sluice_backend_state{service="web",backend="10.1.0.1",state="draining"}': 0,
      'sluice_rule_packets_total{rule="see-dns"}': 10,
      'sluice_filter_drop_packets_total{filter="mine"}': 11,
      'sluice_xdp_packets_total{interface="veth0",action="redirect"}': 95,
    };
    for (const [key, value] of Object.entries(expected)) expect(samples.get(key), key).toBe(value);
    expect([...samples.keys()].filter((key) => key.startsWith('sluice_frames{') && key.includes('queue="0"'))).toEqual(
      [],
    );
  });

  it('keeps what a config may hold in labels harmless', async () => {
    const name = 'a"b\\c\nd}';
    const view = fakeView({
      services: [fakeService(0, name, [fakeBackend(0)])],
      rules: [{ id: 0, name, action: 'drop', mode: 'enforce' }],
    });
    const { samples } = await scrape(view);
    expect(samples.get('sluice_rule_packets_total{rule="a\\"b\\\\c\\nd}"}')).toBe(0);
  });

  it('shows what is wrong: a worker down, a bad reload, an interface that is gone, an unknown next hop', async () => {
    const base = fakeView();
    const sick = { up: false, sinceMs: 0, lastError: 'timeout', latencyMs: null, ok: 5, failed: 3, held: true };
    const view = fakeView({
      workers: [{ ...base.workers[0], up: false, restarts: 4 }],
      lastReload: { success: false, atMs: 1500, error: 'x' },
      interfaces: [
        {
          ...base.interfaces[0],
          mode: null,
          up: false,
          unboundQueues: [1],
          xdp: () => {
            throw new Error('ENODEV');
          },
        },
      ],
      services: [fakeService(0, 'web', [fakeBackend(0, { nextHop: null, state: 'draining', health: sick })])],
    });
    const { samples } = await scrape(view);
    expect(samples.get('sluice_ready')).toBe(0);
    expect(samples.get('sluice_worker_up{queue="0"}')).toBe(0);
    expect(samples.get('sluice_worker_restarts_total{queue="0"}')).toBe(4);
    expect(samples.get('sluice_config_last_reload_success')).toBe(0);
    expect(samples.get('sluice_config_last_reload_timestamp_seconds')).toBe(1.5);
    expect(samples.get('sluice_interface_up{interface="veth0"}')).toBe(0);
    expect(samples.get('sluice_interface_unbound_queues{interface="veth0"}')).toBe(1);
    expect(samples.get('sluice_xdp_read_failed{interface="veth0"}')).toBe(1);
    expect(samples.get('sluice_backend_resolved{service="web",backend="10.1.0.0"}')).toBe(0);
    expect(samples.get('sluice_backend_state{service="web",backend="10.1.0.0",state="draining"}')).toBe(1);
    expect(samples.get('sluice_backend_health_up{service="web",backend="10.1.0.0"}')).toBe(0);
    expect(samples.get('sluice_backend_health_held{service="web",backend="10.1.0.0"}')).toBe(1);
    expect(samples.get('sluice_backend_health_checks_total{service="web",backend="10.1.0.0",result="failed"}')).toBe(3);
  });

  it('never lets a counter go down: over a worker’s restart, a new XDP object, a rule that comes back elsewhere', async () => {
    let redirect = 95;
    const base = fakeView();
    const interfaces = [{ ...base.interfaces[0], xdp: () => ({ redirect }) }];
    let view = { ...base, interfaces };
    const collector = new MetricsCollector(() => view);
    const rule = 'sluice_rule_packets_total{rule="drop-flood"}';
    const xdp = 'sluice_xdp_packets_total{interface="veth0",action="redirect"}';
    const judged = 'sluice_verdict_packets_total{verdict="drop",queue="0"}';
    let former: Exposition | null = null;
    const next = async (): Promise<Exposition> => {
      const now = parseExposition(await collector.render());
      for (const [key, value] of former?.samples ?? []) {
        const family = key.split('{')[0];
        if (!now.samples.has(key) || now.types.get(family) !== 'counter') continue;
        expect(now.samples.get(key), key).toBeGreaterThanOrEqual(value);
      }
      return (former = now);
    };
    block(view, 0)[CounterBlock.rules] = 50;
    block(view, 0)[Counter.drop] = 50;
    await next();
    view.counters.worker(0).renew();
    block(view, 0)[CounterBlock.rules] = 1;
    redirect = 3;
    expect((await next()).samples.get(rule)).toBe(51);
    expect(former!.samples.get(xdp)).toBe(98);
    expect(former!.samples.get(judged)).toBe(50);

    view = { ...view, rules: [{ id: 0, name: 'other', action: 'drop', mode: 'enforce' }] };
    await next();
    expect(former!.samples.has(rule)).toBe(false);
    block(view, 0)[CounterBlock.rules] = 21;
    view = { ...view, rules: [{ id: 5, name: 'drop-flood', action: 'drop', mode: 'enforce' }] };
    block(view, 0)[CounterBlock.rules + 5 * RuleCounter.SIZE] = 2;
    expect((await next()).samples.get(rule)).toBe(53);
  });

  it('of 10,000 services with four backends each and two workers takes less than a second', async () => {
    const services = Array.from({ length: 10_000 }, (_, s) =>
      fakeService(
        s,
        `service-${s}`,
        Array.from({ length: 4 }, (_, b) => fakeBackend(4 * s + b)),
      ),
    );
    const view = fakeView({ services });
    for (const queue of [0, 1]) {
      const words = block(view, queue);
      for (let i = CounterBlock.services; i < CounterBlock.rules; i++) words[i] = i;
    }
    const collector = new MetricsCollector(() => view);
    // CPU time, not the clock: other tests run beside this one.
    let best = Infinity;
    let bytes = 0;
    for (let run = 0; run < 4; run++) {
      const start = process.cpuUsage();
      bytes = (await collector.render()).length;
      const { user, system } = process.cpuUsage(start);
      best = Math.min(best, (user + system) / 1000);
    }
    console.log(`scrape of 10,000 services: ${best.toFixed(0)} ms of CPU at best, ${(bytes / 1e6).toFixed(1)} MB`);
    expect(bytes).toBeGreaterThan(10e6);
    expect(best).toBeLessThan(1000);
  });

  it('grows its buffer to any size and keeps characters of several bytes whole', () => {
    const out = new TextWriter().family('sluice_x', 'gauge', 'x');
    const label = labels({ a: '€😀'.repeat(100) });
    for (let i = 0; i < 2000; i++) out.sample(`${label},i="${i}"`, i);
    const { samples } = parseExposition(out.finish());
    expect(samples.size).toBe(2000);
    expect(samples.get(`sluice_x{${label},i="1999"}`)).toBe(1999);
  });
});

describe('docs/metrics.md', () => {
  it('names every metric there is, with its type, and no other', async () => {
    const text = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
    const stream = new PassThrough();
    const log = createLog({ level: 'info', format: 'json', stream });
    const { types } = parseExposition(await new MetricsCollector(() => fakeView(), log).render());
    const described = text.slice(0, text.indexOf('## Alerts'));
    const named = new Set(described.match(/(?<=`)(sluice|process|nodejs)_[a-z_]+(?=`)/g));
    expect([...types.keys()].filter((name) => !named.has(name))).toEqual([]);
    expect([...named].filter((name) => !types.has(name))).toEqual([]);
    for (const [, names, type] of described.matchAll(/^\| (`sluice_.*?`) \| (counter|gauge) \|/gm)) {
      for (const name of names.split(', ')) expect(types.get(name.replaceAll('`', '')), name).toBe(type);
    }
  });
});

describe('sums from the kernel', () => {
  it('go on when the kernel starts again at zero', () => {
    const counts = new MonotoneCounts();
    expect([5, 9, 2, 2, 0, 1].map((reading) => counts.read('k', reading))).toEqual([5, 9, 11, 11, 11, 12]);
  });
});

describe('the process’s metrics', () => {
  it('are read from /proc when asked for, and need no timer', async () => {
    const { samples } = await scrape(fakeView());
    expect(samples.get('process_resident_memory_bytes')).toBeGreaterThan(10e6);
    expect(samples.get('process_open_fds')).toBeGreaterThan(3);
    expect(samples.get('process_max_fds')).toBeGreaterThan(100);
    expect(samples.get('process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(samples.get(`nodejs_version_info{version="${process.version}"}`)).toBe(1);
    expect(process.getActiveResourcesInfo().filter((name) => name === 'ELDHistogram')).toEqual([]);
  });
});

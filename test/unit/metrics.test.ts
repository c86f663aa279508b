import { connect } from 'node:net';
import { request as httpRequest } from 'node:http';
import { readFileSync } from 'node:fs';
import { PassThrough, Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLog } from '../../src/control/log.js';
import { MetricsCollector } from '../../src/control/metrics/collector.js';
import { MonotoneCounts } from '../../src/control/metrics/monotone.js';
import { MetricsServer } from '../../src/control/metrics/server.js';
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
import { fakeBackend, fakeService, fakeView } from '../support/fake_view.js';

interface Exposition {
  types: Map<string, string>;
  /** By name and labels, as they are written. */
  samples: Map<string, number>;
}

/** Reads the text format by its rules and refuses what breaks them: order, names, escapes, doubles. */
function parseExposition(input: string | Buffer): Exposition {
  const text = String(input);
  const types = new Map<string, string>();
  const samples = new Map<string, number>();
  let family = '';
  let helped = '';
  expect(text.endsWith('\n')).toBe(true);
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const help = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$/.exec(line);
    const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)$/.exec(line);
    if (help) {
      helped = help[1];
    } else if (type) {
      if (helped !== type[1] || types.has(type[1])) throw new Error(`TYPE out of place: ${line}`);
      family = type[1];
      types.set(family, type[2]);
    } else {
      const sample =
        /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*\})? (-?[\d.]+(?:e[+-]?\d+)?|NaN|[+-]Inf)$/.exec(
          line,
        );
      if (!sample) throw new Error(`no sample: ${line}`);
      if (sample[1] !== family) throw new Error(`sample of another family: ${line}`);
      const key = sample[1] + (sample[2] ?? '');
      if (samples.has(key)) throw new Error(`twice: ${key}`);
      samples.set(key, Number(sample[3].replace('Inf', 'Infinity')));
    }
  }
  return { types, samples };
}

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
      rules: [{ id: 0, name, action: 'drop' }],
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

    view = { ...view, rules: [{ id: 0, name: 'other', action: 'drop' }] };
    await next();
    expect(former!.samples.has(rule)).toBe(false);
    block(view, 0)[CounterBlock.rules] = 21;
    view = { ...view, rules: [{ id: 5, name: 'drop-flood', action: 'drop' }] };
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

describe('the server', () => {
  let view: RuntimeView;
  let server: MetricsServer;
  let logged: string;
  const log = createLog({
    level: 'info',
    format: 'json',
    stream: new Writable({ write: (chunk, _, done) => ((logged += String(chunk)), done()) }),
  });

  beforeEach(async () => {
    logged = '';
    view = fakeView();
    server = await MetricsServer.listen({ host: '127.0.0.1', port: 0 }, () => view, log);
  });
  afterEach(() => server.close());

  interface Answer {
    status: number;
    headers: Record<string, string | string[] | undefined>;
    body: string;
  }

  function ask(path: string, options: { method?: string; host?: string; body?: string } = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          host: '127.0.0.1',
          port: server.address.port,
          path,
          method: options.method ?? 'GET',
          headers: {
            ...(options.host === undefined ? {} : { Host: options.host }),
            ...(options.body === undefined ? {} : { 'Content-Length': options.body.length }),
          },
        },
        (response) => {
          let body = '';
          response.on('data', (chunk) => (body += String(chunk)));
          response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
        },
      );
      request.on('error', reject);
      request.end(options.body);
    });
  }

  it('gives metrics with prom-client’s content type and a length', async () => {
    const { status, headers, body } = await ask('/metrics?x=1');
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(headers['content-length']).toBe(String(Buffer.byteLength(body)));
    expect(parseExposition(body).samples.get('sluice_log_lines_lost_total{cause="stalled"}')).toBe(0);
  });

  it('answers HEAD with the headers alone', async () => {
    const { status, headers, body } = await ask('/metrics', { method: 'HEAD' });
    expect([status, body]).toEqual([200, '']);
    expect(Number(headers['content-length'])).toBeGreaterThan(1000);
  });

  it('is healthy while it answers, and ready when all serve; else it names what is missing', async () => {
    expect(await ask('/healthz')).toMatchObject({ status: 200, body: 'ok\n' });
    expect(await ask('/readyz')).toMatchObject({ status: 200, body: 'ready\n' });
    view = fakeView({ workers: [{ ...view.workers[0], up: false, problem: 'queue 0 is busy' }] });
    expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'not ready\nworker 0 is down: queue 0 is busy\n' });
    expect((await ask('/healthz')).status).toBe(200);
  });

  it.each<[string, string, number]>([
    ['GET', '/', 404],
    ['GET', '/metrics/', 404],
    ['GET', '/../metrics', 404],
    ['POST', '/metrics', 405],
    ['DELETE', '/anything', 405],
    ['OPTIONS', '*', 405],
    ['PUT', '/healthz', 405],
  ])('answers %s %s with %i', async (method, path, status) => {
    const answer = await ask(path, { method });
    expect(answer.status).toBe(status);
    expect(answer.headers.allow).toBe(status === 405 ? 'GET, HEAD' : undefined);
  });

  it('takes no body', async () => {
    expect((await ask('/metrics', { method: 'GET', body: 'x'.repeat(100) })).status).toBe(413);
  });

  it.each<[string, number]>([
    ['127.0.0.1', 200],
    ['localhost:9100', 200],
    ['LOCALHOST.', 200],
    ['[::1]:9100', 200],
    ['evil.example', 403],
    ['evil.example:80', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example', 403],
    ['192.0.2.9', 403],
    [':80', 403],
    ['localhost:80:80', 403],
  ])('serves the Host %s with %i', async (host, status) => {
    expect((await ask('/healthz', { host })).status).toBe(status);
  });

  it('on a wildcard address serves plain addresses that are its own, and still no foreign name', async () => {
    await server.close();
    server = await MetricsServer.listen({ host: '0.0.0.0', port: 0 }, () => view, log);
    expect((await ask('/healthz', { host: `127.0.0.1:${server.address.port}` })).status).toBe(200);
    expect((await ask('/healthz', { host: '198.51.100.1' })).status).toBe(403);
    expect((await ask('/healthz', { host: 'evil.example' })).status).toBe(403);
  });

  it('tells a client nothing of a failure inside, logs it, and goes on', async () => {
    view = new Proxy(view, {
      get(target, key) {
        if (key === 'services') throw new Error('boom');
        return Reflect.get(target, key) as unknown;
      },
    });
    const { status, body } = await ask('/metrics');
    expect(status).toBe(500);
    expect(body).not.toContain('boom');
    expect(logged).toContain('boom');
    expect((await ask('/healthz')).status).toBe(200);
  });

  it('closes a connection whose header does not come to an end', async () => {
    const socket = connect(server.address.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n');
    const start = performance.now();
    let answer = '';
    socket.on('data', (chunk) => (answer += String(chunk)));
    await new Promise((resolve) => socket.on('close', resolve));
    expect(answer).toContain('408');
    expect(performance.now() - start).toBeLessThan(9000);
  });

  it('makes only so many scrapes for clients that do not read, and is free again when they go', async () => {
    view = fakeView({
      services: Array.from({ length: 5000 }, (_, s) =>
        fakeService(s, `s${s}`, [fakeBackend(2 * s), fakeBackend(2 * s + 1)]),
      ),
    });
    const lazy = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const socket = connect(server.address.port, '127.0.0.1');
        socket.on('error', () => undefined);
        socket.pause();
        await new Promise((resolve) => socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n', resolve));
        return socket;
      }),
    );
    await expect.poll(async () => (await ask('/metrics')).status).toBe(503);
    lazy.forEach((socket) => socket.destroy());
    await expect.poll(async () => (await ask('/metrics')).status).toBe(200);
  });

  it('says which port is taken, and that a foreign address cannot be listened on', async () => {
    const taken = MetricsServer.listen({ host: '127.0.0.1', port: server.address.port }, () => view, log);
    await expect(taken).rejects.toMatchObject({
      code: 'SLUICE_STATE',
      message: `cannot serve metrics on 127.0.0.1:${server.address.port}: the port is taken`,
    });
    const foreign = MetricsServer.listen({ host: '192.0.2.77', port: 0 }, () => view, log);
    await expect(foreign).rejects.toMatchObject({ code: 'SLUICE_CONFIG' });
  });
});

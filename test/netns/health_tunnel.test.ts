/**
 * Checks through the tunnel on real links: this process is the balancer's control plane (it enters lb's namespace), the backends
 * are the demo's. Whatever the way in, the answer says which backend gave it.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { BackendHealth, HealthTarget } from '../../src/control/health/backend_health.js';
import { HealthMonitor } from '../../src/control/health/monitor.js';
import { HealthTunnel } from '../../src/control/health/tunnel/health_tunnel.js';
import type { TunnelRoute } from '../../src/control/health/tunnel/wrap.js';
import { native } from '../../src/native.js';
import { Backend, ECHO_PORT, HTTP_PORT } from '../../src/playground/backends.js';
import { Playground } from '../../src/playground/netns.js';
import { compiledProgram } from '../../src/playground/process.js';
import { HOST_INTERFACE, VIP4, VIP6, buildTopology, type Host, type Topology } from '../../src/playground/topology.js';
import { parseAddress, parseMac, parsePrefix } from '../../src/shared/addr.js';
import type { CheckConfig, HealthConfig } from '../../src/shared/health_config.js';

type Encapsulation = TunnelRoute['encapsulation'];
const GUE = { port: 6080, variant: 1, checksum: 'zero' } as const;
const IPIP: Encapsulation = { kind: 'ipip', gue: GUE };

const playground = new Playground();
const records = mkdtempSync(join(tmpdir(), 'sluice-health-'));
let topology: Topology;
let backends: Backend[];
const macs = new Map<string, Uint8Array>();

/** What the tunnel takes for the way to a backend; tests change it. */
let encapsulation: Encapsulation;
let outer: 4 | 6;
let resolved: boolean;

function macOf(host: Host): Uint8Array {
  return parseMac(host.namespace.query<{ address: string }[]>('link', 'show', HOST_INTERFACE)[0].address);
}

function routeTo(key: string): TunnelRoute | null {
  const host = topology.backends.find(({ name }) => key.startsWith(name));
  if (host === undefined || !resolved) return null;
  const addressOf = (one: Host) => parseAddress(outer === 4 ? one.address4 : one.address6);
  return {
    interface: HOST_INTERFACE,
    smac: macs.get('lb')!,
    dmac: macs.get(host.name)!,
    sourceAddress: addressOf(topology.lb),
    destination: addressOf(host),
    encapsulation,
  };
}

/** An answer that nobody but this backend gives. */
function httpOf(host: Host): CheckConfig {
  const body = { kind: 'text' as const, text: `"backend":"${host.name}"` };
  return { type: 'http', path: '/', method: 'GET', host: null, status: [{ first: 200, last: 200 }], body, tls: null };
}
function udpOf(host: Host): CheckConfig {
  return { type: 'udp', request: Buffer.from('hello'), expect: Buffer.from(`${host.name} hello`) };
}

function target(host: Host, vip: string, check: CheckConfig, config: Partial<HealthConfig> = {}): HealthTarget {
  const whole: HealthConfig = {
    check,
    port: null,
    intervalMs: 100,
    timeoutMs: 400,
    rise: 1,
    fall: 1,
    jitter: 0,
    through: 'tunnel',
    allDown: 'drop',
    flap: null,
    ...config,
  };
  const port = check.type === 'udp' ? ECHO_PORT : HTTP_PORT;
  const key = `${host.name} ${vip} ${check.type} ${whole.through}`;
  return { key, service: 'web', address: parseAddress(host.address4), vip: parsePrefix(vip), port, config: whole };
}

/** A monitor with a tunnel, closed with the test. */
function open() {
  const failures: string[] = [];
  const problems: string[] = [];
  const tunnel = new HealthTunnel({ route: routeTo, recordDirectory: records, retryMs: 200 });
  tunnel.on('problem', ({ message }) => problems.push(message));
  const monitor = new HealthMonitor({ tunnel });
  monitor.on('change', ({ key, up, lastError }) => {
    if (up === false) failures.push(`${key}: ${lastError}`);
  });
  onTestFinished(() => monitor.close());
  return { monitor, tunnel, problems, failures };
}

async function until(monitor: HealthMonitor, what: string, holds: (health: BackendHealth) => boolean): Promise<void> {
  const endMs = performance.now() + 20_000;
  while (!monitor.all().every(holds)) {
    if (performance.now() > endMs) throw new Error(`${what}: not within 20 s, but ${JSON.stringify(monitor.all())}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const run = (...args: string[]): string => spawnSync('ip', args, { encoding: 'utf8' }).stdout;
const sysctl = (key: string): string => readFileSync(`/proc/sys/net/ipv4/${key}`, 'utf8').trim();
const RP_FILTER = `conf/${HOST_INTERFACE}/rp_filter`;

/** All that the tunnel may touch. */
const hostState = () => ({
  rules: run('rule') + run('-6', 'rule'),
  routes: run('route', 'show', 'table', 'all') + run('-6', 'route', 'show', 'table', '5210'),
  links: run('-brief', 'link').replace(/ +/g, ' '),
  reserved: sysctl('ip_local_reserved_ports'),
  rpFilter: sysctl(RP_FILTER),
  records: readdirSync(records),
  descriptors: readdirSync('/proc/self/fd').length,
});

/** Sockets are closed in later turns of the event loop. */
async function expectHost(before: ReturnType<typeof hostState>): Promise<void> {
  for (let i = 0; i < 50 && hostState().descriptors > before.descriptors; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(hostState()).toEqual(before);
}

beforeAll(async () => {
  topology = buildTopology(playground, { backends: 2 });
  macs.set('lb', macOf(topology.lb));
  for (const host of topology.backends) macs.set(host.name, macOf(host));
  backends = await Promise.all(topology.backends.map((host) => Backend.start(topology, host)));
  native().enterNetns(`/run/netns/${topology.lb.namespace.name}`);
});

afterAll(async () => {
  native().enterNetns(`/proc/${process.ppid}/ns/net`);
  await playground.close();
  rmSync(records, { recursive: true });
});

beforeEach(() => {
  encapsulation = IPIP;
  outer = 4;
  resolved = true;
});

describe('a check through the tunnel', () => {
  const gue = (variant: 0 | 1, checksum: 'zero' | 'computed'): Encapsulation => ({
    kind: 'gue',
    gue: { port: 6080, variant, checksum },
  });

  it.each<[string, Encapsulation, 4 | 6]>([
    ['IPIP over IPv4', IPIP, 4],
    ['IPIP over IPv6', IPIP, 6],
    ['GUE variant 0 over IPv4', gue(0, 'zero'), 4],
    ['GUE variant 0 over IPv6, with checksum', gue(0, 'computed'), 6],
    ['GUE variant 1 over IPv4, with checksum', gue(1, 'computed'), 4],
    ['GUE variant 1 over IPv6', gue(1, 'zero'), 6],
  ])('reaches exactly the backend that is meant: %s', async (_, wanted, family) => {
    encapsulation = wanted;
    outer = family;
    const { monitor, problems, failures } = open();
    const checks = topology.backends.flatMap((host) =>
      [VIP4, VIP6].flatMap((vip) => [target(host, vip, httpOf(host)), target(host, vip, udpOf(host))]),
    );
    monitor.setTargets(checks);
    await until(monitor, 'eight kinds of check', ({ ok }) => ok >= 3);
    expect(failures).toEqual([]);
    expect(problems).toEqual([]);
  });

  it('fails when another backend answers than the one that is meant', async () => {
    const [one, two] = topology.backends;
    const { monitor } = open();
    monitor.setTargets([target(one, VIP4, httpOf(two))]);
    await until(monitor, 'a wrong answer', ({ failed }) => failed > 0);
    expect(monitor.all()[0].lastError).toBe('the body does not match, status 200');
  });

  it('fails when the decapsulator is gone, though the backend answers on its own address', async () => {
    const [host] = topology.backends;
    const { monitor } = open();
    const direct = target(host, VIP4, httpOf(host), { through: 'direct' });
    const tunnelled = target(host, VIP4, httpOf(host));
    monitor.setTargets([direct, tunnelled]);
    await until(monitor, 'both ways', ({ up }) => up === true);
    await backends[0].program.stop(1000);
    backends[0] = await Backend.start(topology, host, { decap: false });
    const states = () => [monitor.get(direct.key)!.up, monitor.get(tunnelled.key)!.up];
    await until(monitor, 'the direct way alone', () => states().join() === 'true,false');
    expect(monitor.get(tunnelled.key)!.lastError).toBe('no connection within 400 ms');
    await backends[0].program.stop(1000);
    backends[0] = await Backend.start(topology, host);
    await until(monitor, 'both ways again', ({ up }) => up === true);
  });

  it('says why when there is no way to send it', async () => {
    resolved = false;
    const [host] = topology.backends;
    const { monitor } = open();
    monitor.setTargets([target(host, VIP4, httpOf(host))]);
    await until(monitor, 'no way', ({ failed }) => failed > 0);
    expect(monitor.all()[0]).toMatchObject({ up: false, lastError: 'the next hop is not resolved' });
    resolved = true;
    await until(monitor, 'a way', ({ up }) => up === true);
  });

  it('blames no backend when the VIP is an address of this host', async () => {
    run('address', 'add', `${VIP4}/32`, 'dev', 'lo');
    const [host] = topology.backends;
    const { monitor, tunnel } = open();
    try {
      monitor.setTargets([target(host, VIP4, httpOf(host))]);
      await until(
        monitor,
        'skipped checks',
        ({ skipped, lastError }) => skipped > 1 && lastError.includes('address of this host'),
      );
      expect(monitor.all()[0]).toMatchObject({ up: null, failed: 0 });
    } finally {
      run('address', 'del', `${VIP4}/32`, 'dev', 'lo');
    }
    tunnel.refresh();
    await until(monitor, 'checks after it has gone', ({ up }) => up === true);
  });
});

describe('the host', () => {
  it('is as it was when the last check through the tunnel is gone, and after close', async () => {
    const before = hostState();
    const [host] = topology.backends;
    const { monitor, tunnel } = open();
    await tunnel.settled();
    expect(hostState().rules).toBe(before.rules);
    monitor.setTargets([target(host, VIP4, httpOf(host)), target(host, VIP6, udpOf(host))]);
    await until(monitor, 'checks', ({ up }) => up === true);
    const during = hostState();
    expect(during.rules.match(/iif lo ipproto (tcp|udp) sport 61440-63487 lookup 5210/g)).toHaveLength(4);
    expect(during.links).toContain('sluice-health');
    expect(during.reserved).toBe('61440-63487');
    expect(during.routes).toContain(`${VIP4} dev sluice-health table 5210`);
    monitor.setTargets([target(host, VIP4, httpOf(host), { through: 'direct' })]);
    await tunnel.settled();
    expect({ ...hostState(), descriptors: 0 }).toEqual({ ...before, descriptors: 0 });
    monitor.setTargets([target(host, VIP4, httpOf(host))]);
    await until(monitor, 'checks once more', ({ up }) => up === true);
    await monitor.close();
    await expectHost(before);
  });

  describe('with a strict reverse-path filter', () => {
    const setFilter = (value: number) =>
      spawnSync('sysctl', ['-qw', `net.ipv4.${RP_FILTER.replaceAll('/', '.')}=${value}`]);
    beforeEach(() => {
      setFilter(1);
      run('link', 'add', 'other', 'type', 'veth', 'peer', 'name', 'other-end');
      run('address', 'add', '10.78.0.2/24', 'dev', 'other');
      run('link', 'set', 'other-end', 'up');
      run('link', 'set', 'other', 'up');
      return () => {
        run('link', 'del', 'other');
        setFilter(0);
      };
    });

    async function check(filterMeanwhile: string): Promise<string> {
      const before = hostState();
      const { monitor } = open();
      monitor.setTargets([target(topology.backends[0], VIP4, httpOf(topology.backends[0]))]);
      await until(monitor, 'checks', ({ ok }) => ok >= 3);
      const { rpFilter, routes } = hostState();
      expect(rpFilter).toBe(filterMeanwhile);
      await monitor.close();
      await expectHost(before);
      return /\S+ dev sluice-health .*/.exec(routes)![0];
    }

    it('is left alone when the VIP is routed by the interface of the backends', async () => {
      run('route', 'add', `${VIP4}/32`, 'via', topology.client.address4);
      expect(await check('1')).toContain(`src ${topology.lb.address4}`);
      run('route', 'del', `${VIP4}/32`);
    });

    it('filters loosely for as long when the VIP is routed by another interface', async () => {
      run('route', 'add', `${VIP4}/32`, 'dev', 'other', 'src', topology.lb.address4);
      expect(await check('2')).toContain(`src ${topology.lb.address4}`);
    });

    it('blames no backend when answers cannot pass', async () => {
      const { monitor } = open();
      monitor.setTargets([target(topology.backends[0], VIP4, httpOf(topology.backends[0]))]);
      await until(monitor, 'skipped checks', ({ skipped, lastError }) => skipped > 1 && /reverse-path/.test(lastError));
      expect(monitor.all()[0]).toMatchObject({ up: null, failed: 0 });
    });

    it('is put right by the next start after a kill -9', async () => {
      run('route', 'add', `${VIP4}/32`, 'dev', 'other', 'src', topology.lb.address4);
      const before = hostState();
      const script = `
        const { HealthTunnel } = await import(${JSON.stringify(compiledProgram('control/health/tunnel/health_tunnel'))});
        const { parseAddress } = await import(${JSON.stringify(compiledProgram('shared/addr'))});
        const route = () => ({ interface: '${HOST_INTERFACE}' });
        const tunnel = new HealthTunnel({ route, recordDirectory: ${JSON.stringify(records)} });
        tunnel.on('problem', (error) => { console.error(error); process.exit(1); });
        tunnel.setVips([parseAddress('${VIP4}'), parseAddress('${VIP6}')]);
        await tunnel.settled();
        tunnel.lease('b1', parseAddress('${VIP4}'), 80);
        process.kill(process.pid, 'SIGKILL');
      `;
      const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
      expect([child.signal, child.stderr]).toEqual(['SIGKILL', '']);
      const left = hostState();
      expect(left).toMatchObject({ links: before.links, reserved: '61440-63487', rpFilter: '2' });
      expect(left.rules.match(/lookup 5210/g)).toHaveLength(4);
      const { monitor } = open();
      monitor.setTargets([target(topology.backends[0], VIP4, httpOf(topology.backends[0]))]);
      await until(monitor, 'checks', ({ up }) => up === true);
      expect(hostState().rules.match(/lookup 5210/g)).toHaveLength(2);
      await monitor.close();
      await expectHost(before);
    });
  });

  it('gets a new device when somebody deletes it, and holds only one', async () => {
    const [host] = topology.backends;
    const { monitor, problems } = open();
    monitor.setTargets([target(host, VIP4, httpOf(host))]);
    await until(monitor, 'checks', ({ up }) => up === true);
    const second = open();
    second.tunnel.setVips([parseAddress(VIP4)]);
    await second.tunnel.settled();
    expect(second.problems).toEqual([
      'the device sluice-health is there already: another process checks through the tunnel here',
    ]);
    await second.monitor.close();
    const { ok } = monitor.all()[0];
    run('link', 'del', 'sluice-health');
    await until(monitor, 'checks by another device', (health) => health.ok > ok + 3 && health.up === true);
    expect(problems.length).toBeGreaterThan(0);
  });
});

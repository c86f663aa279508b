/** Health checks of a running daemon: what they find changes where new flows go, and nothing else. */
import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { StatusBackend } from '../../src/control/api/contract.js';
import { Backend, HTTP_PORT, startBackends } from '../../src/playground/backends.js';
import { Daemon } from '../../src/playground/daemon.js';
import { HttpLoad } from '../../src/playground/traffic.js';
import { HOST_INTERFACE, VIP4, type Topology } from '../../src/playground/topology.js';
import { testTopology } from '../support/netns.js';

const SERVICE = 'http';

function configure(topology: Topology, daemon: Daemon, service: object): void {
  const config = {
    interfaces: [{ name: HOST_INTERFACE }],
    frames: { count: 4096, ring: 1024 },
    flows: { slots: 4096 },
    services: [
      {
        name: SERVICE,
        vip: VIP4,
        port: HTTP_PORT,
        backends: topology.backends.map(({ address4 }) => address4),
        ...service,
      },
    ],
    metrics: 'off',
    control: { socket: daemon.controlSocket },
    log: { format: 'json' },
  };
  writeFileSync(daemon.configPath, stringify(config, { aliasDuplicateObjects: false }));
}

async function states(daemon: Daemon): Promise<StatusBackend[]> {
  return (await daemon.status()).services[0].backends;
}

const brief = (backends: StatusBackend[]) => backends.map(({ state, health }) => `${state} ${health?.up}`).join(', ');

it.each(['direct', 'tunnel'])('%s: a backend that fails takes no new flows until it is back', async (through) => {
  const topology = testTopology({ backends: 3 });
  const backends = await startBackends(topology);
  const daemon = new Daemon(topology);
  const health = { path: '/', interval: '200ms', timeout: '500ms', rise: 1, fall: 2, through };
  configure(topology, daemon, { health });
  daemon.spawn();
  await daemon.ready();
  await expect.poll(async () => brief(await states(daemon))).toBe('active true, active true, active true'); // prettier-ignore

  const { playground, client } = topology;
  const load = () => new HttpLoad(playground, client, { host: VIP4, port: HTTP_PORT, requests: 60 }).result;
  expect(await load()).toMatchObject({ answered: 60, failed: 0 });

  await backends[1].program.stop();
  await expect.poll(async () => brief(await states(daemon))).toBe('active true, draining false, active true'); // prettier-ignore
  const [, down] = await states(daemon);
  expect(down.reason).toMatch(/^health: /);
  expect(down.health).toMatchObject({ up: false, held: false });
  expect(Date.now() - down.sinceMs).toBeLessThan(8000);
  const without = await load();
  expect(without).toMatchObject({ answered: 60, failed: 0 });
  expect(Object.keys(without.perBackend).sort()).toEqual(['b1', 'b3']);

  await Backend.start(topology, topology.backends[1]);
  await expect.poll(async () => brief(await states(daemon))).toBe('active true, active true, active true'); // prettier-ignore
  expect((await states(daemon))[1].reason).toBe('config');
  expect(Object.keys((await load()).perBackend).sort()).toEqual(['b1', 'b2', 'b3']);
  expect((await daemon.stop())?.code).toBe(0);
  // Nothing of the tunnel is left.
  const links = topology.lb.namespace.query<{ ifname: string }[]>('link', 'show').map(({ ifname }) => ifname);
  expect(links.filter((name) => !['lo', HOST_INTERFACE].includes(name))).toEqual([]);
  expect(topology.lb.namespace.exec('ip', 'rule').trim().split('\n')).toHaveLength(3);
});

it('when all fail, they are kept or their packets dropped, as the service says', async () => {
  const topology = testTopology({ backends: 2 });
  const daemon = new Daemon(topology);
  // Nobody listens: both are down, and stay so.
  const health = { type: 'tcp', port: 9, interval: '200ms', timeout: '300ms', fall: 1 };
  configure(topology, daemon, { health: { ...health, all_down: 'drop' } });
  daemon.spawn();
  await daemon.ready();
  await expect.poll(async () => brief(await states(daemon))).toBe('draining false, draining false');
  configure(topology, daemon, { health: { ...health, all_down: 'keep_last' } });
  await daemon.reload();
  await expect.poll(async () => brief(await states(daemon))).toBe('active false, active false');
  expect((await daemon.stop())?.code).toBe(0);
});

it('a backend that drains for too long becomes inactive, and says why', async () => {
  const topology = testTopology({ backends: 2 });
  const daemon = new Daemon(topology);
  configure(topology, daemon, { drain: { timeout: '1s' } });
  daemon.spawn();
  await daemon.ready();
  const [first] = topology.backends;
  await daemon.setBackend(SERVICE, first.address4, { state: 'draining', reason: 'kernel update' });
  const [draining] = await states(daemon);
  expect(draining).toMatchObject({ state: 'draining', reason: 'kernel update', health: null });
  // Asking again, as `drain --wait` does, changes neither reason nor time.
  await daemon.setBackend(SERVICE, first.address4, { state: 'draining' });
  expect((await states(daemon))[0]).toMatchObject({ reason: 'kernel update', sinceMs: draining.sinceMs });
  await expect
    .poll(async () => (await states(daemon))[0])
    .toMatchObject({ state: 'inactive', reason: 'drain timeout' });
  await daemon.setBackend(SERVICE, first.address4, { state: 'active' });
  expect((await states(daemon))[0]).toMatchObject({ state: 'active', reason: 'operator' });
  expect((await daemon.stop())?.code).toBe(0);
});

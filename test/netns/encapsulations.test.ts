/** Real TCP through a sluice and back by direct server return, in every way that packets can travel to a backend. */
import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { stringify } from 'yaml';
import { ECHO_PORT, HTTP_PORT, startBackends } from '../../src/playground/backends.js';
import { Daemon } from '../../src/playground/daemon.js';
import { HttpLoad } from '../../src/playground/traffic.js';
import { HOST_INTERFACE, VIP4, VIP6, type Topology } from '../../src/playground/topology.js';
import { testTopology } from '../support/netns.js';

const SECOND_HOP = { kind: 'gue', gue: { variant: 0 } };

interface Way {
  name: string;
  /** As the config spells it. */
  encapsulation: object | string;
  service?: object;
  /** Backends by their IPv6 addresses. */
  over6?: boolean;
  vip?: string;
}

const WAYS: Way[] = [
  { name: 'IP in IP', encapsulation: 'ipip' },
  { name: 'IP in IP over IPv6', encapsulation: 'ipip', over6: true },
  { name: 'IP in IP from a prefix', encapsulation: { kind: 'ipip', source: '100.64.0.0/16' } },
  { name: 'GUE variant 1', encapsulation: 'gue' },
  {
    name: 'GUE variant 1 with checksum over IPv6',
    encapsulation: { kind: 'gue', gue: { checksum: 'computed' } },
    over6: true,
  },
  { name: 'GUE variant 0', encapsulation: { kind: 'gue', gue: { variant: 0, checksum: 'computed' } } },
  { name: 'GUE with a chain of hops', encapsulation: SECOND_HOP, service: { hops: 2, flow_table: false } },
  { name: 'GUE with a chain of hops over IPv6', encapsulation: SECOND_HOP, service: { hops: 3 }, over6: true },
  { name: 'no outer header at all', encapsulation: 'l2' },
  { name: 'IPv6 in IPv4', encapsulation: 'ipip', vip: VIP6 },
  { name: 'IPv6 in GUE over IPv6', encapsulation: 'gue', vip: VIP6, over6: true },
  { name: 'as Katran does it', encapsulation: 'gue', service: { hash: 'katran' } },
  {
    name: 'as GLB Director does it',
    encapsulation: SECOND_HOP,
    service: { hash: 'glb', hops: 2, hash_fields: ['src', 'sport'] },
  },
];

function config(topology: Topology, daemon: Daemon, way: Way): string {
  const service = (name: string, protocol: string, port: number) => ({
    name,
    vip: way.vip ?? VIP4,
    protocol,
    port,
    encapsulation: way.encapsulation,
    ...way.service,
    backends: topology.backends.map((host) => (way.over6 === true ? host.address6 : host.address4)),
  });
  return stringify(
    {
      interfaces: [{ name: HOST_INTERFACE }],
      frames: { count: 4096, ring: 1024 },
      flows: { slots: 4096 },
      services: [service('http', 'tcp', HTTP_PORT), service('echo', 'udp', ECHO_PORT)],
      metrics: 'off',
      control: { socket: daemon.controlSocket },
      log: { format: 'json' },
    },
    { aliasDuplicateObjects: false },
  );
}

it('every encapsulation carries connections and uploads whole, and a reload changes it', async () => {
  const topology = testTopology({ backends: 3 });
  const sources = ['10.77.0.0/24', 'fd77::/64', '100.64.0.0/16'];
  await startBackends(topology, { decapOptions: { sources, secondHop: true } });
  const daemon = new Daemon(topology);
  writeFileSync(daemon.configPath, config(topology, daemon, WAYS[0]));
  daemon.spawn();
  await daemon.ready();
  const { playground, client } = topology;
  for (const way of WAYS) {
    writeFileSync(daemon.configPath, config(topology, daemon, way));
    await daemon.reload();
    await daemon.ready();
    const before = await daemon.status();
    const host = way.vip ?? VIP4;
    const short = await new HttpLoad(playground, client, { host, port: HTTP_PORT, requests: 60 }).result;
    expect(short, way.name).toMatchObject({ answered: 60, failed: 0 });
    expect(Object.keys(short.perBackend).sort(), way.name).toEqual(['b1', 'b2', 'b3']);
    const post = await new HttpLoad(playground, client, { host, port: HTTP_PORT, requests: 6, postBytes: 65536 })
      .result;
    expect(post, way.name).toMatchObject({ answered: 6, failed: 0 });
    const after = await daemon.status();
    // Nothing took another way, and nothing was lost on this one.
    expect(after.totals.drop - before.totals.drop, `${way.name}: ${JSON.stringify(after.drops)}`).toBe(0);
    expect(after.totals.tx - before.totals.tx, way.name).toBeGreaterThan(60 * 4);
    expect(after.violations, way.name).toEqual([]);
  }
  expect((await daemon.stop())?.code).toBe(0);
}, 60_000);

/** Nodes behind a router that spreads flows over them: they come and go, also by kill -9, and no connection may notice. */
import { expect, it } from 'vitest';
import { HTTP_PORT } from '../../src/playground/backends.js';
import type { Fleet, FleetNode } from '../../src/playground/fleet.js';
import { GUE_CHAINS } from '../../src/playground/fleet_config.js';
import { VIP4, VIP6 } from '../../src/playground/topology.js';
import { HttpLoad } from '../../src/playground/traffic.js';
import { connections, expectUnbroken, newFlows, pause, sentOn, testFleet, troubles } from '../support/fleet.js';

/** Packets that nodes sent within a time, in the order of the nodes. */
async function shares(nodes: readonly FleetNode[], ms: number): Promise<number[]> {
  const sent = async (): Promise<number[]> =>
    Promise.all(nodes.map(async ({ sluice }) => (await sluice.status()).totals.tx));
  const before = await sent();
  await pause(ms);
  return (await sent()).map((now, i) => now - before[i]);
}

const names = (nodes: readonly FleetNode[]): string[] => nodes.map(({ host }) => host.name);

/** Every node that is routed to gets its part of the packets, and no other gets any. */
async function expectSpread(fleet: Fleet): Promise<void> {
  const routed = fleet.nodes.filter((node) => node.routed);
  const others = fleet.nodes.filter((node) => !node.routed && node.serving);
  // What was on its way to a node that has left.
  await pause(100);
  const parts = await shares([...routed, ...others], 800);
  const all = parts.reduce((a, b) => a + b);
  console.log(`${names(routed).join(', ')}: ${parts.slice(0, routed.length).join(', ')} packets`);
  for (const part of parts.slice(0, routed.length)) expect(part).toBeGreaterThan((0.4 * all) / routed.length);
  for (const part of parts.slice(routed.length)) expect(part).toBe(0);
}

it('connections go on when nodes join and leave, on nodes that never saw them', { timeout: 60_000 }, async () => {
  const fleet = await testFleet({ nodes: 2, backends: 3 });
  // They live through several changes of the routes.
  const held = { held: 40, shortPerSecond: 50, lifeMs: [6000, 8000] as [number, number] };
  const loads = await Promise.all([VIP4, VIP6].map((vip) => connections(fleet, held, vip)));
  const http = new HttpLoad(fleet.playground, fleet.client, {
    host: VIP4,
    port: HTTP_PORT,
    mode: 'keepalive',
    connections: 30,
    intervalMs: 100,
  });

  await expectSpread(fleet);
  for (const count of [3, 4]) {
    fleet.join(await fleet.addNode());
    expect(fleet.nodes.filter(({ routed }) => routed)).toHaveLength(count);
    await expectSpread(fleet);
  }
  // The first two, which the connections were opened through.
  for (const node of fleet.nodes.slice(0, 2)) {
    fleet.leave(node);
    await expectSpread(fleet);
  }
  const statuses = await fleet.statuses();
  const results = await Promise.all(loads.map((load) => load.stop()));
  const web = await http.stop();
  const problems = await troubles(fleet);
  for (const node of fleet.nodes.slice(0, 2)) await fleet.retire(node);

  for (const [i, result] of results.entries()) {
    expectUnbroken(`2, 3, 4, 3, 2 nodes, IPv${[4, 6][i]}`, result, { held: 60, short: 150 });
  }
  expect(web).toMatchObject({ failed: 0, broken: {}, misrouted: 0, connections: 30 });
  expect(web.answered).toBeGreaterThan(500);
  expect(problems).toEqual([]);
  // A flow is new to each node that it comes to: what is more than connections were opened has moved.
  const opened = results.reduce((sum, { opened: { held, short } }) => sum + held + short, 0) + web.connections;
  const moved = statuses.reduce((sum, status) => sum + newFlows(status), 0) - opened;
  console.log(`flows that came to a node which did not know them: at least ${moved}`);
  expect(moved).toBeGreaterThan(60);
});

it.each([
  { what: 'with flow tables', flow_table: true },
  { what: 'without', flow_table: false },
])(
  'no connection breaks when nodes are killed and come back while every backend is replaced, $what',
  { timeout: 60_000 },
  async ({ what, flow_table }) => {
    const policy = { flow_table, hops: 3, encapsulation: GUE_CHAINS } as const;
    const fleet = await testFleet({ nodes: 2, backends: 3, policy });
    const load = await connections(fleet, { held: 40, shortPerSecond: 100, lifeMs: [1500, 3000] });
    const [first, second] = fleet.nodes;
    const [b1, b2, b3] = fleet.backends;
    let hopped = 0;

    /** Kills a node in the middle of a replacement, and has it come back before the next. */
    const replaceWhileKilled = async (backend: typeof b1, node: FleetNode): Promise<void> => {
      const replacing = fleet.replace(backend);
      replacing.catch(() => undefined);
      await pause(700);
      hopped += await sentOn(fleet);
      await fleet.kill(node);
      expect(node.sluice.running).toBe(false);
      await pause(500);
      await fleet.revive(node);
      await replacing;
    };
    await replaceWhileKilled(b1, first);
    await expectSpread(fleet);
    await replaceWhileKilled(b2, second);
    await fleet.replace(b3);
    await expectSpread(fleet);
    const result = await load.stop();

    expectUnbroken(`two nodes killed ${what}`, result, { held: 100, short: 500 });
    expect(fleet.backends.map(({ host }) => host.name)).toEqual(['b4', 'b5', 'b6']);
    expect(await troubles(fleet)).toEqual([]);
    console.log(`at least ${hopped} packets took the second hop`);
    expect(hopped).toBeGreaterThan(flow_table ? 0 : 50);
  },
);

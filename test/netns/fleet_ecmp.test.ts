/** Nodes behind a router that spreads flows over them: they come and go, also by kill -9, and no connection may notice. */
import { expect, it } from 'vitest';
import { HTTP_PORT } from '../../src/playground/backends.js';
import type { Fleet, FleetNode } from '../../src/playground/fleet.js';
import { GUE_CHAINS } from '../../src/playground/fleet_config.js';
import { VIP4, VIP6 } from '../../src/playground/topology.js';
import { HttpLoad } from '../../src/playground/traffic.js';
import {
  atLeast,
  connections,
  expectUnbroken,
  PATIENCE_MS,
  pause,
  reached,
  testFleet,
  troubles,
} from '../support/fleet.js';

const TIMEOUT = 120_000;
const LOOK_MS = 250;
/** Packets of each flow in the time that shares are taken over, on average: so each was in it. */
const PACKETS_PER_FLOW = 15;

const sent = (nodes: readonly FleetNode[]): Promise<number[]> =>
  Promise.all(nodes.map(async ({ sluice }) => (await sluice.status()).totals.tx));

/**
 * Every node that is routed to gets its part of the packets, and no other gets any. `flows`: about so many go on, with as many packets
 * each; the router throws dice for each.
 */
async function expectSpread(fleet: Fleet, flows: number): Promise<void> {
  const routed = fleet.nodes.filter((node) => node.routed);
  const others = fleet.nodes.filter((node) => !node.routed && node.serving);
  const nodes = [...routed, ...others];
  const deadline = performance.now() + PATIENCE_MS;
  const total = (parts: readonly number[]): number => parts.reduce((a, b) => a + b);

  let before = await sent(nodes);
  let parts: number[];
  do {
    expect(performance.now(), 'packets that came in time').toBeLessThan(deadline);
    await pause(LOOK_MS);
    const now = await sent(nodes);
    parts = now.map((count, i) => count - before[i]);
    // What was on its way to a node that has left: not before that is over does the count begin.
    if (parts.slice(routed.length).some((part) => part > 0)) before = now;
  } while (total(parts) < flows * PACKETS_PER_FLOW || parts.slice(routed.length).some((part) => part > 0));

  const names = routed.map(({ host }) => host.name).join(', ');
  console.log(`${names}: ${parts.slice(0, routed.length).join(', ')} packets`);
  const least = atLeast(flows, 1 / routed.length) / flows;
  for (const part of parts.slice(0, routed.length)) expect(part).toBeGreaterThan(least * total(parts));
}

it('connections go on when nodes join and leave, on nodes that never saw them', { timeout: TIMEOUT }, async () => {
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
    timeoutMs: 10_000,
  });
  await expect
    .poll(async () => (await http.snapshot()).held, { timeout: PATIENCE_MS })
    .toSatisfy(
      // By backend.
      (counts: Record<string, number>) => Object.values(counts).reduce((a, b) => a + b, 0) === 30,
    );
  const flows = 2 * held.held + 30;

  await expectSpread(fleet, flows);
  for (const count of [3, 4]) {
    fleet.join(await fleet.addNode());
    expect(fleet.nodes.filter(({ routed }) => routed)).toHaveLength(count);
    await expectSpread(fleet, flows);
  }
  // The first two, which the connections were opened through.
  for (const node of fleet.nodes.slice(0, 2)) {
    fleet.leave(node);
    await expectSpread(fleet, flows);
  }
  await Promise.all(loads.map((load) => reached(load, { short: 150 })));
  const results = await Promise.all(loads.map((load) => load.stop()));
  const web = await http.stop();
  const misses = await fleet.misses();
  const problems = await troubles(fleet);
  for (const node of fleet.nodes.slice(0, 2)) await fleet.retire(node);

  for (const [i, result] of results.entries()) expectUnbroken(`2, 3, 4, 3, 2 nodes, IPv${[4, 6][i]}`, result);
  expect(web).toMatchObject({ failed: 0, broken: {}, misrouted: 0, connections: 30 });
  expect(problems).toEqual([]);
  // A flow is new to each node that it comes to: what is more than connections were opened has moved.
  const opened = results.reduce((sum, { opened: { held, short } }) => sum + held + short, 0) + web.connections;
  console.log(`flows that came to a node which did not know them: ${misses - opened}`);
  // All that a node which joins gets from the others are new to it.
  expect(misses - opened).toBeGreaterThan(atLeast(flows, 1 / 3) + atLeast(flows, 1 / 4));
});

it.each([
  { what: 'with flow tables', flow_table: true },
  { what: 'without', flow_table: false },
])(
  'no connection breaks when nodes are killed and come back while every backend is replaced, $what',
  { timeout: TIMEOUT },
  async ({ what, flow_table }) => {
    const policy = { flow_table, hops: 3, encapsulation: GUE_CHAINS } as const;
    const fleet = await testFleet({ nodes: 2, backends: 3, policy });
    const held = 80;
    const options = { held, intervalMs: 150, shortPerSecond: 100, lifeMs: [1500, 2500] as [number, number] };
    const load = await connections(fleet, options);
    const [first, second] = fleet.nodes;
    const [b1, b2, b3] = fleet.backends;

    /** Kills a node when a backend has begun to drain, and has it come back before the next is replaced. */
    const replaceWhileKilled = async (backend: typeof b1, node: FleetNode): Promise<void> => {
      await fleet.drain(backend);
      const replacing = fleet.replace(backend);
      replacing.catch(() => undefined);
      await fleet.kill(node);
      expect(node.sluice.running).toBe(false);
      await pause(500);
      await fleet.revive(node);
      await replacing;
    };
    await replaceWhileKilled(b1, first);
    await expectSpread(fleet, held);
    await replaceWhileKilled(b2, second);
    await fleet.replace(b3);
    await expectSpread(fleet, held);
    await reached(load, { held: 2 * held, short: 300 });
    const result = await load.stop();

    expectUnbroken(`two nodes killed ${what}`, result);
    expect(fleet.backends.map(({ host }) => host.name)).toEqual(['b4', 'b5', 'b6']);
    expect(await troubles(fleet)).toEqual([]);
    const hopped = await fleet.hops();
    console.log(`at least ${hopped} packets took the second hop`);
    // Without flow tables, all packets to a backend that drains, of which each connection to it sends two more at the least: one third of
    // the connections, three times. With them, only those that were on the killed node, and are on one that does not know them.
    expect(hopped).toBeGreaterThan(flow_table ? 0 : 2 * atLeast(3 * held, 1 / 3));
  },
);

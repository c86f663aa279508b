/** Every backend of a fleet is replaced, one after another, under load: no connection may notice. */
import { expect, it } from 'vitest';
import type { ConnectionResult } from '../../src/playground/connection_tally.js';
import { GUE_CHAINS } from '../../src/playground/fleet_config.js';
import { VIP4, VIP6 } from '../../src/playground/topology.js';
import {
  atLeast,
  connections,
  expectUnbroken,
  PATIENCE_MS,
  reached,
  renewed,
  testFleet,
  troubles,
} from '../support/fleet.js';

const TIMEOUT = 120_000;

/** All of the old ones, and of the new ones those that others were replaced after, had connections. */
function expectAllServed({ perBackend }: ConnectionResult): void {
  expect(Object.keys(perBackend)).toEqual(expect.arrayContaining(['b1', 'b2', 'b3', 'b4', 'b5']));
}

it('breaks no connection with a flow table on one node', { timeout: TIMEOUT }, async () => {
  const fleet = await testFleet({ nodes: 1, backends: 3 });
  const load = await connections(fleet, { held: 40, shortPerSecond: 120, lifeMs: [800, 2000] });
  for (const backend of [...fleet.backends]) await fleet.replace(backend);
  await reached(load, { held: 80, short: 200 });
  const result = await load.stop();

  expect(fleet.backends.map(({ host }) => host.name)).toEqual(['b4', 'b5', 'b6']);
  expectUnbroken('flow table', result);
  expectAllServed(result);
  expect(await troubles(fleet)).toEqual([]);
  // A flow that is remembered needs no second hop: there are no chains here.
  expect(await fleet.hops()).toBe(0);
});

it.each([
  // A chain of two survives one change: the next may come when the connections from before it are over.
  { hops: 2, rests: true },
  // A chain of three survives two.
  { hops: 3, rests: false },
] as const)('breaks none without flow table, with chains of $hops backends', { timeout: TIMEOUT }, async (given) => {
  const { hops, rests } = given;
  const held = 25;
  const policy = { flow_table: false, hops, encapsulation: GUE_CHAINS };
  const fleet = await testFleet({ nodes: 1, backends: 3, policy });
  const options = { held, shortPerSecond: 70, lifeMs: [500, 1500] as [number, number] };
  const loads = await Promise.all([VIP4, VIP6].map((vip) => connections(fleet, options, vip)));
  const replaced = [...fleet.backends];
  for (const backend of replaced) {
    await fleet.replace(backend);
    if (rests) await Promise.all(loads.map(renewed));
  }
  await Promise.all(loads.map((load) => reached(load, { held: 2 * held, short: 100 })));
  const results = await Promise.all(loads.map((load) => load.stop()));

  for (const [i, result] of results.entries()) {
    expectUnbroken(`chains of ${hops}, IPv${[4, 6][i]}`, result);
    expectAllServed(result);
  }
  // Nothing on the node remembers a flow, and connections outlived changes of the table: by the second hop.
  expect((await fleet.statuses()).map(({ totals }) => totals.flows)).toEqual([0]);
  const hopped = await fleet.hops();
  console.log(`chains of ${hops}: ${hopped} packets took the second hop`);
  // Each time one of three leaves, and every connection to it sends two more packets at the least, a FIN and an ACK of the other FIN.
  expect(hopped).toBeGreaterThan(2 * atLeast(loads.length * held * replaced.length, 1 / 3));
  expect(await troubles(fleet)).toEqual([]);
});

it('breaks connections when nothing remembers them, so a load that counts none means something', async () => {
  const fleet = await testFleet({ nodes: 1, backends: 3, policy: { flow_table: false } });
  const load = await connections(fleet, { held: 40, shortPerSecond: 20, lifeMs: [3000, 4000] });
  await fleet.drain(fleet.backends[0]);
  await expect.poll(() => load.progress.broken, { timeout: PATIENCE_MS }).toBeGreaterThan(0);
  const result = await load.stop();
  expect(result.broken.reset).toBeGreaterThan(0);
});

/** Every backend of a fleet is replaced, one after another, under load: no connection may notice. */
import { expect, it } from 'vitest';
import { GUE_CHAINS } from '../../src/playground/fleet_config.js';
import { VIP4, VIP6 } from '../../src/playground/topology.js';
import { connections, expectUnbroken, pause, sentOn, testFleet, troubles } from '../support/fleet.js';

it('breaks no connection with a flow table on one node', { timeout: 60_000 }, async () => {
  const fleet = await testFleet({ nodes: 1, backends: 3 });
  const load = await connections(fleet, { held: 40, shortPerSecond: 120 });
  const before = [...fleet.backends];
  for (const backend of before) await fleet.replace(backend);
  const result = await load.stop();

  expect(fleet.backends.map(({ host }) => host.name)).toEqual(['b4', 'b5', 'b6']);
  expectUnbroken('flow table', result, { held: 200, short: 800 });
  // All of the old ones and those of the new ones that were there long enough had connections.
  for (const name of ['b1', 'b2', 'b3', 'b4', 'b5']) expect(result.perBackend[name], name).toBeGreaterThan(20);
  expect(await troubles(fleet)).toEqual([]);
  // A flow that is remembered needs no second hop: there are no chains here.
  expect(await sentOn(fleet)).toBe(0);
});

/** Longest life of a held connection, ms. */
const LIFE_MS = 1500;

it.each([
  // A chain of two survives one change: the next may come when the connections from before it are over.
  { hops: 2, restMs: LIFE_MS + 300 },
  // A chain of three survives two.
  { hops: 3, restMs: 0 },
] as const)('breaks none without flow table, with chains of $hops backends', { timeout: 60_000 }, async (given) => {
  const { hops, restMs } = given;
  const policy = { flow_table: false, hops, encapsulation: GUE_CHAINS };
  const fleet = await testFleet({ nodes: 1, backends: 3, policy });
  const options = { held: 25, shortPerSecond: 70, lifeMs: [500, LIFE_MS] as [number, number] };
  const loads = await Promise.all([VIP4, VIP6].map((vip) => connections(fleet, options, vip)));
  let hopped = 0;
  for (const backend of [...fleet.backends]) {
    // One that is replaced takes its counters with it.
    hopped += (await backend.stats()).decap!.hop_forwarded;
    await fleet.replace(backend);
    await pause(restMs);
  }
  hopped += await sentOn(fleet);
  const results = await Promise.all(loads.map((load) => load.stop()));

  for (const [i, result] of results.entries()) {
    expectUnbroken(`chains of ${hops}, IPv${[4, 6][i]}`, result, { held: 80, short: 250 });
    for (const name of ['b1', 'b2', 'b3', 'b4', 'b5']) expect(result.perBackend[name], name).toBeGreaterThan(5);
  }
  // Nothing on the node remembers a flow, and connections outlived changes of the table: by the second hop.
  expect((await fleet.statuses()).map(({ totals }) => totals.flows)).toEqual([0]);
  console.log(`chains of ${hops}: ${hopped} packets took the second hop`);
  expect(hopped).toBeGreaterThan(100);
  expect(await troubles(fleet)).toEqual([]);
});

it('breaks connections when nothing remembers them, so a load that counts none means something', async () => {
  const fleet = await testFleet({ nodes: 1, backends: 3, policy: { flow_table: false } });
  const load = await connections(fleet, { held: 40, shortPerSecond: 20, lifeMs: [3000, 4000] });
  await fleet.drain(fleet.backends[0]);
  await pause(1000);
  const result = await load.stop();
  expect(result.broken.reset).toBeGreaterThan(0);
});

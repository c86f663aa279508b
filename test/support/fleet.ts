/** Fleets of sluices behind ECMP for tests, and what their traffic is held to. */
import { expect } from 'vitest';
import type { Status } from '../../src/control/api/contract.js';
import { ECHO_PORT } from '../../src/playground/backends.js';
import type { ConnectionLoadOptions } from '../../src/playground/connection_load.js';
import type { ConnectionResult } from '../../src/playground/connection_tally.js';
import { Fleet, type FleetOptions } from '../../src/playground/fleet.js';
import { ConnectionLoad } from '../../src/playground/traffic.js';
import { VIP4 } from '../../src/playground/topology.js';
import { testPlayground } from './netns.js';

/** A fleet that is removed when the current test finishes, passed or not. */
export function testFleet(options: FleetOptions): Promise<Fleet> {
  return Fleet.build(testPlayground(), options);
}

/** Connections from the client to the echo; `vip` defaults to the IPv4 VIP. Resolves when all held ones have begun. */
export async function connections(
  fleet: Fleet,
  options: Partial<ConnectionLoadOptions> = {},
  vip = VIP4,
): Promise<ConnectionLoad> {
  const load = new ConnectionLoad(fleet.playground, fleet.client, { host: vip, port: ECHO_PORT, ...options });
  await expect.poll(() => load.progress.answered, { timeout: 10_000 }).toBeGreaterThan(200);
  return load;
}

/** Every connection was opened, answered and ended as it should: no reset, no timeout, no stranger's answer. Says what was counted. */
export function expectUnbroken(what: string, result: ConnectionResult, atLeast: { held: number; short: number }): void {
  const { opened, finished, broken, accounts, kernel, answered, slowestMs } = result;
  const seconds = (result.durationMs / 1000).toFixed(1);
  console.log(
    `${what}: ${opened.held} held and ${opened.short} short connections in ${seconds} s, ${answered} messages answered, ` +
      `0 expected broken, ${JSON.stringify(broken)} were; slowest answer ${slowestMs} ms, ${kernel.retransmitted} segments sent again`,
  );
  expect({ broken, accounts }).toEqual({ broken: {}, accounts: [] });
  expect(finished).toEqual(opened);
  expect(kernel.reset).toBe(0);
  expect(opened.held).toBeGreaterThanOrEqual(atLeast.held);
  expect(opened.short).toBeGreaterThanOrEqual(atLeast.short);
}

/** Sums over services and backends. */
export function newFlows(status: Status): number {
  return status.services.flatMap(({ backends }) => backends).reduce((sum, backend) => sum + backend.newFlows, 0);
}

/** Counters that do not add up, and packets that were dropped, on any node. */
export async function troubles(fleet: Fleet): Promise<unknown[]> {
  return (await fleet.statuses()).flatMap(({ violations, drops }) => [...violations, ...Object.entries(drops)]);
}

/** Packets that backends sent on to the next hop of their chain, over all that serve now. */
export async function sentOn(fleet: Fleet): Promise<number> {
  const stats = await Promise.all(fleet.backends.map((backend) => backend.stats()));
  return stats.reduce((sum, { decap }) => sum + decap!.hop_forwarded, 0);
}

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

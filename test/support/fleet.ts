/** Fleets of sluices behind ECMP for tests, and what their traffic is held to. */
import { expect } from 'vitest';
import { ECHO_PORT } from '../../src/playground/backends.js';
import type { ConnectionLoadOptions } from '../../src/playground/connection_load.js';
import type { ConnectionResult } from '../../src/playground/connection_tally.js';
import { Fleet, type FleetOptions } from '../../src/playground/fleet.js';
import { ConnectionLoad } from '../../src/playground/traffic.js';
import { VIP4 } from '../../src/playground/topology.js';
import { testPlayground } from './netns.js';

/** What takes longer than this has stopped: a slow machine may take its time, and must not fail a test by it. */
export const PATIENCE_MS = 30_000;

/** Longer than TCP needs to send again what was lost some times in a row. */
const TIMEOUT_MS = 10_000;

/** A fleet that is removed when the current test finishes, passed or not. */
export function testFleet(options: FleetOptions): Promise<Fleet> {
  return Fleet.build(testPlayground(), options);
}

/** Connections from the client to the echo; `vip` defaults to the IPv4 VIP. Resolves when `held` of them are there and were answered. */
export async function connections(
  fleet: Fleet,
  options: Partial<ConnectionLoadOptions> & Pick<ConnectionLoadOptions, 'held'>,
  vip = VIP4,
): Promise<ConnectionLoad> {
  const to = { host: vip, port: ECHO_PORT, timeoutMs: TIMEOUT_MS };
  const load = new ConnectionLoad(fleet.playground, fleet.client, { ...to, ...options });
  await reached(load, { held: options.held });
  return load;
}

/** Waits until so many connections were answered: a test says how much it wants to have seen, and the machine how long that takes. */
export async function reached(load: ConnectionLoad, wanted: { held?: number; short?: number }): Promise<void> {
  const { held = 0, short = 0 } = wanted;
  const enough = (): boolean => load.progress.met.held >= held && load.progress.met.short >= short;
  await expect.poll(enough, { timeout: PATIENCE_MS }).toBe(true);
}

/** Waits until every connection that was there is over. */
export async function renewed(load: ConnectionLoad): Promise<void> {
  const begin = performance.now();
  const allYounger = async (): Promise<boolean> => {
    const passedMs = performance.now() - begin;
    return (await load.snapshot()).oldestMs < passedMs;
  };
  await expect.poll(allYounger, { timeout: PATIENCE_MS }).toBe(true);
}

/** Every connection was opened, answered and ended as it should: no reset, no timeout, no stranger's answer. Says what was counted. */
export function expectUnbroken(what: string, result: ConnectionResult): void {
  const { opened, finished, broken, accounts, kernel, answered, slowestMs } = result;
  const seconds = (result.durationMs / 1000).toFixed(1);
  console.log(
    `${what}: ${opened.held} held and ${opened.short} short connections in ${seconds} s, ${answered} messages answered, ` +
      `0 expected broken, ${JSON.stringify(broken)} were; slowest answer ${slowestMs} ms, ${kernel.retransmitted} segments sent again`,
  );
  expect({ broken, accounts }).toEqual({ broken: {}, accounts: [] });
  expect(finished).toEqual(opened);
  expect(kernel.reset).toBe(0);
}

/**
 * How many of `flows` flows go one way at the least, when each does with a `chance` of its own: five standard deviations below the
 * mean, which one run in three million misses.
 */
export function atLeast(flows: number, chance: number): number {
  return flows * chance - 5 * Math.sqrt(flows * chance * (1 - chance));
}

/** Counters that do not add up, and packets that were dropped, on any node. */
export async function troubles(fleet: Fleet): Promise<unknown[]> {
  return (await fleet.statuses()).flatMap(({ violations, drops }) => [...violations, ...Object.entries(drops)]);
}

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

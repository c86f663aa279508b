import { expect } from 'vitest';
import type { TestDaemon } from './daemon.js';
import { interfaceOf, lost, type Receiver, type Sender } from './daemon.js';

/** Stops a sender of good packets, of more than `least`: every one came through, in order, and all counters add up. */
export async function expectGood(
  { daemon, receiver }: { daemon: TestDaemon; receiver: Receiver },
  sender: Sender,
  least = 500,
): Promise<void> {
  const sent = await sender.stop();
  expect(sent).toBeGreaterThan(least);
  const arrived = async (): Promise<number[]> => {
    const { received, noRoom, decap } = await receiver.stats();
    return [decap.decap_4in4, received + noRoom];
  };
  await expect.poll(arrived).toEqual([sent, sent]);
  const status = await daemon.status();
  expect([status.totals.redirect, status.violations, lost(status)]).toEqual([sent, [], 0]);
  const { seen, redirect, pass, drop, aborted, tx } = interfaceOf(status).xdp!;
  expect(seen).toBe(redirect + pass + drop + aborted + tx);
  expect((await receiver.stats()).reordered).toBe(0);
}

/** Arithmetic and wording that scenes share. */
import type { Status } from '../../control/api/contract.js';

/** "12,345". */
export function grouped(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** "25.3 %". */
export function percent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)} %`;
}

export function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

/** Packets that a rule has matched. */
export function ruleCount(status: Status, rule: string): number {
  return status.rules.find((entry) => entry.name === rule)?.packets ?? 0;
}

/** Packets that the kernel lost before user space saw them, over all workers. */
export function kernelLost(status: Status): number {
  return sum(status.workers.map((worker) => worker.kernelLost));
}

/** Mean time of a packet in user space between two readings, ns; null when nothing was sampled. */
export function nsPerPacket(before: Status, after: Status): number | null {
  const packets = after.totals.sampledPackets - before.totals.sampledPackets;
  return packets > 0 ? (after.totals.sampledNs - before.totals.sampledNs) / packets : null;
}

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Asks until `holds` or the time is up; returns the last answer either way. */
export async function until<T>(ask: () => Promise<T>, holds: (answer: T) => boolean, limitMs: number): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const answer = await ask();
    if (holds(answer) || performance.now() > deadline) return answer;
    await pause(50);
  }
}

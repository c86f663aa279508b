/** The table under the demo's lines: what sluice does this very moment, from two readings of its status. */
import type { Status } from '../control/api/contract.js';
import type { Daemon } from './daemon.js';
import { grouped } from './scenes/numbers.js';
import type { Screen } from './screen.js';

const INTERVAL_MS = 500;

function row(cells: readonly (string | number)[]): string {
  const [first, ...rest] = cells;
  return `  ${String(first).padEnd(24)}${rest.map((cell) => String(cell).padStart(12)).join('')}`;
}

/** Lines of the table. Rates are over the time between the readings. */
export function tableLines(before: Status, now: Status): string[] {
  const seconds = Math.max(0.001, (now.clockMs - before.clockMs) / 1000);
  const rate = (a: number, b: number | undefined) => grouped(Math.max(0, a - (b ?? a)) / seconds);
  const lines = ['', row(['queue', 'rx/s', 'tx/s', 'drop/s', 'lost', 'flows'])];
  for (const worker of now.workers) {
    const was = before.workers.find((other) => other.queue === worker.queue);
    lines.push(
      row([
        worker.queue,
        rate(worker.rx, was?.rx),
        rate(worker.tx, was?.tx),
        rate(worker.drop, was?.drop),
        grouped(worker.kernelLost),
        grouped(worker.flows),
      ]),
    );
  }
  lines.push(row(['backend', 'weight', 'packets/s', 'flows', 'state']));
  // One line a backend, over all services: they have the same ones.
  for (const { address, weight, state } of now.services[0]?.backends ?? []) {
    const entries = (status: Status) =>
      status.services.flatMap((service) => service.backends.filter((backend) => backend.address === address));
    const total = (status: Status, field: 'packets' | 'flows') =>
      entries(status).reduce((sum, backend) => sum + backend[field], 0);
    lines.push(
      row([
        address,
        weight,
        rate(total(now, 'packets'), total(before, 'packets')),
        grouped(total(now, 'flows')),
        state,
      ]),
    );
  }
  return lines;
}

/** Redraws the table twice a second while sluice answers. Returns what stops it. */
export function startLiveTable(screen: Screen, daemon: Daemon): () => void {
  if (!screen.live) return () => undefined;
  let before: Status | undefined;
  let asking = false;
  const timer = setInterval(() => {
    if (asking) return;
    asking = true;
    daemon
      .status()
      .then((now) => {
        // A restarted sluice counts from 0 again.
        if (before?.pid === now.pid) screen.setFooter(tableLines(before, now));
        before = now;
      })
      .catch(() => screen.setFooter(['', '  (sluice does not answer)']))
      .finally(() => (asking = false));
  }, INTERVAL_MS);
  return () => {
    clearInterval(timer);
    screen.setFooter([]);
  };
}

/** The table under the demo's lines: what sluice does this very moment, from two readings of its status. */
import type { Status } from '../control/api/contract.js';
import { grouped, sum } from './scenes/numbers.js';
import type { Screen } from './screen.js';
import type { SluiceProcess } from './sluice_process.js';

const INTERVAL_MS = 500;

/** A sluice that the table shows. */
export interface Shown {
  name: string;
  sluice: SluiceProcess;
}

/** Two readings of one sluice; `now` is undefined while it does not answer, `before` when it has answered only once. */
export interface Reading {
  name: string;
  before?: Status;
  now?: Status;
}

interface Counts {
  rx: number;
  tx: number;
  drop: number;
  kernelLost: number;
  flows: number;
}

function row(cells: readonly (string | number)[]): string {
  const [first, ...rest] = cells;
  return `  ${String(first).padEnd(24)}${rest.map((cell) => String(cell).padStart(12)).join('')}`;
}

/** Increase a second between two readings, 0 where there was none before. */
function rate(now: number, before: number | undefined, seconds: number): number {
  return Math.max(0, now - (before ?? now)) / seconds;
}

function secondsBetween(before: Status | undefined, now: Status): number {
  return Math.max(0.001, (now.clockMs - (before?.clockMs ?? now.clockMs)) / 1000);
}

function countsRow(name: string | number, now: Counts, was: Counts | undefined, seconds: number): string {
  const perSecond = (field: 'rx' | 'tx' | 'drop') => grouped(rate(now[field], was?.[field], seconds));
  return row([name, perSecond('rx'), perSecond('tx'), perSecond('drop'), grouped(now.kernelLost), grouped(now.flows)]);
}

/** All workers of a sluice as one. */
function totalOf({ workers }: Status): Counts {
  const add = (field: keyof Counts) => sum(workers.map((worker) => worker[field]));
  return { rx: add('rx'), tx: add('tx'), drop: add('drop'), kernelLost: add('kernelLost'), flows: add('flows') };
}

/** One line a backend, over all services and all sluices: they have the same ones. */
function backendRows(readings: readonly Reading[]): string[] {
  const lines = new Map<string, { weight: number; state: string; packets: number; flows: number }>();
  for (const { before, now } of readings) {
    if (!now) continue;
    const seconds = secondsBetween(before, now);
    const entries = (status: Status | undefined) => status?.services.flatMap(({ backends }) => backends) ?? [];
    const packets = (status: Status | undefined, of: string) =>
      sum(entries(status).map((backend) => (backend.address === of ? backend.packets : 0)));
    for (const { address, weight, state, flows } of entries(now)) {
      const line = lines.get(address) ?? { weight, state, packets: 0, flows: 0 };
      line.flows += flows;
      lines.set(address, line);
    }
    for (const address of new Set(entries(now).map((backend) => backend.address))) {
      const was = before && packets(before, address);
      lines.get(address)!.packets += rate(packets(now, address), was, seconds);
    }
  }
  return [...lines].map(([address, { weight, packets, flows, state }]) =>
    row([address, weight, grouped(packets), grouped(flows), state]),
  );
}

/** Lines of the table: of one sluice each worker, of several each sluice, then the backends. Rates are over the time between the readings. */
export function tableLines(readings: readonly Reading[]): string[] {
  const lines = ['', row([readings.length > 1 ? 'node' : 'queue', 'rx/s', 'tx/s', 'drop/s', 'lost', 'flows'])];
  for (const { name, before, now } of readings) {
    if (!now) lines.push(`  ${name} does not answer`);
    else if (readings.length > 1) {
      lines.push(countsRow(name, totalOf(now), before && totalOf(before), secondsBetween(before, now)));
    } else {
      for (const worker of now.workers) {
        const was = before?.workers.find((other) => other.queue === worker.queue);
        lines.push(countsRow(worker.queue, worker, was, secondsBetween(before, now)));
      }
    }
  }
  return [...lines, row(['backend', 'weight', 'packets/s', 'flows', 'state']), ...backendRows(readings)];
}

/** Redraws the table twice a second. `shown` is asked each time. Returns what stops it. */
export function startLiveTable(screen: Screen, shown: () => readonly Shown[]): () => void {
  if (!screen.live) return () => undefined;
  const last = new Map<SluiceProcess, Status>();
  let asking = false;
  let stopped = false;
  const look = async ({ name, sluice }: Shown): Promise<Reading> => {
    const before = last.get(sluice);
    const now = await sluice.status().catch(() => undefined);
    if (now) last.set(sluice, now);
    // A restarted sluice counts from 0 again.
    return { name, now, before: before?.pid === now?.pid ? before : undefined };
  };
  const timer = setInterval(() => {
    if (asking) return;
    asking = true;
    const list = shown();
    void Promise.all(list.map(look)).then((readings) => {
      asking = false;
      // Another scene's by now, or nobody's.
      if (list === shown() && !stopped) screen.setFooter(tableLines(readings));
    });
  }, INTERVAL_MS);
  return () => {
    stopped = true;
    clearInterval(timer);
    screen.setFooter([]);
  };
}

/**
 * What is measured: threads of one process that forward between two interfaces, each one queue of both, each on a CPU of its own.
 *
 *   node child.js d0 d1 0,1     queues 0 and 1: thread i is pinned to CPU i      {"ready":true}
 *
 * Each line of input is answered by the totals since the start: {"totals":{"rx":…,"sent":…,"missed":…,"txLost":…,"cpuSeconds":…}}. Ends with its input.
 */
import { execFileSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { POLICIES } from '../../src/bench/port_job.js';
import { attach, openPort, type AttachmentHandle, type PortTotals } from '../../src/library.js';

export interface WorkerTotals {
  rx: number;
  sent: number;
  missed: number;
  txLost: number;
  /** Of the process. */
  cpuSeconds: number;
}

interface Task {
  handles: AttachmentHandle[];
  queue: number;
}

/** From a thread: its number once it is ready, its totals when asked. */
type Said = { tid: string } | { totals: PortTotals };

async function forward({ handles, queue }: Task): Promise<void> {
  const port = await openPort({ interface: handles, queues: [queue], parse: false, burst: 128 });
  const end = new AbortController();
  const say = (said: Said): void => parentPort!.postMessage(said);
  parentPort!.on('message', (ask: 'totals' | 'end') => (ask === 'end' ? end.abort() : say({ totals: port.totals() })));
  say({ tid: basename(readlinkSync('/proc/thread-self')) });
  await port.run(POLICIES.forward, { signal: end.signal });
  port.close();
  parentPort!.close();
}

function next(thread: Worker): Promise<Said> {
  return new Promise((resolve) => thread.once('message', resolve));
}

async function totals(threads: readonly Worker[]): Promise<WorkerTotals> {
  const sum: WorkerTotals = { rx: 0, sent: 0, missed: 0, txLost: 0, cpuSeconds: 0 };
  for (const thread of threads) {
    const answer = next(thread);
    thread.postMessage('totals');
    const { totals: own } = (await answer) as { totals: PortTotals };
    sum.rx += own.rx;
    sum.sent += own.redirected - own.txLost;
    sum.missed += own.missed;
    sum.txLost += own.txLost;
  }
  const { user, system } = process.cpuUsage();
  return { ...sum, cpuSeconds: (user + system) / 1e6 };
}

async function main([first, second, list]: string[]): Promise<void> {
  const options = { mode: 'copy', hostPath: false, checksum: 'trust', fallback: 'drop' } as const;
  const attached = [await attach({ interface: first, ...options }), await attach({ interface: second, ...options })];
  const handles = attached.map(({ handle }) => handle);
  const threads: Worker[] = [];
  for (const queue of list.split(',').map(Number)) {
    const thread = new Worker(new URL(import.meta.url), { workerData: { handles, queue } satisfies Task });
    thread.once('error', (error) => {
      console.error(error);
      process.exit(1);
    });
    threads.push(thread);
    const { tid } = (await next(thread)) as { tid: string };
    execFileSync('taskset', ['-cp', String(queue), tid], { stdio: 'ignore' });
  }
  const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
  say({ ready: true });
  const input = createInterface({ input: process.stdin });
  input.on('line', () => void totals(threads).then((sum) => say({ totals: sum })));
  input.on('close', () => {
    for (const thread of threads) thread.postMessage('end');
    for (const one of attached) one.close();
  });
}

if (isMainThread) await main(process.argv.slice(2));
else await forward(workerData as Task);

/** Worker threads: several with sockets of their own at a time, ended in every way, and nothing left afterwards. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { native } from '../../src/native.js';
import {
  child,
  closeAll,
  descriptors,
  enterNamespace,
  frame,
  Injector,
  lockedMemory,
  mappedRings,
  openSocket,
  Redirect,
  veth,
} from './rig.js';

const QUEUES = 4;
const ADDON = join(process.cwd(), 'build', 'Release', 'sluice.node');

/** A worker that opens queue `workerData.queue`, then answers every packet until its thread is ended. */
const BODY = `
  const { parentPort, workerData } = require('node:worker_threads');
  const addon = require(workerData.addon);
  const umem = new addon.Umem({ frameCount: 512, chunkSize: 2048 });
  const tap = new addon.Tap({ name: 'twork' });
  const socket = new addon.XskSocket(umem, {
    interface: workerData.name ?? 'wa', queue: workerData.queue, mode: 'copy', index: 0, rxSize: 128, fillSize: 128,
  });
  socket.setTap(tap);
  socket.exchange();
  globalThis.keep = [umem, socket, tap];
  parentPort.postMessage(socket.fd);
  let packets = 0;
  const shared = new Int32Array(workerData.shared);
  for (;;) {
    const n = socket.exchange();
    for (let i = 0; i < n; i++) socket.verdict[i] = 3;
    packets += n;
    Atomics.store(shared, workerData.queue, packets);
    if (workerData.end === 'throw' && packets >= 20) throw new Error('policy');
    if (workerData.end === 'exit' && packets >= 20) process.exit(3);
    if (workerData.end === 'return' && packets >= 20) break;
  }`;

let injector: Injector;
let near: Redirect;

beforeAll(() => {
  enterNamespace();
  veth('wa', 'wb', QUEUES);
  veth('wc', 'wd');
  injector = new Injector();
});

afterEach(closeAll);
afterAll(() => injector.close());

interface Running {
  worker: Worker;
  exited: Promise<number>;
  errors: string[];
}

async function start(queue: number, shared: SharedArrayBuffer, end = 'never', name = 'wa'): Promise<Running> {
  const worker = new Worker(BODY, { eval: true, workerData: { addon: ADDON, queue, shared, end, name } });
  const errors: string[] = [];
  worker.on('error', (error) => errors.push(error.message));
  const exited = new Promise<number>((resolve) => worker.on('exit', resolve));
  const fd = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve);
    void exited.then((code) => reject(new Error(`worker ended with ${code}: ${errors.join()}`)));
  });
  near.set(queue, { fd } as never);
  return { worker, exited, errors };
}

test('several workers at once, terminated in the middle of traffic, ten times over', async () => {
  near = new Redirect('wa');
  new Redirect('wb');
  let before: number[] = [];
  for (let round = 0; round < 11; round++) {
    const shared = new SharedArrayBuffer(4 * QUEUES);
    const running = await Promise.all(Array.from({ length: QUEUES }, (_, queue) => start(queue, shared)));
    expect(mappedRings()).toBe(4 * QUEUES);
    const load = setInterval(() => injector.send('wb', frame(), 64), 1);
    // At least 20 ms, and until the first packet has come: on a busy machine that takes longer.
    const started = performance.now();
    do await new Promise((resolve) => setTimeout(resolve, 20));
    while (Math.max(...new Int32Array(shared)) === 0 && performance.now() - started < 15_000);
    // All at the same moment, under load: four environments tear down in parallel.
    const codes = await Promise.all(running.map(({ worker }) => worker.terminate()));
    clearInterval(load);
    expect(codes).toEqual(Array(QUEUES).fill(1));
    expect(running.flatMap(({ errors }) => errors)).toEqual([]);
    expect(Math.max(...new Int32Array(shared)), 'there was traffic').toBeGreaterThan(0);
    expect(mappedRings()).toBe(0);
    // The first round is what Node itself opens for its first worker.
    if (round === 0) before = [descriptors(), mappedRings()];
    else expect([descriptors(), mappedRings()]).toEqual(before);
  }
});

test.each([
  ['throws', 'throw', 1],
  ['calls process.exit()', 'exit', 3],
  ['just ends', 'return', 0],
])('a worker that %s with everything open releases its queue', async (_, end, code) => {
  // One queue: with more, frames go to the queue of the processor that sends them.
  near = new Redirect('wc');
  new Redirect('wd');
  const rings = mappedRings();
  const { exited, errors } = await start(0, new SharedArrayBuffer(4 * QUEUES), end, 'wc');
  const load = setInterval(() => injector.send('wd', frame(), 8), 1);
  expect(await exited).toBe(code);
  clearInterval(load);
  expect(errors).toEqual(end === 'throw' ? ['policy'] : []);
  expect(mappedRings()).toBe(rings);
  const umem = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  openSocket(umem, { interface: 'wc' });
  umem.close();
});

test('pinned memory of terminated workers comes back', () => {
  // Four UMEMs of 1 MiB fit the limit, five do not.
  const out = child(
    `const { Worker } = require('node:worker_threads');
    const body = ${JSON.stringify(BODY)};
    (async () => {
      for (let round = 0; round < 5; round++) {
        const workers = [0, 1, 2, 3].map((queue) => new Worker(body, { eval: true,
          workerData: { addon: ${JSON.stringify(ADDON)}, queue, shared: new SharedArrayBuffer(16) } }));
        await Promise.all(workers.map((worker) => new Promise((resolve, reject) => {
          worker.once('message', resolve); worker.once('error', reject); })));
        await Promise.all(workers.map((worker) => worker.terminate()));
      }
      console.log('five rounds');
    })();`,
    [],
    lockedMemory(4.5 * 2 ** 20),
  );
  expect(out).toBe('five rounds');
});

test('process.exit() on the main thread with workers in traffic ends cleanly', () => {
  const out = child(
    `const { Worker } = require('node:worker_threads');
    const workers = [0, 1, 2, 3].map((queue) => new Worker(${JSON.stringify(BODY)}, { eval: true,
      workerData: { addon: ${JSON.stringify(ADDON)}, queue, shared: new SharedArrayBuffer(16) } }));
    let up = 0;
    for (const worker of workers) worker.once('message', () => { if (++up === 4) { console.log('up'); process.exit(0); } });`,
  );
  expect(out).toBe('up');
  const umem = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  openSocket(umem, { interface: 'wa' });
  umem.close();
});

test('an object does not cross threads: another worker cannot use it', async () => {
  const umem = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  const worker = new Worker(
    `const { parentPort } = require('node:worker_threads');
    parentPort.once('message', (copy) => parentPort.postMessage(typeof copy.counts));`,
    { eval: true },
  );
  // What structured clone makes of it is a plain object without methods.
  worker.postMessage({ ...umem, buffer: undefined });
  expect(await new Promise((resolve) => worker.once('message', resolve))).toBe('undefined');
  await worker.terminate();
  umem.close();
});

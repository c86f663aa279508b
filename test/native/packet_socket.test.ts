/** Frames past the host's stack, and being told of frames from it. */
import { Worker } from 'node:worker_threads';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { native, packageRoot, type PacketSocket, type Tap } from '../../src/native.js';
import { descriptors, enterNamespace, frame, ip, packets } from './rig.js';

const open: (Tap | PacketSocket)[] = [];
function tap(name: string): Tap {
  const made = new (native().Tap)({ name });
  open.push(made);
  ip('addr', 'flush', 'dev', name);
  ip('link', 'set', name, 'up');
  return made;
}
function socket(name: string): PacketSocket {
  const made = new (native().PacketSocket)({ interface: name });
  open.push(made);
  return made;
}

/** The frame that `frame()` makes, apart from what the host sends by itself (IPv6 multicast). */
const OURS = frame();
const isOurs = (got: Uint8Array) => Buffer.compare(got.subarray(0, OURS.length), OURS) === 0;
/** Some ms, and some turns of the event loop in which what can be read is told, however late the timers are. */
async function turn(ms = 20): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve));
}

beforeAll(enterNamespace);
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

test('a sent frame leaves by the interface as it is, and whoever watches is told', async () => {
  const device = tap('pk0');
  const got: Uint8Array[] = [];
  device.onReadable(() => {
    for (let one = device.read(); one; one = device.read()) if (isOurs(one)) got.push(one);
  });
  const sender = socket('pk0');
  for (let i = 0; i < 5; i++) sender.send(OURS);
  await turn();
  expect(got).toHaveLength(5);
  expect(got[0]).toEqual(OURS);
  expect(packets('pk0').tx).toBeGreaterThanOrEqual(5);
});

test('a frame that is not read is told again; null ends it; another callback takes the place', async () => {
  const device = tap('pk1');
  const sender = socket('pk1');
  let first = 0;
  let second = 0;
  device.onReadable(() => first++);
  sender.send(OURS);
  await turn();
  expect(first).toBeGreaterThan(1);
  device.onReadable(() => {
    second++;
    // From inside: the watch that is running ends.
    device.onReadable(null);
  });
  const seen = first;
  await turn();
  expect([first, second]).toEqual([seen, 1]);
  device.onReadable(() => device.close());
  await turn();
  expect(() => device.onReadable(null)).toThrow(/the tap is closed/);
});

test('what a callback throws is an uncaught exception, and the watch goes on', async () => {
  const device = tap('pk2');
  const caught: string[] = [];
  const others = process.rawListeners('uncaughtException') as ((error: Error) => void)[];
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', ({ message }) => caught.push(message));
  device.onReadable(() => {
    device.read();
    throw new Error('from the callback');
  });
  const sender = socket('pk2');
  sender.send(OURS);
  await turn();
  sender.send(OURS);
  await turn();
  process.removeAllListeners('uncaughtException');
  for (const other of others) process.on('uncaughtException', other);
  expect(caught.length).toBeGreaterThanOrEqual(2);
  expect(new Set(caught)).toEqual(new Set(['from the callback']));
});

test('a worker may end, or be terminated, while it watches', async () => {
  const code = `
    const { workerData, parentPort } = require('node:worker_threads');
    const { Tap } = require(workerData.addon);
    const device = new Tap({ name: workerData.name });
    device.onReadable(() => device.read());
    parentPort.postMessage('watching');
    if (workerData.stay) setInterval(() => undefined, 1000);
  `;
  const before = descriptors();
  for (const stay of [false, true]) {
    const workerData = { addon: `${packageRoot}/build/Release/sluice.node`, name: 'pk3', stay };
    const worker = new Worker(code, { eval: true, workerData });
    const ended = new Promise<number>((resolve) => worker.once('exit', resolve));
    await new Promise((resolve) => worker.once('message', resolve));
    // The first one ends by itself: a watch keeps nothing alive.
    if (stay) await worker.terminate();
    expect(await ended).toBe(stay ? 1 : 0);
    await turn();
    expect(() => native().linkInfo('pk3')).toThrow(/ENODEV/);
  }
  expect(descriptors()).toBeLessThanOrEqual(before);
});

test('wrong arguments, interfaces that are not there or down, and use after close are named', () => {
  tap('pk4');
  const before = descriptors();
  expect(() => socket('nosuch')).toThrow(/ENODEV/);
  expect(() => new (native().PacketSocket)({} as never)).toThrow(/interface must be a string/);
  expect(descriptors()).toBe(before);
  const sender = socket('pk4');
  expect(() => sender.send(new Uint8Array(13))).toThrow(/at least 14 bytes, got 13/);
  expect(() => sender.send('x' as never)).toThrow(/frame must be a Uint8Array/);
  ip('link', 'set', 'pk4', 'down');
  expect(() => sender.send(OURS)).toThrow(/ENETDOWN/);
  sender.close();
  sender.close();
  expect(() => sender.send(OURS)).toThrow(/the packet socket is closed/);
  expect(() => (open[0] as Tap).onReadable(1 as never)).toThrow(/callback must be a function or null, got 1/);
});

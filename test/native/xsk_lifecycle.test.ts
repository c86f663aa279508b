/** Sockets over time: reopened, their interface down, up, deleted; siblings that come and go; nothing accumulates. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { native } from '../../src/native.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { PortCounter } from '../../src/shared/layout.js';
import {
  child,
  closeAll,
  descriptors,
  enterNamespace,
  frame,
  Injector,
  ip,
  lockedMemory,
  mappedRings,
  openSocket,
  packets,
  Redirect,
  sum,
  until,
  veth,
} from './rig.js';

const ENETDOWN = 100;
const ENXIO = 6;
let injector: Injector;

beforeAll(() => {
  enterNamespace();
  veth('la', 'lb');
  veth('lc', 'ld');
  injector = new Injector();
});

afterEach(closeAll);
afterAll(() => injector.close());

test('closed and opened again 50 times on the same queue, traffic each time, nothing accumulates', () => {
  const umem = new (native().Umem)({ frameCount: 256, chunkSize: 2048 });
  const redirect = new Redirect('la');
  const far = new Redirect('lb');
  const cycle = () => {
    const socket = openSocket(umem, { interface: 'la' });
    redirect.set(0, socket);
    injector.send('lb', frame(), 2);
    let got = 0;
    until('two packets', () => (got += socket.exchange()) >= 2);
    socket.verdict.fill(Verdict.Tx);
    socket.exchange();
    socket.close();
    expect(umem.counts()).toMatchObject({ free: 256, total: 256 });
  };
  cycle();
  const before = [descriptors(), mappedRings()];
  const start = performance.now();
  for (let i = 0; i < 50; i++) {
    const opened = performance.now();
    cycle();
    expect(performance.now() - opened).toBeLessThan(5000);
  }
  console.log(`50 cycles: ${((performance.now() - start) / 50).toFixed(1)} ms each`);
  expect([descriptors(), mappedRings()]).toEqual(before);
  umem.close();
  redirect.close();
  far.close();
});

test('interface down is a pause: what was to be sent leaves by the same socket when it is up again', () => {
  const umem = new (native().Umem)({ frameCount: 256, chunkSize: 2048 });
  const redirects = ['la', 'lb', 'lc', 'ld'].map((name) => new Redirect(name));
  const a = openSocket(umem, { interface: 'la', index: 0 });
  const c = openSocket(umem, { interface: 'lc', index: 1 });
  redirects[0].set(0, a);
  redirects[2].set(0, c);
  a.exchange();
  c.exchange();
  const before = packets('ld').rx;
  ip('link', 'set', 'lc', 'down');
  injector.send('lb', frame(), 5);
  let got = 0;
  until(
    'five packets',
    () => (got += a.exchange()) >= 5 || (a.verdict.fill(Verdict.Redirect), a.target.fill(1), false),
  );
  a.verdict.fill(Verdict.Redirect);
  a.target.fill(1);
  a.exchange();
  expect(c.header[2]).toBe(ENETDOWN);
  const errors = c.counters[PortCounter.sendErrors];
  expect(errors).toBeGreaterThan(0);
  // Not a storm: at most one try a millisecond, however often exchange runs.
  const start = performance.now();
  for (let i = 0; i < 20_000; i++) a.exchange();
  expect(c.counters[PortCounter.sendErrors] - errors).toBeLessThanOrEqual(performance.now() - start + 2);
  expect(c.error()).toBe(0);
  expect(sum(umem.counts())).toBe(256);

  ip('link', 'set', 'lc', 'up');
  until('the five to leave', () => (c.exchange(), umem.counts().tx === 0));
  expect(packets('ld').rx - before).toBe(5);
  expect(c.header[2]).toBe(0);
  injector.send('ld', frame(), 3);
  got = 0;
  until('packets after it was up', () => (got += c.exchange()) >= 3);
  for (const redirect of redirects) redirect.close();
  umem.close();
});

test('interface deleted: error() says so, the others go on, a new socket shares with one that lives', () => {
  veth('lx', 'ly');
  const umem = new (native().Umem)({ frameCount: 512, chunkSize: 2048 });
  const first = openSocket(umem, { interface: 'lx', index: 0 });
  const second = openSocket(umem, { interface: 'la', index: 1 });
  const far = new Redirect('lb');
  const redirect = new Redirect('la');
  redirect.set(0, second);
  second.exchange();
  expect(first.error()).toBe(0);
  ip('link', 'del', 'lx');
  expect(first.error()).toBe(ENETDOWN);
  expect(first.error(), 'the kernel forgets it, we do not').toBe(ENETDOWN);
  expect(second.error()).toBe(0);
  expect(first.exchange()).toBe(0);
  expect(umem.wait(20)).toBe(0);

  // A packet to the dead interface stays in its TX ring and comes back with close().
  injector.send('lb', frame(), 1);
  until('a packet', () => second.exchange() === 1);
  second.verdict[0] = Verdict.Redirect;
  second.target[0] = 0;
  second.exchange();
  expect(first.header[2]).toBe(ENXIO);
  expect(umem.counts().tx).toBe(1);

  // Index order would choose the dead socket: it must not matter.
  const third = openSocket(umem, { interface: 'lc', index: 2 });
  third.exchange();
  first.close(20);
  expect(sum(umem.counts())).toBe(512);
  expect(umem.counts().tx).toBe(0);
  // With the socket that registered the memory closed, its siblings still carry it.
  const fourth = openSocket(umem, { interface: 'ld', index: 0 });
  second.close();
  third.close();
  fourth.close();
  expect(umem.counts().free).toBe(512);
  umem.close();
  redirect.close();
  far.close();
});

test('all siblings dead: the memory is registered anew', () => {
  veth('lx', 'ly');
  const umem = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  const first = openSocket(umem, { interface: 'lx', index: 0 });
  ip('link', 'del', 'lx');
  const second = openSocket(umem, { interface: 'la', index: 1 });
  second.exchange();
  first.close();
  second.close();
  umem.close();
});

test('close with a time to drain lets what was sent complete', () => {
  const umem = new (native().Umem)({ frameCount: 256, chunkSize: 2048 });
  const near = new Redirect('la');
  const far = new Redirect('lb');
  const socket = openSocket(umem, { interface: 'la', burst: 128 });
  near.set(0, socket);
  socket.exchange();
  const before = packets('lb').rx;
  injector.send('lb', frame(), 100);
  until('100 packets', () => socket.exchange() === 100);
  socket.verdict.fill(Verdict.Tx);
  socket.exchange();
  socket.close(200);
  expect(packets('lb').rx - before).toBe(100);
  expect(umem.counts().free).toBe(256);
  umem.close();
  near.close();
  far.close();
});

const OPEN = `
  function open(index, name) {
    const umem = new addon.Umem({ frameCount: 128, chunkSize: 2048 });
    const socket = new addon.XskSocket(umem, { interface: name ?? 'la', queue: 0, mode: 'copy', index });
    socket.exchange();
    return [umem, socket];
  }`;

test.each([
  ['process.exit()', 'process.exit(0)'],
  ['the end of the script', ''],
  ['an exception that is handled late', "process.on('uncaughtException', () => process.exit(0)); throw new Error('x')"],
])('%s with open handles frees the queue', (_, end) => {
  child(`${OPEN} globalThis.keep = open(0); ${end}`);
  const umem = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  openSocket(umem, { interface: 'la' }).close();
  umem.close();
});

test('forgotten sockets and UMEMs are collected without harm, views outlive them, pinned memory comes back', () => {
  // Each UMEM is 256 KiB; the limit holds two and a half. Only collection can close them here.
  const out = child(
    `${OPEN}
    const views = [];
    (async () => {
      for (let i = 0; i < 20; i++) {
        (() => { const [umem, socket] = open(0); views.push(socket.verdict, new Uint8Array(umem.buffer)); })();
        for (let j = 0; j < 3; j++) { await new Promise((r) => setTimeout(r, 1)); global.gc(); }
      }
      for (const view of views) view.fill(1);
      console.log(views.length, views.every((view) => view.length > 0));
    })();`,
    ['--expose-gc'],
    lockedMemory(640 * 1024),
  );
  expect(out).toBe('40 true');
});

test('a socket works on when only its UMEM object was collected', () => {
  const out = child(
    `${OPEN}
    let socket; (() => { socket = open(0)[1]; })();
    (async () => {
      for (let i = 0; i < 5; i++) { global.gc(); await new Promise((r) => setTimeout(r, 5)); }
      for (let i = 0; i < 1000; i++) socket.exchange();
      console.log(JSON.stringify(socket.rings().fill));
      socket.close();
    })();`,
    ['--expose-gc'],
  );
  expect(JSON.parse(out)).toMatchObject({ size: 2048 });
});

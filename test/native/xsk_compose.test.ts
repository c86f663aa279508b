/** Packets that JavaScript makes itself: frames from the free list into the burst, and out. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { native, type Umem, type XskSocket } from '../../src/native.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { PortCounter } from '../../src/shared/layout.js';
import { enterNamespace, frame, Injector, openSocket, Redirect, sum, until, veth } from './rig.js';

const FRAMES = 256;
const BURST = 16;
let injector: Injector;
const redirects: Redirect[] = [];
let umem: Umem;
let a: XskSocket;
let b: XskSocket;

beforeAll(() => {
  enterNamespace();
  veth('va', 'vb');
  injector = new Injector();
  redirects.push(new Redirect('va'), new Redirect('vb'));
});

afterAll(() => {
  for (const redirect of redirects) redirect.close();
  injector.close();
});

beforeEach(() => {
  umem = new (native().Umem)({ frameCount: FRAMES, chunkSize: 2048 });
  a = openSocket(umem, { interface: 'va', index: 0, burst: BURST, txSize: 64 });
  b = openSocket(umem, { interface: 'vb', index: 1, burst: BURST });
  redirects[0].set(0, a);
  redirects[1].set(0, b);
  a.exchange();
  b.exchange();
});

afterEach(() => {
  expect(sum(umem.counts()), 'conservation').toBe(FRAMES);
  a.close(100);
  b.close();
  expect(umem.counts()).toEqual({ free: FRAMES, fill: 0, rx: 0, tx: 0, held: 0, total: FRAMES });
  umem.close();
});

/** Writes a frame with this tag to a slot in hand, to be sent. */
function write(slot: number, tag: number): void {
  const bytes = frame(tag);
  new Uint8Array(umem.buffer).set(bytes, a.offset[slot]);
  a.length[slot] = bytes.length;
  a.verdict[slot] = Verdict.Tx;
}

/** Last bytes of the packets that come to `b`. */
function received(count: number): number[] {
  const tags: number[] = [];
  until(`${count} packets`, () => {
    const n = b.exchange();
    for (let i = 0; i < n; i++) tags.push(new Uint8Array(umem.buffer)[b.offset[i] + b.length[i] - 1]);
    return tags.length >= count;
  });
  return tags;
}

test('composed packets are sent as written, in order, burst after burst', () => {
  const free = umem.counts().free;
  for (let first = 0; first < 80; first += BURST) {
    a.exchange();
    expect(a.compose(100)).toBe(BURST);
    expect(a.header[0]).toBe(BURST);
    for (let slot = 0; slot < BURST; slot++) {
      expect([a.length[slot], a.verdict[slot], a.offset[slot] % 2048]).toEqual([0, Verdict.Drop, 256]);
      write(slot, first + slot);
    }
    a.exchange();
    expect(received(BURST)).toEqual(Array.from({ length: BURST }, (_, i) => first + i));
  }
  b.exchange();
  expect(a.counters[PortCounter.txPackets]).toBe(80);
  expect(a.counters[PortCounter.rxPackets]).toBe(0);
  expect(umem.counts().free).toBe(free);
});

test('they come behind the packets of the burst, and what is not sent is free again', () => {
  const free = umem.counts().free;
  for (let tag = 0; tag < 5; tag++) injector.send('vb', frame(tag));
  until('5 packets', () => a.rings().rx.producer - a.rings().rx.consumer === 5);
  expect(a.exchange()).toBe(5);
  expect(a.compose(3)).toBe(3);
  expect(a.header[0]).toBe(8);
  expect([...a.length.subarray(0, 8)]).toEqual([60, 60, 60, 60, 60, 0, 0, 0]);
  write(6, 77);
  // The packet that came first goes out as well; the others, received or composed, are dropped.
  a.verdict[0] = Verdict.Tx;
  a.exchange();
  expect(received(2)).toEqual([0, 77]);
  b.exchange();
  a.exchange();
  expect(a.counters[PortCounter.dropped]).toBe(6);
  expect(umem.counts().free).toBe(free);
});

test('there are no more than the burst and the memory have room for', () => {
  expect(a.compose(0)).toBe(0);
  expect(a.compose(10)).toBe(10);
  expect(a.compose(10)).toBe(6);
  expect(a.compose(1)).toBe(0);
  a.exchange();
  // All memory in use: nothing to compose.
  const small = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  b.close();
  const socket = openSocket(small, { interface: 'vb', index: 0, burst: 64 });
  socket.exchange();
  const { free } = small.counts();
  expect(socket.compose(64)).toBe(free);
  expect(socket.compose(1)).toBe(0);
  socket.close();
  small.close();
  expect(() => a.compose(-1)).toThrow(/count/);
  a.close();
  expect(() => a.compose(1)).toThrow(/closed/);
});

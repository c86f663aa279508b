/** Packets through sockets on veth: every verdict, every limit, and frames conserved after each test. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { native, type Tap, type Umem, type XskSocket } from '../../src/native.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { PortCounter } from '../../src/shared/layout.js';
import { random } from '../support/packets.js';
import { enterNamespace, frame, Injector, ip, openSocket, packets, pause, Redirect, sum, until, veth } from './rig.js';

const FRAMES = 1024;
let injector: Injector;
const redirects = new Map<string, Redirect>();
let umem: Umem;
let a: XskSocket;
let b: XskSocket;

beforeAll(() => {
  enterNamespace();
  veth('va', 'vap');
  veth('vb', 'vbp');
  injector = new Injector();
  // The far ends need a program too: a veth end delivers what its peer sends with XDP_TX only when it has one.
  for (const name of ['va', 'vb', 'vap', 'vbp']) redirects.set(name, new Redirect(name));
});

afterAll(() => {
  for (const redirect of redirects.values()) redirect.close();
  injector.close();
});

function open(burst = 64): void {
  umem = new (native().Umem)({ frameCount: FRAMES, chunkSize: 2048 });
  a = openSocket(umem, { interface: 'va', index: 0, burst });
  b = openSocket(umem, { interface: 'vb', index: 1, burst });
  redirects.get('va')!.set(0, a);
  redirects.get('vb')!.set(0, b);
  a.exchange();
  b.exchange();
}

beforeEach(() => open());

afterEach(() => {
  const counts = umem.counts();
  expect(sum(counts), 'conservation').toBe(FRAMES);
  a.close();
  b.close();
  expect(umem.counts()).toEqual({ free: FRAMES, fill: 0, rx: 0, tx: 0, held: 0, total: FRAMES });
  umem.close();
});

/** Receives `count` packets on `socket` and gives each the verdict (and change) that `judge` puts in the arrays. */
function receive(socket: XskSocket, count: number, judge: (slot: number, nth: number) => void): void {
  let got = 0;
  until(`${count} packets`, () => {
    const n = socket.exchange();
    for (let i = 0; i < n; i++) judge(i, got + i);
    got += n;
    return got >= count;
  });
  expect(got).toBe(count);
}

const byte = (offset: number) => new Uint8Array(umem.buffer)[offset];

test('received packets are where offset and length say, in order, and Drop by default', () => {
  for (let tag = 0; tag < 100; tag++) injector.send('vap', frame(tag, 60 + tag));
  receive(a, 100, (i, nth) => {
    expect(a.length[i]).toBe(60 + nth);
    expect(byte(a.offset[i] + a.length[i] - 1)).toBe(nth);
    expect([a.verdict[i], a.target[i]]).toEqual([Verdict.Drop, 0]);
  });
  expect(a.exchange()).toBe(0);
  expect(a.counters[PortCounter.rxPackets]).toBe(100);
  expect(a.counters[PortCounter.rxBytes]).toBe((60 + 159) * 50);
  expect(a.counters[PortCounter.dropped]).toBe(100);
  expect(umem.counts()).toMatchObject({ rx: 0, tx: 0 });
});

test('a burst is at most as large as asked for, and the arrays are the same objects for ever', () => {
  const arrays = [a.header, a.offset, a.length, a.verdict, a.target, a.counters];
  injector.send('vap', frame(), 150);
  expect([a.exchange(), a.exchange(), a.exchange(), a.exchange()]).toEqual([64, 64, 22, 0]);
  expect(a.offset.length).toBe(64);
  [a.header, a.offset, a.length, a.verdict, a.target, a.counters].forEach((array, i) => expect(array).toBe(arrays[i]));
});

test('the header carries the count and a monotonic clock', () => {
  injector.send('vap', frame(), 3);
  expect(a.exchange()).toBe(3);
  expect(a.header[0]).toBe(3);
  const first = a.header[1];
  expect(native().nowMs() - first).toBeLessThan(1000);
  pause(20);
  expect(a.exchange()).toBe(0);
  expect(a.header[0]).toBe(0);
  expect((a.header[1] - first) | 0).toBeGreaterThanOrEqual(19);
});

test('Tx sends the changed packet out of the interface that it came in on', () => {
  const before = packets('vap').rx;
  injector.send('vap', frame(1, 100), 20);
  receive(a, 20, (i) => {
    a.verdict[i] = Verdict.Tx;
    a.offset[i] -= 20; // into the headroom, as encapsulation does
    a.length[i] += 20;
  });
  until('completions', () => (a.exchange(), umem.counts().tx === 0));
  expect(packets('vap').rx - before).toBe(20);
  expect(a.counters[PortCounter.txPackets]).toBe(20);
  expect(a.counters[PortCounter.txBytes]).toBe(20 * 120);
  expect(a.counters[PortCounter.completions]).toBe(20);
});

test('Redirect sends by the socket that target names, its bytes unchanged', () => {
  const far = new (native().Umem)({ frameCount: 256, chunkSize: 2048 });
  const peer = openSocket(far, { interface: 'vbp', index: 3 });
  redirects.get('vbp')!.set(0, peer);
  peer.exchange();
  for (let tag = 0; tag < 50; tag++) injector.send('vap', frame(tag, 200));
  receive(a, 50, (i) => {
    a.verdict[i] = Verdict.Redirect;
    a.target[i] = 1;
  });
  a.exchange();
  const tags: number[] = [];
  until('50 packets at the far end', () => {
    const n = peer.exchange();
    for (let i = 0; i < n; i++) {
      expect(peer.length[i]).toBe(200);
      tags.push(new Uint8Array(far.buffer)[peer.offset[i] + 199]);
    }
    return tags.length >= 50;
  });
  expect(tags).toEqual(Array.from({ length: 50 }, (_, i) => i));
  expect([a.counters[PortCounter.txPackets], b.counters[PortCounter.txPackets]]).toEqual([0, 50]);
  // Frames come back by the other socket's completion ring, whichever socket is asked.
  until('completions', () => (a.exchange(), umem.counts().tx === 0));
  far.close();
});

test('200 packets to send at once all leave', () => {
  a.close();
  b.close();
  umem.close();
  open(256);
  const before = packets('vap').rx;
  injector.send('vap', frame(), 200);
  expect(a.exchange()).toBe(200);
  a.verdict.fill(Verdict.Tx);
  a.exchange();
  until('completions', () => (a.exchange(), umem.counts().tx === 0));
  expect(packets('vap').rx - before).toBe(200);
  const { tx, completion } = a.rings();
  expect([tx.producer, tx.consumer, completion.producer]).toEqual([200, 200, 200]);
});

test('a full TX ring drops the rest, counted on the socket that was full', () => {
  b.close();
  b = openSocket(umem, { interface: 'vb', index: 1, txSize: 16, completionSize: 16 });
  ip('link', 'set', 'vb', 'down'); // nothing leaves: the ring fills up
  try {
    injector.send('vap', frame(), 60);
    receive(a, 60, (i) => {
      a.verdict[i] = Verdict.Redirect;
      a.target[i] = 1;
    });
    a.exchange();
    expect(b.counters[PortCounter.txPackets]).toBe(16);
    expect(b.counters[PortCounter.txFull]).toBe(44);
    expect(umem.counts().tx).toBe(16);
  } finally {
    ip('link', 'set', 'vb', 'up');
  }
  // They leave by themselves once it is up, although nothing new arrives.
  until('the rest to leave', () => (a.exchange(), umem.counts().tx === 0));
  expect(b.header[2]).toBe(0);
});

test('wait() wakes for a packet, sleeps its time otherwise, and drives what is to be sent', () => {
  injector.send('vap', frame());
  expect(umem.wait(1000)).toBe(1);
  expect(a.exchange()).toBe(1);
  a.exchange();
  const start = performance.now();
  expect(umem.wait(60)).toBe(0);
  expect(performance.now() - start).toBeGreaterThan(55);

  ip('link', 'set', 'va', 'down');
  injector.send('vbp', frame());
  receive(b, 1, (i) => {
    b.verdict[i] = Verdict.Redirect;
    b.target[i] = 0;
  });
  b.exchange();
  expect(umem.counts().tx).toBe(1);
  ip('link', 'set', 'va', 'up');
  umem.wait(50); // no exchange: wait alone sends it and takes the completion
  expect(umem.counts().tx).toBe(0);
});

test('Pass goes to the tap byte for byte; without one it is lost and counted', () => {
  const tap: Tap = new (native().Tap)({ name: 'tpass' });
  ip('link', 'set', 'tpass', 'up');
  const socketOnTap = openSocket(umem, { interface: 'tpass', index: 2 });
  const redirect = new Redirect('tpass');
  redirect.set(0, socketOnTap);
  socketOnTap.exchange();

  injector.send('vap', frame(9, 77), 2);
  receive(a, 2, (i) => (a.verdict[i] = Verdict.Pass));
  a.exchange();
  expect(a.counters[PortCounter.passLost]).toBe(2);

  a.setTap(tap);
  injector.send('vap', frame(5, 77), 3);
  receive(a, 3, (i) => (a.verdict[i] = Verdict.Pass));
  a.exchange();
  expect(a.counters[PortCounter.passPackets]).toBe(3);
  // What the host received from the TAP, its own XDP program hands to a socket again.
  receive(socketOnTap, 3, (i) => {
    expect(socketOnTap.length[i]).toBe(77);
    expect(byte(socketOnTap.offset[i] + 76)).toBe(5);
  });
  expect(packets('tpass').rx).toBe(3);

  tap.close(); // a closed tap takes nothing, and is no error
  injector.send('vap', frame(), 1);
  receive(a, 1, (i) => (a.verdict[i] = Verdict.Pass));
  a.exchange();
  expect(a.counters[PortCounter.passLost]).toBe(3);
  redirect.close();
  socketOnTap.close();
});

test('garbage in every array neither crashes nor leaks, and each packet is counted once', () => {
  const seed = Date.now() | 0;
  const next = random(seed);
  const int = () => {
    const pick = next();
    if (pick < 0.2) return (next() * 4294967296) | 0;
    if (pick < 0.4) return Math.floor(next() * 6) - 1;
    if (pick < 0.6) return [0x7fffffff, -0x80000000, -1, 2048, 2047, 13, 14, FRAMES * 2048][Math.floor(next() * 8)];
    return Math.floor(next() * 4000) - 100;
  };
  let received = 0;
  for (let round = 0; round < 80; round++) {
    injector.send('vap', frame(), 64);
    const n = a.exchange();
    received += n;
    for (let i = 0; i < a.verdict.length; i++) {
      a.verdict[i] = next() < 0.8 ? Math.floor(next() * 5) : int();
      a.target[i] = next() < 0.6 ? Math.floor(next() * 2) : int();
      if (next() < 0.7) a.offset[i] = next() < 0.5 ? a.offset[i] + int() : int();
      if (next() < 0.7) a.length[i] = int();
    }
    a.header.fill(int());
    expect(sum(umem.counts()), `seed ${seed}`).toBe(FRAMES);
  }
  until('completions', () => {
    received += a.exchange();
    b.exchange();
    return umem.counts().tx === 0 && umem.counts().rx === 0;
  });
  const total = (socket: XskSocket, ...names: PortCounter[]) =>
    names.reduce((at, name) => at + socket.counters[name], 0);
  const settled =
    total(
      a,
      PortCounter.dropped,
      PortCounter.passLost,
      PortCounter.txInvalid,
      PortCounter.txPackets,
      PortCounter.txFull,
    ) + total(b, PortCounter.txPackets, PortCounter.txFull);
  expect(settled + umem.counts().held, `seed ${seed}`).toBe(received);
  expect(received).toBeGreaterThan(4000);
  for (const socket of [a, b]) {
    expect(socket.statistics().txInvalidDescs, `seed ${seed}: the kernel saw a bad descriptor`).toBe(0);
    expect(socket.counters[PortCounter.completionBogus]).toBe(0);
  }
  expect(a.counters[PortCounter.txInvalid]).toBeGreaterThan(100);
  expect(a.counters[PortCounter.txPackets]).toBeGreaterThan(100);
});

test('frames are shared fairly: a socket opened later gets as many as the first', () => {
  a.close();
  b.close();
  umem.close();
  umem = new (native().Umem)({ frameCount: FRAMES, chunkSize: 2048 });
  const big = { rxSize: 1024, fillSize: 1024 };
  a = openSocket(umem, { interface: 'va', index: 0, ...big });
  b = openSocket(umem, { interface: 'vb', index: 1, ...big });
  for (let i = 0; i < 3; i++) {
    a.exchange();
    b.exchange();
  }
  expect([a.rings().fill.producer, b.rings().fill.producer]).toEqual([384, 384]); // 3/4 of 1024, halved
  expect(umem.counts().free).toBe(256);
});

test('the fill ring stays full over ten times its size', () => {
  for (let round = 0; round < 40; round++) {
    injector.send('vap', frame(round), 64);
    receive(a, 64, (i) => (a.verdict[i] = round & 1 ? Verdict.Tx : Verdict.Drop));
  }
  a.exchange();
  until('completions', () => (a.exchange(), umem.counts().tx === 0));
  const { fill } = a.rings();
  expect((fill.producer - fill.consumer) | 0).toBe(fill.size);
  expect(a.statistics()).toMatchObject({ rxDropped: 0, rxFillRingEmptyDescs: 0, rxRingFull: 0 });
});

test('a full RX ring costs packets, counted by the kernel, and no frames', () => {
  injector.send('vap', frame(), 400); // RX ring of 256
  let got = 0;
  until('what fits', () => (got += a.exchange()) >= 256);
  const statistics = a.statistics();
  expect(statistics.rxRingFull + statistics.rxFillRingEmptyDescs).toBe(400 - got);
  injector.send('vap', frame(), 64);
  receive(a, 64, () => {});
});

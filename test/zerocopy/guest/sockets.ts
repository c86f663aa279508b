/** Sockets in zero-copy mode: what they receive, send and forward, byte by byte, with no frame lost. */
import assert from 'node:assert/strict';
import type { Umem, XskSocket } from '../../../src/native.js';
import { native } from '../../../src/native.js';
import { Verdict } from '../../../src/dataplane/verdict.js';
import { PortCounter } from '../../../src/shared/layout.js';
import { Redirect, sum, until } from '../../native/rig.js';
import { test } from './harness.js';
import { carrier, command, Far, frame, hardwareAddress, memory, openNear, packet, PAIRS, tagOf } from './pairs.js';

const FRAMES = 1024;

function open(near: string, farName: string): { umem: Umem; socket: XskSocket; far: Far } {
  const far = new Far(farName);
  const redirect = new Redirect(near);
  const umem = memory(FRAMES);
  const socket = openNear(umem, near);
  redirect.set(0, socket);
  socket.exchange();
  carrier(near, farName);
  return { umem, socket, far };
}

/** Everything came back and nothing was believed that should not have been. */
function assertConserved(umem: Umem, ...sockets: XskSocket[]): void {
  until('all frames back from sending', () => (sockets.forEach((socket) => socket.exchange()), umem.counts().tx === 0));
  assert.equal(sum(umem.counts()), umem.frameCount);
  for (const { counters } of sockets) assert.equal(counters[PortCounter.completionBogus], 0);
}

/** By tag, which stands behind `at` bytes: packets that have to wait in QEMU's hub for a buffer of the far end come out of it swapped. */
function sorted(all: readonly Uint8Array[], at = 0): Uint8Array[] {
  return [...all].sort((a, b) => tagOf(a.subarray(at)) - tagOf(b.subarray(at)));
}

/** Frames of all sizes that an MTU of 1500 allows. */
function sizes(from: string, count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, tag) => frame(from, tag, 60 + ((tag * 97) % 1455)));
}

for (const { driver, near, far: farName } of PAIRS) {
  test(`${driver}: a socket binds zero-copy, and the kernel says so twice`, () => {
    new Redirect(near);
    const umem = memory(FRAMES);
    const socket = openNear(umem, near);
    // getsockopt(XDP_OPTIONS), and the socket's dump over netlink (sock_diag), which is no word of ours.
    assert.equal(socket.zeroCopy, true);
    assert.match(command('ss', '--xdp', '-e', '-O'), new RegExp(`${near}:q0 .*\\bzc:1\\b`));
    assert.equal(native().linkInfo(near).driver, driver);
    socket.close();
    const auto = openNear(umem, near, { mode: 'auto' });
    assert.equal(auto.zeroCopy, true, 'auto takes it too');
    auto.close();
    const copy = openNear(umem, near, { mode: 'copy' });
    assert.equal(copy.zeroCopy, false);
    assert.match(command('ss', '--xdp', '-e', '-O'), new RegExp(`${near}:q0 .*\\bzc:0\\b`));
  });

  test(`${driver}: what it receives is whole and in order`, () => {
    const { umem, socket, far } = open(near, farName);
    const sent = sizes(farName, 600);
    const got: Uint8Array[] = [];
    const take = () => {
      const count = socket.exchange();
      for (let i = 0; i < count; i++) got.push(packet(umem, socket, i));
    };
    far.send(sent, take);
    // Asleep in poll(2) in between: interrupts and wakeups have to do it.
    until('all packets', () => (umem.wait(50), take(), got.length >= sent.length), 10_000);
    assert.deepEqual(got, sent);
    assert.equal(socket.counters[PortCounter.rxPackets], sent.length);
    const { rxDropped, rxRingFull, rxInvalidDescs } = socket.statistics();
    assert.deepEqual([rxDropped, rxRingFull, rxInvalidDescs], [0, 0, 0]);
    assertConserved(umem, socket);
  });

  test(`${driver}: what it sends arrives whole, and no more than that`, () => {
    const { umem, socket, far } = open(near, farName);
    const bytes = new Uint8Array(umem.buffer);
    const wanted = sizes(near, 600);
    const got: Uint8Array[] = [];
    for (let sent = 0; sent < wanted.length; got.push(...far.take())) {
      const first = socket.header[0];
      const count = socket.compose(Math.min(wanted.length - sent, 48));
      for (let i = 0; i < count; i++) {
        bytes.set(wanted[sent + i], socket.offset[first + i]);
        socket.length[first + i] = wanted[sent + i].length;
        socket.verdict[first + i] = Verdict.Tx;
      }
      sent += count;
      socket.exchange();
    }
    got.push(...far.expect(wanted.length - got.length, () => socket.exchange()));
    assert.deepEqual(sorted(got), wanted);
    assertConserved(umem, socket);
    assert.equal(socket.counters[PortCounter.completions], wanted.length);
    const { tx, completion } = socket.rings();
    assert.deepEqual([tx.producer, tx.consumer, completion.producer, completion.consumer], [600, 600, 600, 600]);
  });

  test(`${driver}: what it sends back is the frame that came in, with a header in front`, () => {
    const { umem, socket, far } = open(near, farName);
    const bytes = new Uint8Array(umem.buffer);
    const sent = sizes(farName, 400).map((one) => one.slice(0, 1400));
    const header = Uint8Array.from({ length: 40 }, (_, i) => 0xa0 + i);
    header.set(frame(near, 0).subarray(0, 14));
    const forward = () => {
      const count = socket.exchange();
      for (let i = 0; i < count; i++) {
        socket.offset[i] -= header.length; // into the headroom, as encapsulation does
        socket.length[i] += header.length;
        bytes.set(header, socket.offset[i]);
        socket.verdict[i] = Verdict.Tx;
      }
    };
    far.send(sent, forward);
    const got = far.expect(sent.length, forward);
    assert.deepEqual(sorted(got, 40), sent.map((one) => Uint8Array.from([...header, ...one]))); // prettier-ignore
    assertConserved(umem, socket);
    assert.equal(socket.counters[PortCounter.txPackets], sent.length);
  });
}

test('both drivers: sockets that share packet memory forward to each other without a copy', () => {
  const [virtio, igb] = PAIRS;
  const fars = [new Far(virtio.far), new Far(igb.far)];
  const umem = memory(2 * FRAMES);
  const redirects = [new Redirect(virtio.near), new Redirect(igb.near)];
  const sockets = [openNear(umem, virtio.near), openNear(umem, igb.near, { index: 1 })];
  sockets.forEach((socket, i) => redirects[i].set(0, socket));
  assert.deepEqual(sockets.map((socket) => socket.zeroCopy), [true, true]); // prettier-ignore
  // One registration of the memory, and both devices write to it.
  const dump = command('ss', '--xdp', '-e', '-O').split('\n');
  const sharing = dump.filter((line) => /\b[vg]near:q0 .*umem\(id:\d+,.*zc:1/.test(line));
  assert.equal(sharing.length, 2, dump.join('\n'));
  const forward = () => {
    for (const [i, socket] of sockets.entries()) {
      const count = socket.exchange();
      for (let slot = 0; slot < count; slot++) {
        socket.verdict[slot] = Verdict.Redirect;
        socket.target[slot] = 1 - i;
      }
    }
  };
  forward();
  carrier(virtio.near, virtio.far, igb.near, igb.far);
  for (const [from, to] of [[0, 1], [1, 0]]) {
    const sent = sizes(PAIRS[from].far, 300);
    // To the address of the end where it arrives, or that NIC's filter drops it.
    const last = Buffer.from(hardwareAddress(PAIRS[to].far).replaceAll(':', ''), 'hex');
    const rewrite = (): void => {
      const socket = sockets[from];
      const bytes = new Uint8Array(umem.buffer);
      for (let slot = 0; slot < socket.header[0]; slot++) bytes.set(last, socket.offset[slot]);
    };
    const step = () => (forward(), rewrite());
    fars[from].send(sent, step);
    const got = sorted(fars[to].expect(sent.length, step));
    assert.deepEqual(got.map(tagOf), sent.map(tagOf)); // prettier-ignore
    assert.deepEqual(got.map((one) => one.subarray(6)), sent.map((one) => one.subarray(6))); // prettier-ignore
  } // prettier-ignore
  assertConserved(umem, ...sockets);
});

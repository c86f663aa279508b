/** Zero-copy sockets when things go wrong: it goes on, no frame is lost, and the kernel's part is as we take it to be. */
import assert from 'node:assert/strict';
import { writeFileSync, realpathSync } from 'node:fs';
import type { Umem, XskOptions, XskSocket } from '../../../src/native.js';
import { native } from '../../../src/native.js';
import { Verdict } from '../../../src/dataplane/verdict.js';
import { PortCounter } from '../../../src/shared/layout.js';
import { pause, Redirect, sum, until } from '../../native/rig.js';
import { test } from './harness.js';
import { carrier, command, Far, frame, memory, nameInterfaces, openNear, packet, PAIRS, tagOf } from './pairs.js';

const frames = (from: string, first: number, count: number) =>
  Array.from({ length: count }, (_, i) => frame(from, first + i, 200));

/** For sockets that are opened again: a closed one's frames rest for a second, in case the device still writes to them. */
const SMALL_RINGS = { rxSize: 256, fillSize: 256 };

class Near {
  readonly redirect: Redirect;
  socket: XskSocket;

  constructor(
    readonly name: string,
    readonly umem: Umem,
    private readonly options: Partial<XskOptions> = {},
  ) {
    this.redirect = new Redirect(name);
    this.socket = this.open();
  }

  open(): XskSocket {
    // Room to write packets beside those in hand.
    this.socket = openNear(this.umem, this.name, { burst: 256, ...this.options });
    assert.equal(this.socket.zeroCopy, true);
    this.redirect.set(0, this.socket);
    this.socket.exchange();
    return this.socket;
  }

  /** Tags of the packets that arrive, until there are `count`; they are dropped. */
  expect(count: number, what: string): number[] {
    const tags: number[] = [];
    until(what, () => {
      const n = this.socket.exchange();
      for (let i = 0; i < n; i++) tags.push(tagOf(packet(this.umem, this.socket, i)));
      return tags.length >= count;
    }, 15_000); // prettier-ignore
    return tags;
  }

  /** Writes and sends frames; they are on the TX ring afterwards, whatever becomes of them. */
  send(wanted: readonly Uint8Array[]): void {
    const first = this.socket.header[0];
    assert.equal(this.socket.compose(wanted.length), wanted.length);
    const bytes = new Uint8Array(this.umem.buffer);
    wanted.forEach((one, i) => {
      bytes.set(one, this.socket.offset[first + i]);
      this.socket.length[first + i] = one.length;
      this.socket.verdict[first + i] = Verdict.Tx;
    });
    this.socket.exchange();
  }
}

/** Sorted: packets that wait in QEMU's hub for a buffer of the other end come out of it swapped. */
const tags = (all: readonly Uint8Array[]) => all.map(tagOf).sort((a, b) => a - b);

function checkTraffic(near: Near, far: Far, farName: string, first: number, what: string): void {
  const sent = frames(farName, first, 100);
  far.send(sent);
  assert.deepEqual(
    near.expect(100, `${what}: 100 packets in`).sort((a, b) => a - b),
    tags(sent),
  );
  const back = frames(near.name, first, 40);
  near.send(back);
  assert.deepEqual(tags(far.expect(40, () => near.socket.exchange())), tags(back), `${what}: 40 packets out`);
}

/** Frames of a closed socket rest for a second: a device may still write to them. */
function assertAllFree(umem: Umem, socket?: XskSocket): void {
  until(
    'frames come back',
    () => (socket?.exchange(), sum(umem.counts()) === umem.frameCount && umem.counts().tx === 0),
  );
}

for (const { driver, near: name, far: farName } of PAIRS) {
  test(`${driver}: a fill ring that runs dry stops reception, says so, and recovers by itself`, () => {
    const far = new Far(farName);
    const near = new Near(name, memory(256));
    const { umem, socket } = near;
    carrier(name, farName);
    // Every packet is held, until no frame is left: neither free, nor in the fill ring, nor with the device.
    let next = 0;
    until('all frames are held', () => {
      far.push(frames(farName, next, 16));
      next += 16;
      const n = socket.exchange();
      for (let i = 0; i < n; i++) socket.verdict[i] = Verdict.Hold;
      return umem.counts().held + n >= 256;
    }, 20_000); // prettier-ignore
    socket.exchange();
    assert.deepEqual({ ...umem.counts() }, { free: 0, fill: 0, rx: 0, tx: 0, held: 256, total: 256 });
    far.push(frames(farName, 9000, 32));
    pause(100);
    assert.equal(socket.exchange(), 0);
    assert.ok(socket.statistics().rxFillRingEmptyDescs > 0);
    for (let i = 0; i < 256; i++) assert.ok(socket.release(i * umem.chunkSize));
    // The driver has no buffer left that could bring an interrupt: it looks at the fill ring only when it is woken.
    // The wires keep for a while what finds no buffer: those packets come first, as far as QEMU's NIC has not dropped them.
    const sent = frames(farName, 20_000, 100);
    const got: number[] = [];
    const take = () => {
      const n = socket.exchange();
      for (let i = 0; i < n; i++) got.push(tagOf(packet(umem, socket, i)));
    };
    far.send(sent, take);
    until('100 packets after it', () => (take(), got.filter((tag) => tag >= 20_000).length >= 100), 15_000);
    assert.deepEqual(
      got.filter((tag) => tag >= 20_000).sort((a, b) => a - b),
      tags(sent),
    );
    assertAllFree(umem, socket);
  });

  test(`${driver}: a link that goes down and up is a pause: same socket, nothing lost of what is sent`, () => {
    const far = new Far(farName);
    const near = new Near(name, memory(1024));
    const { umem, socket } = near;
    carrier(name, farName);
    checkTraffic(near, far, farName, 0, 'before');
    command('ip', 'link', 'set', name, 'down');
    near.send(frames(name, 500, 20));
    for (let i = 0; i < 20; i++) {
      socket.exchange();
      pause(2);
    }
    assert.equal(socket.header[2], 100, 'ENETDOWN');
    assert.equal(sum(umem.counts()), 1024);
    far.expectNothing(20);
    command('ip', 'link', 'set', name, 'up');
    carrier(name, farName);
    const late = far.expect(20, () => socket.exchange());
    assert.deepEqual(tags(late), tags(frames(name, 500, 20)));
    checkTraffic(near, far, farName, 1000, 'after');
    assert.deepEqual([socket.header[2], socket.error(), socket.zeroCopy], [0, 0, true]);
    assertAllFree(umem, socket);
  });

  test(`${driver}: a queue that is closed and opened again works each time, and all frames come back`, () => {
    const far = new Far(farName);
    const near = new Near(name, memory(4096), SMALL_RINGS);
    const { umem } = near;
    for (let round = 0; round < 4; round++) {
      carrier(name, farName);
      checkTraffic(near, far, farName, round * 1000, `round ${round}`);
      // With packets half done: some in hand, some on the TX ring.
      far.send(frames(farName, 0, 8));
      near.send(frames(name, 0, 8));
      near.socket.close();
      assert.equal(sum(umem.counts()), 4096);
      near.open();
      far.take();
    }
    near.socket.close();
    pause(1100);
    near.open();
    assert.deepEqual({ ...umem.counts() }, { free: 4096 - 256, fill: 256, rx: 0, tx: 0, held: 0, total: 4096 });
  });

  test(`${driver}: packets that cannot be are refused, their neighbours leave, and the kernel never sees them`, () => {
    const far = new Far(farName);
    const near = new Near(name, memory(1024));
    const { umem, socket } = near;
    carrier(name, farName);
    const sent = frames(farName, 0, 6);
    far.send(sent);
    until('six packets', () => socket.header[0] === 6 || socket.exchange() === 6, 10_000);
    socket.verdict.fill(Verdict.Tx, 0, 6);
    const chunk = umem.chunkSize;
    socket.length[0] = 13; // shorter than an Ethernet header
    socket.length[1] = 0;
    socket.offset[2] += chunk; // another frame's
    socket.length[3] = chunk; // over the end of its own
    socket.offset[4] = -1;
    new Uint8Array(umem.buffer).set(frame(name, 5, 200), socket.offset[5]);
    socket.exchange();
    assert.deepEqual(tags(far.expect(1, () => socket.exchange())), [5]);
    assert.equal(socket.counters[PortCounter.txInvalid], 5);
    assert.equal(socket.statistics().txInvalidDescs, 0);
    far.expectNothing(20);
    checkTraffic(near, far, farName, 100, 'after');
    assertAllFree(umem, socket);
  });

  test(`${driver}: a program that is taken off leaves packets to the host; put on again, the same socket goes on`, () => {
    const far = new Far(farName);
    const near = new Near(name, memory(1024));
    carrier(name, farName);
    checkTraffic(near, far, farName, 0, 'before');
    near.redirect.close();
    carrier(name, farName);
    far.send(frames(farName, 300, 50));
    pause(100);
    assert.equal(near.socket.exchange(), 0);
    const again = new Redirect(name);
    again.set(0, near.socket);
    carrier(name, farName);
    checkTraffic(near, far, farName, 1000, 'after');
    assertAllFree(near.umem, near.socket);
  });
}

test('igb: frames of 2048 bytes are not bound zero-copy at an MTU of 1500, as the driver would cut packets', () => {
  new Redirect('gnear');
  const umem = memory(256, 2048);
  assert.throws(() => openNear(umem, 'gnear'), (error: Error & { code?: string; remedy?: string }) =>
    error.code === 'EOPNOTSUPP' && /frames of 4096 bytes, or an MTU of at most 1002/.test(error.remedy ?? '')); // prettier-ignore
  const auto = openNear(umem, 'gnear', { mode: 'auto' });
  assert.equal(auto.zeroCopy, false);
  auto.close();
  command('ip', 'link', 'set', 'gnear', 'mtu', '1000');
  try {
    const small = openNear(umem, 'gnear');
    assert.equal(small.zeroCopy, true);
    small.close();
  } finally {
    command('ip', 'link', 'set', 'gnear', 'mtu', '1500');
  }
});

for (const { driver, near: name, far: farName } of PAIRS) {
  test(`${driver}: a device that is unplugged is noticed; back again, it is bound anew`, () => {
    const far = new Far(farName);
    const umem = memory(4096);
    const near = new Near(name, umem, SMALL_RINGS);
    carrier(name, farName);
    checkTraffic(near, far, farName, 0, 'before');
    // A virtio device stands below its PCI function.
    const device = realpathSync(`/sys/class/net/${name}/device`).replace(/\/virtio\d+$/, '');
    near.send(frames(name, 500, 10));
    writeFileSync(`${device}/remove`, '1');
    assert.equal(near.socket.error(), 100, 'ENETDOWN');
    for (let i = 0; i < 5; i++) {
      near.socket.exchange();
      pause(5);
    }
    near.socket.close();
    near.redirect.close();
    assert.equal(sum(umem.counts()), 4096);
    far.take();
    writeFileSync('/sys/bus/pci/rescan', '1');
    until('the device is back', () => {
      try {
        nameInterfaces();
        return native().linkInfo(name).up;
      } catch {
        return false;
      }
    }, 15_000); // prettier-ignore
    const anew = new Near(name, umem, SMALL_RINGS);
    carrier(name, farName);
    checkTraffic(anew, far, farName, 1000, 'after');
    assertAllFree(umem, anew.socket);
  });
}

/** The rings without a kernel (a C++ program with both ends in its own memory), and with a kernel that lies. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { native } from '../../src/native.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { PortCounter } from '../../src/shared/layout.js';
import { closeAll, enterNamespace, frame, Injector, ip, openSocket, Redirect, sum, until, veth } from './rig.js';

let directory: string;
let injector: Injector;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-ring-'));
  enterNamespace();
  veth('ra', 'rb');
  injector = new Injector();
});
afterEach(closeAll);
afterAll(() => {
  injector.close();
  rmSync(directory, { recursive: true });
});

function build(...flags: string[]): string {
  const output = join(directory, `ring_${flags.join('').replace(/\W/g, '')}`);
  const source = join(import.meta.dirname, 'ring_mock.cc');
  execFileSync('g++', [
    '-std=c++17',
    '-O1',
    '-g',
    '-Wall',
    '-Wextra',
    '-Werror',
    ...flags,
    source,
    '-o',
    output,
    '-pthread',
  ]);
  return output;
}

test('limits, the wrap at 2^32 and the frame pool hold, under the address and undefined-behaviour sanitizers', () => {
  const program = build('-fsanitize=address,undefined', '-fno-sanitize-recover=all');
  const seed = `${Date.now() % 1_000_000}`;
  for (const argument of ['1', seed]) {
    const out = execFileSync(program, [argument], { encoding: 'utf8' });
    expect(out, `seed ${argument}`).toContain('limits, wrap and pool hold');
  }
}, 60_000);

test('two threads see whole entries, under the thread sanitizer', () => {
  // The sanitizer wants an address space that is not too random (kernel.vm.mmap_rnd_bits); setarch -R takes that out.
  const out = execFileSync('setarch', ['-R', build('-fsanitize=thread'), 'threads'], {
    encoding: 'utf8',
    env: { ...process.env, LD_PRELOAD: '' }, // it does not run beside the address sanitizer of an addon built with it
  });
  expect(out).toContain('two threads agree');
}, 60_000);

/** Bytes from a ring's producer index to its entries: struct xdp_umem_ring of Linux 5.9 and later (net/xdp/xsk_queue.h). */
const ENTRIES = 320;

/** A ring of this process's only socket, written to behind the addon's back. */
class Forger {
  private readonly memory = openSync('/proc/self/mem', 'r+');
  private readonly base: number;

  constructor(page: 'completion' | 'rx') {
    const offset = page === 'completion' ? '180000000' : '00000000';
    const line = readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .find((text) => text.includes('socket:[') && text.includes(` ${offset} `));
    this.base = parseInt(line!, 16);
  }

  /** Puts an entry at `index` and moves the producer behind it. */
  push(index: number, size: number, entry: Uint8Array): void {
    writeSync(this.memory, entry, 0, entry.length, this.base + ENTRIES + (index & (size - 1)) * entry.length);
    writeSync(this.memory, new Uint8Array(Uint32Array.of(index + 1).buffer), 0, 4, this.base);
  }

  close(): void {
    closeSync(this.memory);
  }
}

const u64 = (...values: bigint[]) => new Uint8Array(BigUint64Array.from(values).buffer);

test('completion addresses that name no frame in flight are counted and never recycled', () => {
  const umem = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  const socket = openSocket(umem, { interface: 'ra' });
  const redirects = [new Redirect('ra'), new Redirect('rb')];
  redirects[0].set(0, socket);
  socket.exchange();
  // One frame really in flight, so that completions are looked at: the interface is down, it stays.
  injector.send('rb', frame());
  until('a packet', () => socket.exchange() === 1);
  const real = BigInt(socket.offset[0]);
  ip('link', 'set', 'ra', 'down');
  socket.verdict[0] = Verdict.Tx;
  socket.exchange();
  expect(umem.counts().tx).toBe(1);
  const before = umem.counts();

  const forger = new Forger('completion');
  // Beyond the end, in a fill ring, free, and what the kernel says for a bad descriptor.
  const lies = [1n << 40n, 64n * 2048n, real ^ 2048n, 63n * 2048n, 0xffffffffffffffffn];
  lies.forEach((address, index) => forger.push(index, 256, u64(address)));
  expect(socket.rings().completion.producer).toBe(lies.length);
  socket.exchange();
  expect(socket.counters[PortCounter.completionBogus]).toBe(lies.length);
  expect(umem.counts()).toEqual(before);
  // The true one is believed, once.
  forger.push(lies.length, 256, u64(real));
  forger.push(lies.length + 1, 256, u64(real));
  socket.exchange();
  expect(socket.counters[PortCounter.completionBogus]).toBe(lies.length + 1);
  expect(socket.counters[PortCounter.completions]).toBe(1);
  expect(umem.counts().tx).toBe(0);
  expect(sum(umem.counts())).toBe(64);
  forger.close();
  umem.close();
  ip('link', 'set', 'ra', 'up');
});

test('received descriptors outside the fill ring or their chunk never reach JavaScript', () => {
  const umem = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  const socket = openSocket(umem, { interface: 'ra', fillSize: 16 });
  socket.exchange();
  expect(umem.counts().fill).toBe(16);
  const forger = new Forger('rx');
  const lies: [bigint, bigint][] = [
    [1n << 33n, 60n], // beyond the UMEM
    [60n * 2048n + 256n, 60n], // a free frame
    [256n, 1793n], // frame 0, which is in the fill ring, but one byte too long
    [256n, 0xffffffffn], // that frame was taken out by the line before
    [0xffffffffffffffffn, 60n],
  ];
  lies.forEach(([address, length], index) => forger.push(index, 256, u64(address, length)));
  expect(socket.exchange()).toBe(0);
  expect(socket.counters[PortCounter.completionBogus]).toBe(lies.length);
  expect(socket.counters[PortCounter.rxPackets]).toBe(0);
  expect(sum(umem.counts())).toBe(64);
  forger.push(lies.length, 256, u64(2048n + 256n, 1792n)); // frame 1, to the last byte of its chunk
  expect(socket.exchange()).toBe(1);
  expect([socket.offset[0], socket.length[0]]).toEqual([2304, 1792]);
  socket.exchange();
  expect(sum(umem.counts())).toBe(64);
  forger.close();
  umem.close();
});

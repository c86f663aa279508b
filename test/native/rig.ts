/**
 * A network namespace with veth pairs for tests of the addon, in the test process itself (vitest's `forks` pool gives each
 * file its own process, and setns() is per thread: the main thread's children and workers follow it).
 *
 * The namespace's name is removed as soon as it is entered: it lives exactly as long as the processes inside it, so no way
 * of dying leaves anything behind.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  bpfObjectPath,
  native,
  type BpfLink,
  type BpfObject,
  type FrameCounts,
  type Umem,
  type XskOptions,
  type XskSocket,
} from '../../src/native.js';

/** A frame of 60 bytes, `tag` in its last byte: no IP, so that no stack answers it. */
export function frame(tag = 0, length = 60): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]); // 88b5: local experiments (IEEE 802)
  bytes[length - 1] = tag;
  return bytes;
}

export function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/**
 * Runs JavaScript in another Node inside this namespace, with `addon` defined; returns what it printed. `prefix` is a
 * command in front of node, for example prlimit or setpriv.
 */
export function child(script: string, flags: string[] = [], prefix: string[] = []): string {
  const addon = JSON.stringify(join(process.cwd(), 'build', 'Release', 'sluice.node'));
  const [command, ...args] = [...prefix, process.execPath, ...flags, '-e', `const addon = require(${addon});${script}`];
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: 20_000 });
  if (result.status !== 0) throw new Error(`exit ${result.status} ${result.signal}: ${result.stderr}`);
  return result.stdout.trim();
}

/** Without CAP_IPC_LOCK, and so many bytes of locked memory allowed: the kernel then accounts what a UMEM pins. */
export function lockedMemory(bytes: number): string[] {
  return ['prlimit', `--memlock=${bytes}:${bytes}`, 'setpriv', '--bounding-set=-ipc_lock', '--inh-caps=-ipc_lock'];
}

const cleanups: (() => void)[] = [];

/** Closes what tests opened and did not close themselves, latest first. For afterEach. */
export function closeAll(): void {
  for (const close of cleanups.splice(0).reverse()) close();
}

let entered = false;

/** Moves this thread into a new, nameless namespace; once a process. */
export function enterNamespace(): void {
  if (entered) return;
  entered = true;
  const name = `sxnat${process.pid}`;
  ip('netns', 'add', name);
  try {
    native().enterNetns(`/run/netns/${name}`);
  } finally {
    ip('netns', 'del', name);
  }
  // Neighbour discovery and router solicitations would mix with the frames that tests count.
  writeFileSync('/proc/sys/net/ipv6/conf/all/disable_ipv6', '1');
  writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
}

/** Two connected interfaces, both up, both with `queues` queues. */
export function veth(a: string, b: string, queues = 1): void {
  const q = ['numrxqueues', `${queues}`, 'numtxqueues', `${queues}`];
  ip('link', 'add', a, ...q, 'type', 'veth', 'peer', 'name', b, ...q);
  for (const name of [a, b]) ip('link', 'set', name, 'up');
}

/** Packets that an interface received and sent, from the kernel's own counters. */
export function packets(name: string): { rx: number; tx: number; rxDropped: number } {
  const line = readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .find((text) => text.trim().startsWith(`${name}:`));
  if (!line) throw new Error(`no interface ${name}`);
  const numbers = line.split(':')[1].trim().split(/\s+/).map(Number);
  return { rx: numbers[1], rxDropped: numbers[3], tx: numbers[9] };
}

/** The XDP redirect on an interface: queue → socket. Every frame goes to user space; without a socket, to the host. */
export class Redirect {
  private readonly object: BpfObject;
  private readonly link: BpfLink;

  constructor(interfaceName: string) {
    const addon = native();
    this.object = new addon.BpfObject(bpfObjectPath('redirect'));
    this.object.setRodata({ match_all: 2 });
    this.object.load();
    this.link = this.object.attachXdp('sluice_redirect', addon.linkInfo(interfaceName).ifindex, 'native');
    cleanups.push(() => this.close());
  }

  set(queue: number, socket: XskSocket): void {
    this.object
      .map('xsks_map')
      .update(new Uint8Array(Uint32Array.of(queue).buffer), new Uint8Array(Uint32Array.of(socket.fd).buffer));
  }

  close(): void {
    this.link.close();
    this.object.close();
  }
}

/** Sends frames out of an interface, from the kernel: a program that answers XDP_TX, run on live frames. */
export class Injector {
  private readonly object: BpfObject;

  constructor() {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-inject-'));
    try {
      const source = join(directory, 'inject.bpf.c');
      writeFileSync(
        source,
        '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n' +
          'SEC("xdp") int inject(struct xdp_md *ctx) { return XDP_TX; }\nchar LICENSE[] SEC("license") = "GPL";\n',
      );
      const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
      const output = join(directory, 'inject.bpf.o');
      execFileSync('clang', [
        '-O2', '-g', '-target', 'bpf', `-I/usr/include/${machine}-linux-gnu`, '-c', source, '-o', output,
      ]); // prettier-ignore
      this.object = new (native().BpfObject)(output);
      this.object.load();
    } finally {
      rmSync(directory, { recursive: true });
    }
  }

  /** `count` copies out of `interfaceName`; they arrive at its peer, which must have an XDP program. */
  send(interfaceName: string, data: Uint8Array, count = 1): void {
    const ifindex = native().linkInfo(interfaceName).ifindex;
    this.object.testRun('inject', {
      data,
      repeat: count,
      ifindex,
      queue: 0,
      liveFrames: true,
      batchSize: Math.min(count, 64),
    });
  }

  close(): void {
    this.object.close();
  }
}

/** Defaults that make a small UMEM and small rings, so that limits are reached. */
export function openSocket(umem: Umem, options: Partial<XskOptions> & { interface: string }): XskSocket {
  const socket = new (native().XskSocket)(umem, {
    queue: 0,
    mode: 'copy',
    index: 0,
    rxSize: 256,
    txSize: 256,
    fillSize: 256,
    completionSize: 256,
    ...options,
  });
  cleanups.push(() => socket.close());
  return socket;
}

export function sum(counts: FrameCounts): number {
  return counts.free + counts.fill + counts.rx + counts.tx + counts.held;
}

/** Milliseconds of sleep without an event loop turn: sockets are driven by hand in these tests. */
export function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Calls `step` until it returns true; throws after `timeoutMs`. */
export function until(what: string, step: () => boolean, timeoutMs = 15_000): void {
  const end = performance.now() + timeoutMs;
  while (!step()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    pause(1);
  }
}

/** Open descriptors of this process. */
export function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** AF_XDP rings mapped by this process. */
export function mappedRings(): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('socket:[')).length;
}

/**
 * The guest's NICs: two pairs, each a wire with the NIC under test at one end, and a far end that sends and receives for the tests
 * through an AF_XDP socket in copy mode. See ../machine.mjs.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { native, type Umem, type XskOptions, type XskSocket } from '../../../src/native.js';
import { Verdict } from '../../../src/dataplane/verdict.js';
import { closeAll, pause, Redirect, until } from '../../native/rig.js';

export interface Pair {
  driver: 'virtio_net' | 'igb';
  /** Interface under test. */
  near: string;
  far: string;
}

export const PAIRS: readonly Pair[] = [
  { driver: 'virtio_net', near: 'vnear', far: 'vfar' },
  { driver: 'igb', near: 'gnear', far: 'gfar' },
];

export function command(file: string, ...args: string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Hardware address of an end, as in ../machine.mjs: "02:00:00:00:01:02". */
export function hardwareAddress(name: string): string {
  const wire = PAIRS.findIndex(({ near, far }) => near === name || far === name) + 1;
  return `02:00:00:00:0${wire}:0${PAIRS[wire - 1].far === name ? 1 : 2}`;
}

/** Names the interfaces by their addresses and brings them up, with nothing of the host's own on the wires. */
export function nameInterfaces(): void {
  for (const scope of ['all', 'default']) writeFileSync(`/proc/sys/net/ipv6/conf/${scope}/disable_ipv6`, '1');
  const names = readdirSync('/sys/class/net');
  const byAddress = new Map(names.map((name) => [readFileSync(`/sys/class/net/${name}/address`, 'utf8').trim(), name]));
  command('ip', 'link', 'set', 'lo', 'up');
  for (const name of PAIRS.flatMap(({ near, far }) => [near, far])) {
    const found = byAddress.get(hardwareAddress(name));
    if (found === undefined) throw new Error(`no interface ${hardwareAddress(name)} among ${names.join(' ')}`);
    if (found !== name) command('ip', 'link', 'set', found, 'name', name);
  }
  setQueues('gnear', 1);
  for (const name of PAIRS.flatMap(({ near, far }) => [near, far])) command('ip', 'link', 'set', name, 'up');
}

/** Queues of a NIC, receiving and sending together. Refused while the kernel still takes a closed socket off the device. */
export function setQueues(name: string, count: number): void {
  until(`${count} queues of ${name}`, () => {
    if (native().linkInfo(name).rxQueues === count) return true;
    return spawnSync('ethtool', ['-L', name, 'combined', `${count}`]).status === 0;
  }, 20_000); // prettier-ignore
}

/** Waits for the carrier: igb resets its link when a program or a socket comes or goes. */
export function carrier(...names: string[]): void {
  for (const name of names) until(`carrier of ${name}`, () => native().linkInfo(name).running, 20_000);
}

/** A frame of `length` bytes from one end of a wire to the other; what is in it follows from `tag`. No IP, so that no stack answers it. */
export function frame(from: string, tag: number, length = 60): Uint8Array {
  const { near, far } = PAIRS.find((pair) => pair.near === from || pair.far === from)!;
  const bytes = new Uint8Array(length);
  for (let i = 18; i < length; i++) bytes[i] = Math.imul(tag + 1, i) >>> 3;
  bytes.set(Buffer.from(hardwareAddress(from === near ? far : near).replaceAll(':', ''), 'hex'), 0);
  bytes.set(Buffer.from(hardwareAddress(from).replaceAll(':', ''), 'hex'), 6);
  new DataView(bytes.buffer).setUint16(12, 0x88b5); // local experiments (IEEE 802)
  new DataView(bytes.buffer).setUint32(14, tag);
  return bytes;
}

/** The `tag` of a frame. */
export function tagOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(14);
}

const closers: (() => void)[] = [];

/** Ends what a test has opened, latest first. */
export function release(): void {
  for (const close of closers.splice(0).reverse()) close();
  closeAll();
}

export function atEnd(close: () => void): void {
  closers.push(close);
}

/** Packet memory that ends with the test, and its sockets with it. Frames of 4096 bytes: with 2048, igb cuts packets. */
export function memory(frameCount: number, chunkSize: 2048 | 4096 = 4096): Umem {
  const umem = new (native().Umem)({ frameCount, chunkSize });
  atEnd(() => umem.close());
  return umem;
}

/** A socket on a NIC under test, zero-copy or it throws, that gets all that arrives. */
export function openNear(umem: Umem, name: string, options: Partial<XskOptions> = {}): XskSocket {
  return new (native().XskSocket)(umem, { interface: name, queue: 0, mode: 'zero-copy', index: 0, ...options });
}

/** Bytes of the packet in `slot` of the burst in hand. */
export function packet(umem: Umem, socket: XskSocket, slot: number): Uint8Array {
  return new Uint8Array(umem.buffer).slice(socket.offset[slot], socket.offset[slot] + socket.length[slot]);
}

/** The far end of a pair. Everything that arrives there is taken from the wire and kept. */
export class Far {
  private readonly received: Uint8Array[] = [];
  private readonly umem: Umem;
  private readonly socket: XskSocket;

  constructor(private readonly name: string) {
    const redirect = new Redirect(name);
    this.umem = memory(2048);
    this.socket = new (native().XskSocket)(this.umem, { interface: name, queue: 0, mode: 'copy', index: 0 });
    redirect.set(0, this.socket);
    this.turn();
  }

  /** Sends as many of `frames` as there is room for, at most 32, and takes what has arrived. Returns how many it sent. */
  private turn(frames: readonly Uint8Array[] = []): number {
    const { socket } = this;
    const bytes = new Uint8Array(this.umem.buffer);
    const first = socket.header[0];
    const count = frames.length > 0 ? socket.compose(Math.min(frames.length, 32)) : 0;
    for (let i = 0; i < count; i++) {
      bytes.set(frames[i], socket.offset[first + i]);
      socket.length[first + i] = frames[i].length;
      socket.verdict[first + i] = Verdict.Tx;
    }
    const arrived = socket.exchange();
    for (let i = 0; i < arrived; i++) this.received.push(packet(this.umem, socket, i));
    return count;
  }

  /** Hands `frames`, at most 32, to the NIC; whether they leave is not waited for. */
  push(frames: readonly Uint8Array[]): void {
    if (this.turn(frames) !== frames.length) throw new Error(`${this.name}: no room to send`);
    this.turn();
  }

  /** Sends all of `frames` in portions that a NIC's ring holds; `meanwhile` runs after each. Waits until all have left. */
  send(frames: readonly Uint8Array[], meanwhile: () => void = () => undefined): void {
    for (let sent = 0; sent < frames.length; meanwhile()) sent += this.turn(frames.slice(sent, sent + 32));
    until(`${this.name} sends`, () => (this.turn(), meanwhile(), this.umem.counts().tx === 0), 10_000);
  }

  /** What has arrived and was not taken yet. */
  take(): Uint8Array[] {
    this.turn();
    return this.received.splice(0);
  }

  /** The next `count` packets that arrive; throws when they do not within `timeoutMs`. `meanwhile` runs in between. */
  expect(count: number, meanwhile: () => void = () => undefined, timeoutMs = 10_000): Uint8Array[] {
    const got: Uint8Array[] = [];
    try {
      until('', () => (meanwhile(), got.push(...this.take()), got.length >= count), timeoutMs);
    } catch {
      throw new Error(`${this.name}: ${got.length} of ${count} packets within ${timeoutMs} ms`);
    }
    return got;
  }

  /** Throws when anything arrives within `ms`. */
  expectNothing(ms: number): void {
    pause(ms);
    const got = this.take();
    if (got.length > 0) throw new Error(`${this.name}: ${got.length} packets that should not be there`);
  }
}

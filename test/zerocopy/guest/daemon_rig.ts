/** `sluice run` in the guest: packets for a VIP come in by virtio_net and leave by igb, both zero-copy. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { callControl } from '../../../src/control/api/client.js';
import type { Status } from '../../../src/control/api/contract.js';
import { compiledProgram } from '../../../src/playground/process.js';
import { PacketBuilder, internetChecksum } from '../../support/packet_builder.js';
import { carrier, command, Far, hardwareAddress } from './pairs.js';

export const VIP = '198.51.100.10';
export const PORT = 5000;
export const CLIENT = '10.90.0.1';
/** The node's addresses: on vnear, and on gnear where it is the outer source. */
export const NODE = '10.90.0.2';
const NODE_OUT = '10.91.0.2';
const BACKEND = '10.91.0.11';

const DIRECTORY = '/run/sluice-zerocopy';
const SOCKET = `${DIRECTORY}/control.sock`;

/** A filter that ends its worker's thread for a datagram to port 5001, and lets all others go on. */
const DEADLY = `
export default {
  name: 'deadly',
  create: () => (packet) => {
    if (packet.destinationPort === ${PORT + 1}) process.exit(9);
    return -1;
  },
};
`;

/** Addresses and neighbours; nothing on the wires would answer ARP. */
export function configureNetwork(): void {
  command('ip', 'address', 'replace', `${NODE}/24`, 'dev', 'vnear');
  command('ip', 'address', 'replace', `${NODE_OUT}/24`, 'dev', 'gnear');
  for (const [address, device, far] of [[CLIENT, 'vnear', 'vfar'], [BACKEND, 'gnear', 'gfar']]) {
    command('ip', 'neigh', 'replace', address, 'lladdr', hardwareAddress(far), 'dev', device, 'nud', 'permanent');
  } // prettier-ignore
}

function configuration(parts: object): object {
  const service = { protocol: 'udp', vip: VIP, backends: [{ address: BACKEND }] };
  return {
    interfaces: ['vnear', 'gnear'].map((name) => ({ name, mode: 'zero-copy' })),
    frames: { count: 4096, size: 4096, ring: 1024 },
    flows: { slots: 16384 },
    services: [
      { name: 'web', port: PORT, ...service },
      { name: 'deadly', port: PORT + 1, ...service },
    ],
    control: { socket: SOCKET },
    log: { level: 'info', format: 'json' },
    ...parts,
  };
}

const children: ChildProcess[] = [];

/** Ends those that a failed test has left. */
export function killDaemons(): void {
  for (const child of children) child.kill('SIGKILL');
}

export class Daemon {
  readonly said: string[] = [];
  /** The far ends, of the test that runs; see connect(). */
  client!: Far;
  backend!: Far;
  private readonly child: ChildProcess;

  private constructor(config: object) {
    mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
    writeFileSync(`${DIRECTORY}/deadly.mjs`, DEADLY);
    writeFileSync(`${DIRECTORY}/sluice.yaml`, JSON.stringify(config)); // which is YAML, too
    const main = compiledProgram('cli/main');
    this.child = spawn(process.execPath, [main, 'run', '-c', `${DIRECTORY}/sluice.yaml`], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    createInterface(this.child.stderr!).on('line', (line) => this.said.push(line));
    children.push(this.child);
  }

  /** Starts it and waits until it is ready. */
  static async start({ deadly = false, ...parts }: { deadly?: boolean; flow_offload?: string } = {}): Promise<Daemon> {
    configureNetwork();
    const filters = deadly ? { filters: [{ module: `${DIRECTORY}/deadly.mjs` }] } : {};
    const daemon = new Daemon(configuration({ ...filters, ...parts }));
    await daemon.until((status) => status.ready, 'it is ready');
    return daemon;
  }

  /** Opens the far ends for the test that runs. */
  connect(): void {
    this.client = new Far('vfar');
    this.backend = new Far('gfar');
    carrier('vnear', 'vfar', 'gnear', 'gfar');
  }

  async until(wanted: (status: Status) => boolean, what: string, timeoutMs = 150_000): Promise<Status> {
    const end = performance.now() + timeoutMs;
    let last: Status | undefined;
    for (;;) {
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`sluice ended before ${what}:\n${this.said.join('\n')}`);
      }
      try {
        last = await callControl(SOCKET, 'status', {}, 20_000);
        if (wanted(last)) return last;
      } catch (error) {
        if ((error as { code?: string }).code !== 'SLUICE_CONTROL') throw error;
      }
      if (performance.now() > end) {
        throw new Error(
          `not within ${timeoutMs} ms: ${what}\n${JSON.stringify(last)}\n${this.said.slice(-10).join('\n')}`,
        );
      }
      await sleep(50);
    }
  }

  status(): Promise<Status> {
    return callControl(SOCKET, 'status', {}, 20_000);
  }

  /** SIGTERM; it must end in order, with every frame where it belongs. */
  async stop(): Promise<void> {
    this.child.kill('SIGTERM');
    const [code] = (await once(this.child, 'exit')) as [number | null];
    assert.equal(code, 0, this.said.slice(-5).join('\n'));
    assert.deepEqual(this.said.filter((line) => line.includes('frames are missing')), []); // prettier-ignore
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await once(this.child, 'exit');
  }

  /** Sends datagrams of many flows and sizes to the VIP, and checks each as it comes to the backend, byte by byte. */
  async carries(first: number, count: number): Promise<void> {
    const sent = Array.from({ length: count }, (_, i) => datagram(first + i));
    const wanted = new Map(sent.map((one) => [key(one.subarray(14)), one]));
    this.client.send(sent);
    const got: Uint8Array[] = [];
    for (const end = performance.now() + 20_000; got.length < count && performance.now() < end; await sleep(10)) {
      got.push(...this.backend.take());
    }
    assert.equal(got.length, count, `packets at the backend: ${got.length} of ${count}`);
    for (const one of got) {
      const inner = one.subarray(34);
      const original = wanted.get(key(inner));
      assert.ok(original, 'a packet that was not sent, or a second time');
      wanted.delete(key(inner));
      assert.deepEqual(inner, original.subarray(14));
      checkOuter(one);
    }
  }
}

const key = (ip: Uint8Array) => Buffer.from(ip.subarray(0, 32)).toString('hex');

/** Datagram `i` of a load: 16 flows, 46 to 1400 bytes. */
function datagram(i: number, port = PORT): Uint8Array {
  const payload = Uint8Array.from({ length: 18 + ((i * 131) % 1354) }, (_, at) => Math.imul(i + 3, at) >>> 2);
  new DataView(payload.buffer).setUint32(0, i);
  return new PacketBuilder()
    .ethernet({ src: hardwareAddress('vfar'), dst: hardwareAddress('vnear') })
    .ipv4({ src: CLIENT, dst: VIP, id: i & 0xffff })
    .udp({ sport: 40000 + (i % 16), dport: port })
    .payload(payload)
    .build();
}

/** The datagram that ends a worker of a daemon with `deadly`. */
export function deadlyDatagram(): Uint8Array {
  return datagram(0, PORT + 1);
}

/** Ethernet and the outer IPv4 header of what goes to the backend (RFC 2003). */
function checkOuter(one: Uint8Array): void {
  const hex = (from: number, to: number) => Buffer.from(one.subarray(from, to)).toString('hex');
  const mac = (name: string) => hardwareAddress(name).replaceAll(':', '');
  assert.equal(hex(0, 14), `${mac('gfar')}${mac('gnear')}0800`);
  const view = new DataView(one.buffer, one.byteOffset, one.length);
  assert.deepEqual([view.getUint8(14), view.getUint8(23)], [0x45, 4], 'IPv4 with IP in it');
  assert.equal(view.getUint16(16), one.length - 14);
  assert.equal(internetChecksum(one.subarray(14, 34)), 0, 'its checksum');
  assert.deepEqual([[...one.subarray(26, 30)].join('.'), [...one.subarray(30, 34)].join('.')], [NODE_OUT, BACKEND]);
}

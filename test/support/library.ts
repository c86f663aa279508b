/**
 * Programs that use the library, in a namespace between two others, each line of their output a JSON value.
 *
 *     left 10.98.0.1 ── veth0 10.98.0.2  node  10.98.1.2 veth1 ── 10.98.1.1 right
 *
 * Everything ends with the test.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL, fileURLToPath } from 'node:url';
import { packageRoot } from '../../src/native.js';
import type { Namespace, Playground } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { testPlayground } from './netns.js';

export const NODE = '10.98.0.2';
export const LEFT = '10.98.0.1';

const index = pathToFileURL(join(packageRoot, 'dist', 'index.js')).href;

/** In front of every program: the library, say() for the test, and told() for what the test says. */
const PRELUDE = `
import * as sluice from '${index}';
import { createInterface } from 'node:readline';
import { parentPort, isMainThread, workerData, Worker } from 'node:worker_threads';
import { readdirSync, readFileSync } from 'node:fs';
import { native } from '${pathToFileURL(join(packageRoot, 'dist', 'native.js')).href}';
const { openPort, attach, turnAround, repairChecksum, Verdict, IpProtocol } = sluice;
const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n');
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** What an error shows. */
const shown = (error) => ({ name: error.name, code: error.code, message: error.message, remedy: error.remedy });
const failing = async (work) => { try { await work(); return null; } catch (error) { return shown(error); } };
/** The XDP program on an interface, and TAP devices of a host path. */
const attached = (name) => native().queryXdp(native().linkInfo(name).ifindex)?.programName ?? null;
const taps = () => readdirSync('/sys/class/net').filter((name) => name.startsWith('slh'));
const lines = isMainThread ? createInterface({ input: process.stdin }) : null;
const told = () => new Promise((resolve) => lines.once('line', resolve));
/** Aborted by the next line, or when the test ends. */
const untilTold = () => { const stop = new AbortController(); void told().then(() => stop.abort()); return stop; };
/** Aborted by the next line, once nothing has come for a tenth of a second: what was sent before the line may be on its way. */
const untilQuiet = (port) => {
  const stop = new AbortController();
  void told().then(async () => {
    for (let seen = -1; seen !== port.totals().rx;) { seen = port.totals().rx; await later(100); }
    stop.abort();
  });
  return stop;
};
`;

/** Its standard input would keep it. */
const POSTLUDE = 'if (isMainThread) process.exit(0);';

export interface NetOptions {
  /** Queues of the left pair; default 1. */
  queues?: number;
  right?: boolean;
}

export class Net {
  readonly playground: Playground = testPlayground();
  readonly left: Namespace;
  readonly node: Namespace;
  readonly right: Namespace | null = null;
  private programs = 0;

  constructor({ queues = 1, right = false }: NetOptions = {}) {
    this.left = this.namespace('left');
    this.node = this.namespace('node');
    this.connect(queues);
    if (!right) return;
    this.right = this.namespace('right');
    this.playground.veth({ namespace: this.right, name: 'eth0' }, { namespace: this.node, name: 'veth1' });
    this.right.ip('link set eth0 address 02:00:00:00:98:11 up', 'address add 10.98.1.1/24 dev eth0');
    this.node.ip('link set veth1 address 02:00:00:00:98:12 up', 'address add 10.98.1.2/24 dev veth1');
  }

  /** Without IPv6: its solicitations would be among the packets that tests count. */
  private namespace(role: string): Namespace {
    const namespace = this.playground.namespace(role);
    namespace.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1, 'net/ipv6/conf/default/disable_ipv6': 1 });
    return namespace;
  }

  /** The left pair; again after a test has deleted it. Neighbours are fixed, so that no ARP is needed. */
  connect(queues = 1): void {
    // A veth hands a packet to the queue of the number that it left by.
    this.playground.veth(
      { namespace: this.left, name: 'eth0', queues },
      { namespace: this.node, name: 'veth0', queues },
    );
    this.left.ip(
      'link set eth0 address 02:00:00:00:98:01 up',
      `address add ${LEFT}/24 dev eth0`,
      `neighbour replace ${NODE} lladdr 02:00:00:00:98:02 dev eth0`,
    );
    this.node.ip(
      'link set veth0 address 02:00:00:00:98:02 up',
      `address add ${NODE}/24 dev veth0`,
      `neighbour replace ${LEFT} lladdr 02:00:00:00:98:01 dev veth0`,
    );
  }

  /** Starts a program inside the node. `script` is the body of an ES module behind the prelude. */
  run(script: string, prefix: string[] = []): Program {
    const file = this.playground.path(`program${this.programs++}.mjs`);
    writeFileSync(file, `${PRELUDE}${script}\n${POSTLUDE}`);
    return this.start([...prefix, process.execPath, file]);
  }

  start(command: string[], env?: NodeJS.ProcessEnv): Program {
    const [file, ...args] = command;
    return new Program(this.playground.start(this.node, file, args, { label: 'library program', env }));
  }

  /** Sends datagrams from the left to the node, and waits for answers. */
  udp(options: Partial<UdpOptions> & { port: number }): UdpResult {
    const file = fileURLToPath(new URL('udp_client.mjs', import.meta.url));
    const text = JSON.stringify({ address: NODE, packets: 10, bytes: 20, sockets: 1, waitMs: 0, ...options });
    return JSON.parse(this.left.exec(process.execPath, file, text)) as UdpResult;
  }
}

export interface UdpOptions {
  address: string;
  port: number;
  packets: number;
  /** Payload. */
  bytes: number;
  /** Source ports to send from, in turn. */
  sockets: number;
  /** How long to wait for answers after the last packet, ms; ends early when all are answered. */
  waitMs: number;
}

export interface UdpResult {
  sent: number;
  /** Answers with the payload of a datagram that was sent. */
  answered: number;
}

/** A running program and what it says. */
export class Program {
  private readonly said: unknown[] = [];
  private wake: () => void = () => undefined;
  /** Its stderr, by the line. */
  readonly complaints: string[] = [];

  constructor(readonly child: ChildProgram) {
    child.on('line', (line) => {
      this.said.push(JSON.parse(line));
      this.wake();
    });
    child.on('errorLine', (line) => this.complaints.push(line));
    void child.ended.then(() => this.wake());
  }

  /** The next value that it says. Throws with its stderr when it ends first, or says nothing for 20 s. */
  async next<T = unknown>(): Promise<T> {
    const deadline = performance.now() + 20_000;
    for (;;) {
      if (this.said.length > 0) return this.said.shift() as T;
      if (!this.child.running || performance.now() > deadline) {
        throw new Error(`the program said nothing more:\n${this.complaints.join('\n')}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  tell(word: string): void {
    this.child.send(word);
  }

  /** Its exit code. */
  async end(): Promise<number | null> {
    return (await this.child.ended).code;
  }
}

/**
 * The whole daemon under test: `sluice run` in a namespace, with a config of the test's own, between a client and, where a
 * test needs one, a backend.
 *
 *     client 10.90.0.1 ── in0 10.90.0.2  node  10.91.0.2 out0 ── 10.91.0.11 backend
 *
 * Everything ends with the test.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { callControl } from '../../src/control/api/client.js';
import type { BackendChange, ReloadResult, Status, StatusInterface } from '../../src/control/api/contract.js';
import { SluiceError } from '../../src/errors.js';
import type { Namespace, Playground } from '../../src/playground/netns.js';
import { compiledProgram, parseLine, type ChildProgram, type ProcessExit } from '../../src/playground/process.js';
import { testPlayground } from './netns.js';

export const CLIENT = '10.90.0.1';
export const NODE = '10.90.0.2';
export const BACKEND = '10.91.0.11';
/** Outer source of what the node sends to the backend. */
export const NODE_OUT = '10.91.0.2';
export const VIP = '198.51.100.10';
export const UDP_PORT = 5000;

export interface WireOptions {
  /** RX and TX queues of both ends of each veth pair; default 1: the sender's end picks the queue, by flow. */
  queues?: number;
  /** Queues of the backend's pair; default: as many. */
  backendQueues?: number;
  backend?: boolean;
}

/** The namespaces and what connects them. */
export class Wire {
  readonly playground: Playground = testPlayground();
  readonly client: Namespace;
  readonly node: Namespace;
  readonly backend: Namespace | null;

  constructor(private readonly options: WireOptions = {}) {
    this.client = this.namespace('client');
    this.node = this.namespace('node');
    this.node.sysctl({ 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/default/rp_filter': 0 });
    this.connect();
    this.backend = options.backend ? this.addBackend() : null;
  }

  /** Without IPv6: its solicitations would be among the packets that tests count. */
  private namespace(role: string): Namespace {
    const namespace = this.playground.namespace(role);
    namespace.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1, 'net/ipv6/conf/default/disable_ipv6': 1 });
    return namespace;
  }

  /** The client's veth pair; again after the test has deleted it. Addresses are fixed: no test depends on ARP by accident. */
  connect(): void {
    const { queues = 1 } = this.options;
    this.playground.veth(
      { namespace: this.client, name: 'eth0', queues },
      { namespace: this.node, name: 'in0', queues },
    );
    this.client.ip(
      'link set eth0 address 02:00:00:00:90:01 up',
      `address add ${CLIENT}/24 dev eth0`,
      `route add ${VIP}/32 via ${NODE}`,
    );
    this.node.ip('link set in0 address 02:00:00:00:90:02 up', `address add ${NODE}/24 dev in0`);
  }

  private addBackend(): Namespace {
    const backend = this.namespace('backend');
    backend.sysctl({ 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/default/rp_filter': 0 });
    const queues = this.options.backendQueues ?? this.options.queues ?? 1;
    this.playground.veth(
      { namespace: backend, name: 'eth0', queues },
      { namespace: this.node, name: 'out0', queues, mtu: 1520 },
    );
    backend.ip(
      'link set eth0 up',
      `address add ${BACKEND}/24 dev eth0`,
      `address add ${VIP}/32 dev lo`,
      `route add 10.90.0.0/24 via ${NODE_OUT}`,
    );
    this.node.ip('link set out0 up', `address add ${NODE_OUT}/24 dev out0`);
    return backend;
  }

  /** Numbered datagrams from the client to the VIP; resolves once they begin. */
  async send(options: Partial<SendOptions> = {}): Promise<Sender> {
    const program = this.udp(this.client, {
      role: 'send',
      address: VIP,
      port: UDP_PORT,
      flows: 8,
      packets: 0,
      ratePerSecond: 3000,
      ...options,
    });
    await program.message<{ type: string }>((message) => message.type === 'ready', 20_000);
    return new Sender(program);
  }

  /** The backend's end: takes the outer header off and checks the numbers. */
  async receive(): Promise<Receiver> {
    const program = this.udp(this.backend!, {
      role: 'receive',
      address: VIP,
      port: UDP_PORT,
      decap: { interface: 'eth0', destinations: [BACKEND], sources: [NODE_OUT] },
    });
    await program.message<{ type: string }>((message) => message.type === 'ready', 20_000);
    return new Receiver(program);
  }

  private udp(namespace: Namespace, options: object): ChildProgram {
    const file = fileURLToPath(new URL('udp_sequence.mjs', import.meta.url));
    return this.playground.start(namespace, process.execPath, [file, JSON.stringify(options)], { label: 'udp' });
  }
}

export interface SendOptions {
  address: string;
  port: number;
  /** Sockets, each a flow. */
  flows: number;
  /** 0: until stopped. */
  packets: number;
  ratePerSecond: number;
  bytes: number;
}

export class Sender {
  private readonly result: Promise<{ sent: number }>;

  constructor(readonly program: ChildProgram) {
    this.result = program.message<{ type: string; sent: number }>((message) => message.type === 'result', 90_000);
    this.result.catch(() => undefined);
  }

  /** Number of datagrams that the client's kernel took, when all are sent. */
  async sent(): Promise<number> {
    return (await this.result).sent;
  }

  stop(): Promise<number> {
    this.program.send({ op: 'stop' });
    return this.sent();
  }
}

export interface Received {
  received: number;
  /** Came after a later one of their flow, duplicates included. */
  reordered: number;
  /** Numbers that were skipped. */
  gaps: number;
  /** By the kernel's count: to a socket, lost for want of room in a socket's buffer, with a wrong checksum. */
  delivered: number;
  noRoom: number;
  badChecksum: number;
  decap: Record<string, number>;
}

export class Receiver {
  constructor(readonly program: ChildProgram) {}

  stats(): Promise<Received> {
    const answer = this.program.message<Received & { type: string }>((message) => message.type === 'stats', 5000);
    this.program.send({ op: 'stats' });
    return answer;
  }
}

export type ConfigDocument = Record<string, unknown>;

/** A small configuration that serves the VIP; `parts` replace its top-level keys. */
export function daemonConfig(wire: Wire, parts: ConfigDocument = {}): ConfigDocument {
  return {
    interfaces: wire.backend ? [{ name: 'in0' }, { name: 'out0' }] : [{ name: 'in0' }],
    // Room for what arrives while a worker does not get the CPU: 8192 packets are 2.7 s of the usual 3000 a second.
    frames: { count: 24576, ring: 8192 },
    flows: { slots: 16384 },
    services: [
      {
        name: 'udp',
        vip: VIP,
        protocol: 'udp',
        port: UDP_PORT,
        backends: wire.backend ? [{ address: BACKEND }] : [],
      },
    ],
    metrics: { listen: '127.0.0.1:9477' },
    control: { socket: wire.playground.path('control.sock') },
    log: { level: 'info', format: 'json' },
    ...parts,
  };
}

export interface LogLine {
  level: string;
  time: number;
  msg: string;
  [field: string]: unknown;
}

export interface StartOptions {
  /** A command in front of the program, for example prlimit or setpriv. */
  prefix?: string[];
  /** Tells daemons of one test apart. */
  name?: string;
}

/** One `sluice run`. */
export class TestDaemon {
  readonly log: LogLine[] = [];
  /** Lines of stderr that are not the log's: what it says when it does not start. */
  readonly said: string[] = [];
  /** Monotonic ms of the moment it was started. */
  readonly startedMs = performance.now();
  private readonly program: ChildProgram;

  private constructor(
    readonly wire: Wire,
    readonly configPath: string,
    readonly socket: string,
    prefix: string[],
  ) {
    const [command, ...args] = [...prefix, process.execPath, compiledProgram('cli/main'), 'run', '-c', configPath];
    this.program = wire.playground.start(wire.node, command, args, { label: 'sluice run' });
    this.program.on('errorLine', (line) => {
      const object = parseLine(line);
      if (object) this.log.push(object as LogLine);
      else this.said.push(line);
    });
  }

  /** Writes the config and starts; does not wait. */
  static spawn(wire: Wire, config: ConfigDocument | string, options: StartOptions = {}): TestDaemon {
    const path = wire.playground.path(`${options.name ?? 'sluice'}.yaml`);
    const text = typeof config === 'string' ? config : stringify(config, { aliasDuplicateObjects: false });
    writeFileSync(path, text);
    const socket =
      typeof config === 'string' ? wire.playground.path('control.sock') : (config.control as { socket: string }).socket;
    return new TestDaemon(wire, path, socket, options.prefix ?? []);
  }

  /** Starts and waits until it is ready. */
  static async start(wire: Wire, config: ConfigDocument, options: StartOptions = {}): Promise<TestDaemon> {
    const daemon = TestDaemon.spawn(wire, config, options);
    await daemon.ready();
    return daemon;
  }

  /** Starts what must not start, and waits for its end. */
  static async fails(
    wire: Wire,
    config: ConfigDocument | string,
    options: StartOptions = {},
  ): Promise<{ code: number | null; said: string }> {
    const daemon = TestDaemon.spawn(wire, config, options);
    const exit = await daemon.ended;
    return { code: exit.code, said: daemon.said.join('\n') };
  }

  get pid(): number {
    return this.program.pid!;
  }

  get running(): boolean {
    return this.program.running;
  }

  get ended(): Promise<ProcessExit> {
    return this.program.ended;
  }

  configure(config: ConfigDocument | string): void {
    writeFileSync(
      this.configPath,
      typeof config === 'string' ? config : stringify(config, { aliasDuplicateObjects: false }),
    );
  }

  status(): Promise<Status> {
    return callControl(this.socket, 'status', {}, 10_000);
  }

  reload(): Promise<ReloadResult> {
    return callControl(this.socket, 'reload', {}, 30_000);
  }

  setBackend(change: BackendChange, service = 'udp', backend = BACKEND) {
    return callControl(this.socket, 'backend.set', { service, backend, ...change }, 10_000);
  }

  /** Resolves once ready with all next hops known. Throws with its log when it ends or takes longer than 20 s. */
  async ready(): Promise<Status> {
    return this.until((status) => {
      const backends = status.services.flatMap((service) => service.backends);
      return status.ready && backends.every((backend) => backend.nextHop !== null);
    }, 'it is ready');
  }

  /** Polls the status until `wanted` holds. */
  async until(wanted: (status: Status) => boolean, what: string, timeoutMs = 20_000): Promise<Status> {
    const deadline = performance.now() + timeoutMs;
    let last: Status | undefined;
    for (;;) {
      if (!this.running) throw new Error(`sluice ended before ${what}:\n${this.tail()}`);
      try {
        last = await this.status();
        if (wanted(last)) return last;
      } catch (error) {
        if (!(error instanceof SluiceError) || error.code !== 'SLUICE_CONTROL') throw error;
      }
      if (performance.now() > deadline) {
        throw new Error(`not within ${timeoutMs} ms: ${what}\n${JSON.stringify(last, null, 1)}\n${this.tail()}`);
      }
      await pause(20);
    }
  }

  /** The log lines with this message. */
  logged(message: string): LogLine[] {
    return this.log.filter((line) => line.msg === message);
  }

  tail(): string {
    return [...this.log.slice(-15).map((line) => JSON.stringify(line)), ...this.said.slice(-10)].join('\n');
  }

  signal(name: NodeJS.Signals): void {
    this.program.kill(name);
  }

  /** SIGTERM, and its orderly end. */
  async stop(): Promise<ProcessExit> {
    return this.program.stop(15_000);
  }

  async killHard(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended;
  }

  /** A page of its HTTP server, asked inside the namespace. */
  metrics(path = '/metrics'): { status: number; body: string; ms: number } {
    const begin = performance.now();
    const text = this.wire.node.exec('curl', '-s', '-m', '10', '-w', '\n%{http_code}', `http://127.0.0.1:9477${path}`);
    const end = text.lastIndexOf('\n');
    return { status: Number(text.slice(end + 1)), body: text.slice(0, end), ms: performance.now() - begin };
  }

  /** The command line, as an operator in another terminal. */
  cli(...args: string[]): { code: number | null; stdout: string; stderr: string } {
    const result = spawnSync(process.execPath, [compiledProgram('cli/main'), ...args, '--socket', this.socket], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    return { code: result.status, stdout: result.stdout, stderr: result.stderr };
  }
}

/** Value of a metric by its whole name with labels. */
export function metric(body: string, name: string): number {
  const line = body.split('\n').find((text) => text.startsWith(`${name} `));
  if (!line) throw new Error(`no metric ${name}`);
  return Number(line.slice(name.length + 1));
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What a process holds, from /proc. */
export function footprint(pid: number): { fds: number; threads: number; rssKb: number; bpf: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)![1]);
  const fds = readdirSync(`/proc/${pid}/fd`);
  return { fds: fds.length, threads: field('Threads'), rssKb: field('VmRSS'), bpf: bpfIdsOf(pid).length };
}

/** Ids of the BPF objects that a process holds, as "prog 12", "map 7", "link 3". */
export function bpfIdsOf(pid: number): string[] {
  const ids = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    try {
      const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
      // A link's entry names its program too.
      for (const [, kind, id] of text.matchAll(/^(prog|map|link)_id:\s+(\d+)/gm)) ids.add(`${kind} ${id}`);
    } catch {
      // Closed since the directory was read.
    }
  }
  return [...ids].sort();
}

/** CPU time that a process has used, all threads, ms. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // utime and stime, in ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

interface XdpOnLink {
  xdp?: { prog?: { id: number; name?: string } };
}

/** Id of the XDP program on an interface, from the kernel; null when there is none. */
export function xdpProgram(namespace: Namespace, name = 'in0'): number | null {
  const [link] = namespace.query<XdpOnLink[]>('link', 'show', name);
  return link?.xdp?.prog?.id ?? null;
}

/** Ids of all BPF objects on the machine, as `bpfIdsOf` writes them. */
export function bpfObjects(): string[] {
  return ['prog', 'map', 'link'].flatMap((kind) => {
    const { stdout } = spawnSync('bpftool', ['-j', kind, 'show'], { encoding: 'utf8' });
    return (JSON.parse(stdout || '[]') as { id: number }[]).map(({ id }) => `${kind} ${id}`);
  });
}

export function interfaceOf(status: Status, name = 'in0'): StatusInterface {
  return status.interfaces.find((entry) => entry.name === name)!;
}

/** Packets that user space or the kernel lost, by the status's own account. */
export function lost(status: Status): number {
  return status.workers.reduce((sum, worker) => sum + worker.kernelLost, 0);
}

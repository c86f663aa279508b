/**
 * The network around a daemon under test, and traffic through it.
 *
 *     client 10.90.0.1 ── in0 10.90.0.2  node  10.91.0.2 out0 ── 10.91.0.11 backend
 */
import { fileURLToPath } from 'node:url';
import type { Namespace, Playground } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
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
  async send(options: Partial<SendOptions> = {}, from: Namespace = this.client): Promise<Sender> {
    const program = this.udp(from, {
      role: 'send',
      address: VIP,
      port: UDP_PORT,
      flows: 8,
      packets: 0,
      ratePerSecond: 3000,
      ...options,
    });
    // Listens for the result from now on: a short load is over with the line that says it has begun.
    const sender = new Sender(program);
    await program.message<{ type: string }>((message) => message.type === 'ready', 20_000);
    return sender;
  }

  /** The backend's end: takes the outer header off and checks the numbers. */
  async receive(): Promise<Receiver> {
    const program = this.udp(this.backend!, {
      role: 'receive',
      address: VIP,
      port: UDP_PORT,
      decap: { interfaces: ['eth0'], destinations: [BACKEND], sources: [NODE_OUT] },
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
  /** Default: the namespace's own. */
  source: string;
  /** For `times`. */
  times: boolean;
}

export class Sender {
  private readonly result: Promise<{ sent: number; times?: number[] }>;

  constructor(readonly program: ChildProgram) {
    this.result = program.message<{ type: string; sent: number; times?: number[] }>(
      (message) => message.type === 'result',
      90_000,
    );
    this.result.catch(() => undefined);
  }

  /** Number of datagrams that the client's kernel took, when all are sent. */
  async sent(): Promise<number> {
    return (await this.result).sent;
  }

  /** When they were sent, when all are: ms since the beginning and number of datagrams, in turn. */
  async times(): Promise<number[]> {
    return (await this.result).times ?? [];
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

/**
 * Where round trips are timed: two ends (bench/reference/pingpong.c) and the generator on CPU 0, what forwards in user space on CPU 1.
 *
 *     gen g0 ── d0 node d1 ── s0 sink        by way of the node
 *         g1 ────────────────── s1           direct
 *
 * Both ends of the way have one hardware address: jobs that swap addresses, and routing, both bring packets there. A sieve at s0 drops the load, where it is counted.
 */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LoadResult } from '../../src/generator/engine.js';
import { packageRoot } from '../../src/native.js';
import type { Playground } from '../../src/playground/netns.js';
import { type Namespace } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { PORT, VIP } from '../pps/cases.js';
import type { SenderRequest } from '../pps/sender.js';
import { ChildError } from '../process.js';
import { attach, quiet, ready, START_MS, startRig } from '../rig.js';
import type { LatencyCase, Protocol } from './cases.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const END = '02:00:00:00:03:0e';
const DIRECT = { g1: '02:00:00:00:03:01', s1: '02:00:00:00:03:02' };
const NODE = { d0: '02:00:00:00:03:03', d1: '02:00:00:00:03:04' };
const NETWORK = { way: '10.66.0.', direct: '10.67.0.' };
const ECHO_PORT = 7007;
/** Longest time until no more packets come after a load. */
const SETTLE_MS = 5000;
/** Loads are stopped, not timed; this is for one whose end was forgotten. */
const LOAD_MS = 120_000;

/** As pingpong.c says it: times in ns. */
export interface RoundTrips {
  count: number;
  lost: number;
  p50: number;
  p99: number;
  p999: number;
  max: number;
}

export class LatencyRig {
  private constructor(
    private readonly playground: Playground,
    private readonly gen: Namespace,
    private readonly node: Namespace,
    private readonly sink: Namespace,
    private readonly sender: ChildProgram,
    private readonly kernel: ChildProgram,
  ) {}

  /** @throws ChildError where there is no root, or one CPU */
  static start(): Promise<LatencyRig> {
    return startRig('latency', 2, (playground) => LatencyRig.build(playground));
  }

  private static async build(playground: Playground): Promise<LatencyRig> {
    const [gen, node, sink] = ['gen', 'node', 'sink'].map((role) => playground.namespace(role));
    connect(playground, gen, node, sink);
    const child = (namespace: Namespace, label: string, ...command: string[]): ChildProgram =>
      playground.start(namespace, 'taskset', ['-c', ...command], { label });
    const script = (file: string): string[] => [process.execPath, join(HERE, '../pps', file)];
    const sender = child(gen, 'sender', '0', ...beforeTheEnds(), ...script('sender.js'), '--serve');
    const [atGen, kernel, atSink] = [gen, node, sink].map((namespace) =>
      child(namespace, 'XDP programs', '1', ...script('kernel.js')),
    );
    const servers = (['udp', 'tcp'] as const).map((protocol) =>
      playground.start(sink, ...pingpong('server', protocol, '0.0.0.0')),
    );
    await Promise.all([sender, atGen, kernel, atSink, ...servers].map(ready));
    for (const name of ['g0', 'g1']) await attach(atGen, { interface: name, program: 'sieve', to: VIP });
    for (const name of ['s0', 's1']) await attach(atSink, { interface: name, program: 'sieve', to: VIP });
    return new LatencyRig(playground, gen, node, sink, sender, kernel);
  }

  /** Puts in place what a case is about; the result takes it away. */
  async between({ name, way, sleeping }: LatencyCase): Promise<() => Promise<void>> {
    if (way === 'direct' || way === 'kernel') return () => Promise.resolve();
    if (way === 'xdp') {
      const pairs = [['d0', 'd1'], ['d1', 'd0']] as const; // prettier-ignore
      for (const [from, to] of pairs) await attach(this.kernel, { interface: from, program: 'redirect', to });
      return async () => {
        for (const [from] of pairs) await attach(this.kernel, { interface: from, program: null });
      };
    }
    const interfaces = ['-i', 'd0', '-i', 'd1', ...(sleeping ? ['-p'] : [])];
    const main = join(HERE, '../../src/cli/main.js');
    const command =
      way === 'c'
        ? [join(packageRoot, 'build/bench/forward'), ...interfaces]
        : // It says something as seldom as the other: a line takes time.
          [process.execPath, main, 'bench', 'forward', ...interfaces, '--json', '-n', '10m', '--copy'];
    const program = this.playground.start(this.node, 'taskset', ['-c', '1', ...command], { label: name });
    await ready(program);
    return async () => {
      await program.stop(START_MS);
    };
  }

  /** Messages to and fro for so long, one at a time. @throws ChildError when none comes back */
  async roundTrips(way: LatencyCase['way'], protocol: Protocol, seconds: number): Promise<RoundTrips> {
    const network = way === 'direct' ? NETWORK.direct : NETWORK.way;
    const times = ['-d', String(seconds), '-w', String(seconds / 5)];
    const client = this.playground.start(this.gen, ...pingpong('client', protocol, `${network}2`, ...times));
    try {
      return await client.message<RoundTrips>(({ p50 }) => p50 !== undefined, seconds * 2000 + START_MS);
    } finally {
      await client.stop();
    }
  }

  /** Sends packets of the load by way of the node, 0: as many as can be made. Resolves once it has begun; the result ends it and says what came of it. */
  async load(packetsPerSecond: number): Promise<() => Promise<{ load: LoadResult; arrived: number }>> {
    const before = this.arrived();
    const answer = this.sender.message<{ result?: LoadResult }>(({ result }) => result !== undefined, LOAD_MS);
    const request: SenderRequest = {
      interface: 'g0',
      destinationMac: NODE.d0,
      destinationPort: PORT,
      durationMs: LOAD_MS,
      packetsPerSecond,
    };
    // Who does not get to the end hears of what went wrong before.
    answer.catch(() => undefined);
    this.sender.send(request);
    for (const deadline = performance.now() + START_MS; this.arrived() === before;) {
      if (performance.now() > deadline) throw new ChildError('the load does not arrive');
      await pause(5);
    }
    return async () => {
      this.sender.send({ stop: true });
      const load = (await answer).result!;
      return { load, arrived: (await this.settled()) - before };
    };
  }

  close(): Promise<void> {
    return this.playground.close();
  }

  /** The same once no more come. */
  private async settled(): Promise<number> {
    for (let before = this.arrived(), deadline = performance.now() + SETTLE_MS; ;) {
      await pause(30);
      const now = this.arrived();
      if (now === before) return now;
      if (performance.now() > deadline) throw new ChildError('packets do not stop to arrive');
      before = now;
    }
  }

  /** Packets of the load that the sieve has dropped. */
  private arrived(): number {
    const said = this.sink.exec('ethtool', '-S', 's0');
    return Number(/rx_queue_0_xdp_drops: (\d+)/.exec(said)?.[1]);
  }
}

/**
 * Has the generator come before the ends, which come before all else (pingpong.c): a load from elsewhere would not wait for them either. Without the right to it, the
 * scheduler decides.
 */
function beforeTheEnds(): string[] {
  const realTime = ['chrt', '--rr', '20'];
  return spawnSync(realTime[0], [...realTime.slice(1), 'true']).status === 0 ? realTime : [];
}

/** Command line of an end. It runs where the generator does: CPU 1 is for what is between. */
function pingpong(
  role: 'server' | 'client',
  protocol: Protocol,
  address: string,
  ...more: string[]
): [string, string[]] {
  const program = join(packageRoot, 'build/bench/pingpong');
  const own = [role, protocol === 'tcp' ? '-t' : '-u', '-a', address, '-p', String(ECHO_PORT)];
  return ['taskset', ['-c', '0', program, ...own, ...more]];
}

function connect(playground: Playground, gen: Namespace, node: Namespace, sink: Namespace): void {
  for (const namespace of [gen, node, sink]) {
    quiet(namespace);
    namespace.sysctl({ 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/default/rp_filter': 0 });
  }
  playground.veth({ namespace: gen, name: 'g0' }, { namespace: node, name: 'd0' });
  playground.veth({ namespace: node, name: 'd1' }, { namespace: sink, name: 's0' });
  playground.veth({ namespace: gen, name: 'g1' }, { namespace: sink, name: 's1' });
  const end = (namespace: Namespace, name: string, mac: string, host: number, network: string, next: string): void => {
    // Nobody between repairs a checksum that a sender leaves to its device.
    namespace.exec('ethtool', '-K', name, 'tx', 'off', 'tso', 'off', 'gso', 'off');
    namespace.ip(
      `link set ${name} address ${mac} arp off up`,
      `address add ${network}${host}/24 dev ${name}`,
      `neigh replace ${network}${3 - host} lladdr ${next} nud permanent dev ${name}`,
    );
  };
  end(gen, 'g0', END, 1, NETWORK.way, NODE.d0);
  end(sink, 's0', END, 2, NETWORK.way, NODE.d1);
  end(gen, 'g1', DIRECT.g1, 1, NETWORK.direct, DIRECT.s1);
  end(sink, 's1', DIRECT.s1, 2, NETWORK.direct, DIRECT.g1);
  for (const name of ['d0', 'd1'] as const) {
    node.ip(`link set ${name} address ${NODE[name]} arp off up`);
    // Without an XDP program, a veth takes the generator's frames only with GRO; its other end hears of that only when both are up.
    node.exec('ethtool', '-K', name, 'gro', 'on');
  }
  node.sysctl({ 'net/ipv4/ip_forward': 1, 'net/ipv4/conf/all/send_redirects': 0 });
  const route = (to: string, dev: string): string[] => [
    `route add ${to} dev ${dev}`,
    `neigh replace ${to} lladdr ${END} nud permanent dev ${dev}`,
  ];
  node.ip(...route(`${NETWORK.way}1`, 'd0'), ...route(`${NETWORK.way}2`, 'd1'), ...route(VIP, 'd1'));
}

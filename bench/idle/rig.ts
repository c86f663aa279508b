/**
 * A daemon with nothing to do: `sluice run` on d0 of a namespace, at whose other end are the addresses of all backends.
 *
 *     net g0 ── d0 node        CPU 0: net        both CPUs: the daemon
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Playground } from '../../src/playground/netns.js';
import { type Namespace } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { daemonReady } from '../daemon.js';
import { quiet, startRig } from '../rig.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const START_MS = 30_000;
const VIP = '198.51.100.10';
const NETWORK = '10.68.0.';
/** Last number of the first backend's address. All services have their backends among so many. */
const [FIRST_BACKEND, BACKENDS] = [10, 16];
const HEALTH_PORT = 80;
const FIRST_SERVICE_PORT = 1000;

export interface IdleCase {
  name: string;
  /** Queues, each with a worker; 0: a Node without any of our code. */
  workers: number;
  /** Each with one backend. */
  services: number;
  /** TCP checks of each service's backend, with the default interval of 2 s. */
  health: boolean;
}

const WORKERS = [1, 2];
const SERVICES = [10, 1000];

export function idleCases(): IdleCase[] {
  const daemons = WORKERS.flatMap((workers) =>
    SERVICES.flatMap((services) =>
      [false, true].map((health): IdleCase => {
        const what = `${workers} ${workers === 1 ? 'worker' : 'workers'}, ${services.toLocaleString('en')} services`;
        return { name: `${what}${health ? ', health checks' : ''}`, workers, services, health };
      }),
    ),
  );
  return [{ name: 'Node alone', workers: 0, services: 0, health: false }, ...daemons];
}

/** What a process has had so far, all threads. */
export interface ProcessUse {
  cpuNs: number;
  /** Switches away from it: of its own will, as it slept, and because others had their turn. */
  slept: number;
  preempted: number;
}

export class IdleRig {
  private constructor(
    private readonly playground: Playground,
    private readonly node: Namespace,
    private readonly backends: ChildProgram,
  ) {}

  /** @throws ChildError where there is no root */
  static start(): Promise<IdleRig> {
    return startRig('idle', 1, (playground) => IdleRig.build(playground));
  }

  private static async build(playground: Playground): Promise<IdleRig> {
    const [net, node] = [playground.namespace('net'), playground.namespace('node')];
    playground.veth({ namespace: net, name: 'g0', queues: 2 }, { namespace: node, name: 'd0', queues: 2 });
    quiet(net);
    quiet(node);
    const addresses = Array.from({ length: BACKENDS }, (_, i) => `${NETWORK}${FIRST_BACKEND + i}/24`);
    net.ip('link set g0 up', ...addresses.map((address) => `address add ${address} dev g0`));
    node.ip('link set d0 up', `address add ${NETWORK}1/24 dev d0`);
    const listener = [process.execPath, join(HERE, 'listener.js'), String(HEALTH_PORT)];
    const backends = playground.start(net, 'taskset', ['-c', '0', ...listener], { label: 'backends' });
    await backends.message<{ accepted?: number }>(({ accepted }) => accepted === 0, START_MS);
    return new IdleRig(playground, node, backends);
  }

  /** Starts what a case is about. The result has its process and ends it. */
  async subject(wanted: IdleCase): Promise<{ pid: number; end: () => Promise<void> }> {
    const { name, workers } = wanted;
    const socket = this.playground.path('control.sock');
    const path = this.playground.path('sluice.json');
    writeFileSync(path, JSON.stringify(configuration(wanted, socket)));
    const own =
      workers === 0 ? ['-e', 'process.stdin.resume()'] : [join(HERE, '../../src/cli/main.js'), 'run', '-c', path];
    const program = this.playground.start(this.node, process.execPath, own, { label: name });
    if (workers > 0) await daemonReady(program, socket, START_MS);
    // `ip netns exec` becomes the program: its id is the program's.
    return { pid: program.pid!, end: () => program.stop(START_MS).then(() => undefined) };
  }

  /** Connections that backends have had. */
  async checks(): Promise<number> {
    const answer = this.backends.message<{ accepted: number }>(({ accepted }) => accepted !== undefined, START_MS);
    this.backends.send({});
    return (await answer).accepted;
  }

  close(): Promise<void> {
    return this.playground.close();
  }
}

function configuration({ workers, services, health }: IdleCase, socket: string): object {
  const list = Array.from({ length: services }, (_, i) => ({
    name: `service${i}`,
    vip: VIP,
    protocol: 'udp',
    port: FIRST_SERVICE_PORT + i,
    backends: [`${NETWORK}${FIRST_BACKEND + (i % BACKENDS)}`],
    ...(health && { health: { type: 'tcp', port: HEALTH_PORT } }),
  }));
  return {
    interfaces: [{ name: 'd0', queues: workers, poll: 'interrupt' }],
    services: list,
    metrics: { listen: '127.0.0.1:9477' },
    control: { socket },
    log: { level: 'warn' },
  };
}

/** By the scheduler's own account (proc(5): schedstat has ns of CPU time first). A thread that has ended meanwhile is not in it. */
export function processUse(pid: number): ProcessUse {
  const use: ProcessUse = { cpuNs: 0, slept: 0, preempted: 0 };
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${task}/status`, 'latin1');
    const switches = (kind: string): number =>
      Number(new RegExp(`^${kind}_ctxt_switches:\\s+(\\d+)`, 'm').exec(status)![1]);
    use.cpuNs += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'latin1').split(' ')[0]);
    use.slept += switches('voluntary');
    use.preempted += switches('nonvoluntary');
  }
  return use;
}

/** Memory of a process, bytes: all that it has mapped and touched, and its share of it (what n processes map counts 1/n for each). */
export function processMemory(pid: number): { rss: number; pss: number } {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  const bytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(rollup)![1]) * 1024;
  return { rss: bytes('Rss'), pss: bytes('Pss') };
}

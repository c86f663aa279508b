/**
 * Where drops are timed: a namespace that sends (CPU 0), and one that receives (CPU 1 for all of its user space). Two veth pairs, one to a daemon and
 * one to programs without a daemon, so that nothing has to be started anew between two trials.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { callControl } from '../../src/control/api/client.js';
import type { RuleListing, Status } from '../../src/control/api/contract.js';
import type { LoadResult } from '../../src/generator/engine.js';
import type { Playground } from '../../src/playground/netns.js';
import { type Namespace } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { daemonReady } from '../daemon.js';
import { ChildError } from '../process.js';
import { quiet, ready, START_MS, startRig } from '../rig.js';
import { RULE, VIP, type DropCase } from './cases.js';
import type { SenderRequest } from './sender.js';

const HERE = dirname(fileURLToPath(import.meta.url));
/** Interfaces of the sender and of the receiver, and the receiver's hardware address. */
const PAIRS = {
  daemon: { from: 'g0', to: 'd0', mac: '02:00:00:00:01:02' },
  bare: { from: 'g1', to: 'x0', mac: '02:00:00:00:02:02' },
} as const;
/** Longest time until counters stand still after a load. */
const SETTLE_MS = 5000;

/** What the receiving end has counted. */
export interface ReceiverCounts {
  /** Packets that its XDP program met. */
  seen: number;
  /** Dropped as the case means it; of these, in the kernel. */
  dropped: number;
  inKernel: number;
  /** For want of room on the way to user space. */
  lost: number;
}

export class DropRig {
  private constructor(
    private readonly playground: Playground,
    private readonly node: Namespace,
    private readonly sender: ChildProgram,
    private readonly bare: ChildProgram,
    private readonly daemon: ChildProgram,
    private readonly configPath: string,
    private readonly socket: string,
  ) {}

  /** @throws ChildError where there is no root, or one CPU */
  static start(): Promise<DropRig> {
    return startRig('drop', 2, (playground) => DropRig.build(playground));
  }

  private static async build(playground: Playground): Promise<DropRig> {
    const [gen, node] = [playground.namespace('gen'), playground.namespace('node')];
    quiet(gen);
    quiet(node);
    for (const { from, to, mac } of Object.values(PAIRS)) {
      playground.veth({ namespace: gen, name: from }, { namespace: node, name: to });
      gen.ip(`link set ${from} up`);
      node.ip(`link set ${to} address ${mac} up`);
    }
    const pinned = (namespace: Namespace, cpu: number, label: string, ...args: string[]): ChildProgram =>
      playground.start(namespace, 'taskset', ['-c', String(cpu), process.execPath, ...args], { label });
    const configPath = playground.path('sluice.json');
    const socket = playground.path('control.sock');
    writeFileSync(configPath, config(socket));
    const daemon = pinned(node, 1, 'sluice run', join(HERE, '../../src/cli/main.js'), 'run', '-c', configPath);
    const bare = pinned(node, 1, 'bare receiver', join(HERE, 'bare.js'), PAIRS.bare.to, VIP);
    const sender = pinned(gen, 0, 'sender', join(HERE, 'sender.js'));
    await Promise.all([ready(bare), ready(sender), daemonReady(daemon, socket, START_MS)]);
    return new DropRig(playground, node, sender, bare, daemon, configPath, socket);
  }

  /** Makes the receiving end drop as the case says. Returns where the rule runs. @throws ChildError when the daemon refuses it */
  async apply(wanted: DropCase): Promise<string> {
    if (wanted.by !== 'daemon') {
      const attached = this.bare.message<{ attached?: string }>(({ attached }) => attached === wanted.by, START_MS);
      this.bare.send({ program: wanted.by });
      await attached;
      return 'kernel';
    }
    writeFileSync(this.configPath, config(this.socket, wanted));
    const result = await callControl(this.socket, 'reload', {}, START_MS);
    if (!result.applied) throw new ChildError(`${wanted.name}: ${JSON.stringify(result.problems)}`);
    return (await this.listing()).rules.find(({ name }) => name.startsWith(RULE))!.runs;
  }

  async counts(wanted: DropCase): Promise<ReceiverCounts> {
    if (wanted.by !== 'daemon') {
      const said = this.node.exec('ethtool', '-S', PAIRS.bare.to);
      const counter = (name: string): number => Number(new RegExp(`rx_queue_0_xdp_${name}: (\\d+)`).exec(said)?.[1]);
      const dropped = counter('drops');
      return { seen: counter('packets'), dropped, inKernel: dropped, lost: 0 };
    }
    const [listing, status] = [await this.listing(), await this.status()];
    const rules = listing.rules.filter(({ name }) => name.startsWith(RULE));
    return {
      seen: status.interfaces[0].xdp!.seen,
      dropped: rules.reduce((sum, rule) => sum + rule.acted, 0),
      inKernel: rules.reduce((sum, rule) => sum + rule.kernelPackets, 0),
      lost: status.workers.reduce((sum, worker) => sum + worker.kernelLost, 0),
    };
  }

  /** Counters once they no longer move. */
  async settled(wanted: DropCase): Promise<ReceiverCounts> {
    const deadline = performance.now() + SETTLE_MS;
    let last = await this.counts(wanted);
    // Workers publish every tenth of a second.
    for (let quiet = 0; quiet < 2;) {
      await pause(60);
      const now = await this.counts(wanted);
      const same = now.seen === last.seen && now.dropped === last.dropped && now.lost === last.lost;
      quiet = same ? quiet + 1 : 0;
      last = now;
      if (performance.now() > deadline) throw new ChildError(`${wanted.name}: counters do not come to rest`);
    }
    return last;
  }

  /** CPU time of the daemon, all threads, ms. */
  daemonCpuMs(): number {
    return cpuMs(this.daemon.pid!);
  }

  async send(wanted: DropCase, durationMs: number): Promise<LoadResult> {
    const { from, mac } = PAIRS[wanted.by === 'daemon' ? 'daemon' : 'bare'];
    const answer = this.sender.message<{ result?: LoadResult }>(
      ({ result }) => result !== undefined,
      durationMs + START_MS,
    );
    const request: SenderRequest = { interface: from, destinationMac: mac, durationMs, packetsPerSecond: wanted.rate };
    this.sender.send(request);
    return (await answer).result!;
  }

  close(): Promise<void> {
    return this.playground.close();
  }

  private listing(): Promise<RuleListing> {
    return callControl(this.socket, 'rules.list', {}, START_MS);
  }

  private status(): Promise<Status> {
    return callControl(this.socket, 'status', {}, START_MS);
  }
}

function config(socket: string, wanted?: DropCase): string {
  return JSON.stringify({
    interfaces: [{ name: PAIRS.daemon.to }],
    services: [{ name: 'udp', vip: VIP, protocol: 'udp', port: 5000, backends: [] }],
    filters: ['sanity', 'rules'],
    offload: wanted?.offload ?? 'off',
    sets: wanted?.sets ?? [],
    rules: wanted?.rules ?? [],
    metrics: { listen: '127.0.0.1:9477' },
    control: { socket },
    log: { level: 'warn' },
  });
}

/** By the scheduler's own account where the kernel shows it (CONFIG_SCHED_DEBUG), else in ticks of 10 ms. */
function cpuMs(pid: number): number {
  try {
    const runtime = (task: string): number => {
      const text = readFileSync(`/proc/${pid}/task/${task}/sched`, 'latin1');
      return Number(/^se\.sum_exec_runtime\s*:\s*([\d.]+)$/m.exec(text)![1]);
    };
    return readdirSync(`/proc/${pid}/task`).reduce((sum, task) => sum + runtime(task), 0);
  } catch {
    // Fields 14 and 15 of proc(5), counted from behind the name: utime and stime.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }
}

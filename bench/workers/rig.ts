/**
 * Where two queues are timed: as the rig of the pps bench, with two queues an interface and a generator for each queue.
 *
 *     gen g0 ── d0 node d1 ── s0 sink
 *
 * veth gives packets of an XDP program to the queue of the CPU that sends them, modulo the queues. Where there are four CPUs the generator of queue i is on CPU 2 + i;
 * where there are fewer it is on CPU i and shares it with the thread that serves the queue, so it must be throttled.
 */
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LoadResult } from '../../src/generator/engine.js';
import type { Playground } from '../../src/playground/netns.js';
import { type Namespace } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { FRAME_BYTES, PORT } from '../pps/cases.js';
import type { SenderRequest } from '../pps/sender.js';
import { ChildError } from '../process.js';
import { attach, line, ready, START_MS, startRig } from '../rig.js';
import type { WorkerTotals } from './child.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const MACS = { g0: '02:00:00:00:02:01', d0: '02:00:00:00:02:02', d1: '02:00:00:00:02:03', s0: '02:00:00:00:02:04' };
export const QUEUES = 2;
/** Longest time until counters stand still after a load, and how long they must. */
const SETTLE_MS = 5000;
const STILL_MS = 150;

/** What came of a load: packets. */
export interface Carried {
  /** By the generators. */
  made: number;
  arrived: number;
  elapsedMs: number;
  /** CPU time of the threads' process, s. */
  cpuSeconds: number;
}

export class WorkersRig {
  /** Whether generators have CPUs of their own. */
  readonly apart = availableParallelism() >= 2 * QUEUES;

  private constructor(
    private readonly playground: Playground,
    private readonly node: Namespace,
    private readonly sink: Namespace,
    /** By queue. */
    private readonly senders: readonly ChildProgram[],
  ) {}

  /** @throws ChildError where there is no root, or one CPU */
  static start(): Promise<WorkersRig> {
    return startRig('workers', QUEUES, (playground) => WorkersRig.build(playground));
  }

  private static async build(playground: Playground): Promise<WorkersRig> {
    const { gen, node, sink } = line(playground, MACS, QUEUES);
    const apart = availableParallelism() >= 2 * QUEUES;
    const start = (namespace: Namespace, cpus: string, file: string, ...args: string[]): ChildProgram =>
      playground.start(namespace, 'taskset', ['-c', cpus, process.execPath, join(HERE, '../pps', file), ...args], {
        label: file,
      });
    const senders = Array.from({ length: QUEUES }, (_, queue) =>
      start(gen, String(apart ? QUEUES + queue : queue), 'sender.js', '--serve'),
    );
    const drops = [start(gen, '0', 'kernel.js'), start(sink, '0', 'kernel.js')];
    await Promise.all([...senders, ...drops].map(ready));
    for (const [i, name] of ['g0', 's0'].entries()) await attach(drops[i], { interface: name, program: 'drop' });
    return new WorkersRig(playground, node, sink, senders);
  }

  /** Starts threads for these queues. */
  async subject(queues: readonly number[]): Promise<WorkersSubject> {
    const program = this.playground.start(
      this.node,
      process.execPath,
      [join(HERE, 'child.js'), 'd0', 'd1', queues.join(',')],
      { label: `threads for queues ${queues.join(' and ')}` },
    );
    await ready(program);
    return new WorkersSubject(this, program, queues);
  }

  /** The generator of a queue sends; packets a second are of that queue. */
  async send(queue: number, durationMs: number, packetsPerSecond: number): Promise<LoadResult> {
    const sender = this.senders[queue];
    const answer = sender.message<{ result?: LoadResult }>(({ result }) => result !== undefined, durationMs + START_MS);
    sender.send({
      interface: 'g0',
      destinationMac: MACS.d0,
      destinationPort: PORT,
      durationMs,
      packetsPerSecond,
      cpu: this.apart ? QUEUES + queue : queue,
    } satisfies SenderRequest);
    return (await answer).result!;
  }

  /** Packets since it was made: that came in by d0, that arrived at the sink, that d1 could not hand over. */
  counts(): { taken: number; arrived: number; lost: number } {
    const { packets: taken } = xdpCounts(this.node, 'd0');
    const { packets, bytes } = xdpCounts(this.sink, 's0');
    if (bytes !== packets * (FRAME_BYTES - 14))
      throw new ChildError('packets arrived that do not have the right length');
    const [link] = this.node.query<{ stats64: { tx: { dropped: number } } }[]>('link', 'show', 'dev', 'd1');
    return { taken, arrived: packets, lost: link.stats64.tx.dropped };
  }

  close(): Promise<void> {
    return this.playground.close();
  }
}

/** What veth has counted for an interface's XDP program, over all queues. */
function xdpCounts(namespace: Namespace, name: string): { packets: number; bytes: number } {
  const said = namespace.exec('ethtool', '-S', name);
  const sum = (what: string): number =>
    [...said.matchAll(new RegExp(`rx_queue_\\d+_xdp_${what}: (\\d+)`, 'g'))].reduce((all, [, n]) => all + Number(n), 0);
  return { packets: sum('packets'), bytes: sum('bytes') };
}

/** Threads at work. */
export class WorkersSubject {
  constructor(
    private readonly rig: WorkersRig,
    private readonly program: ChildProgram,
    private readonly queues: readonly number[],
  ) {}

  private async totals(): Promise<WorkerTotals> {
    const answer = this.program.message<{ totals?: WorkerTotals }>(({ totals }) => totals !== undefined, START_MS);
    this.program.send({});
    return (await answer).totals!;
  }

  /** Totals that no longer move. */
  private async settled(): Promise<WorkerTotals> {
    const deadline = performance.now() + SETTLE_MS;
    for (let before = await this.totals(); ;) {
      await pause(STILL_MS);
      const now = await this.totals();
      if (now.rx === before.rx && now.missed === before.missed) return now;
      if (performance.now() > deadline) throw new ChildError('packets do not stop to arrive');
      before = now;
    }
  }

  /** Each queue gets so many packets a second. @throws ChildError when a packet is missing from the account */
  async carry(ms: number, perQueue: number): Promise<Carried> {
    const before = await this.settled();
    const at = this.rig.counts();
    const loads = await Promise.all(this.queues.map((queue) => this.rig.send(queue, ms, perQueue)));
    const after = await this.settled();
    const now = this.rig.counts();
    const since = (field: keyof WorkerTotals): number => after[field] - before[field];
    // What each generator says of the interface is of both: they are told apart by what they made only.
    const made = loads.reduce((sum, load) => sum + load.packets, 0);
    const taken = now.taken - at.taken;
    const arrived = now.arrived - at.arrived;
    const counts = JSON.stringify({ made, taken, arrived, lost: now.lost - at.lost, before, after });
    if (taken > made || since('rx') + since('missed') !== taken) {
      throw new ChildError(`workers: packets were neither received nor missed: ${counts}`);
    }
    if (since('sent') + since('txLost') !== since('rx') || arrived + now.lost - at.lost !== since('sent')) {
      throw new ChildError(`workers: packets were received that neither left nor were lost: ${counts}`);
    }
    const elapsedMs = Math.max(...loads.map((load) => load.elapsedMs));
    return { made, arrived, elapsedMs, cpuSeconds: since('cpuSeconds') };
  }

  async end(): Promise<void> {
    await this.program.stop(START_MS);
  }
}

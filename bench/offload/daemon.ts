/** `sluice run` in one of the nodes, both services, with flows in the kernel or without. */
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { callControl } from '../../src/control/api/client.js';
import type { Status } from '../../src/control/api/contract.js';
import { isKernelError, SluiceError } from '../../src/errors.js';
import { cpuTimeNs } from '../../src/playground/cpu_time.js';
import type { Playground } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { ChildError } from '../process.js';
import { PORT, VIPS, WAYS, type Way } from './cases.js';
import { START_MS } from '../rig.js';
import { backendsBehind, type Place } from './topology.js';

const MAIN = join(dirname(fileURLToPath(import.meta.url)), '../../src/cli/main.js');
/** Longest time until counters stand still after a load. */
const SETTLE_MS = 5000;

/** What the daemon has counted. */
export interface DaemonCounts {
  /** Packets that it balanced by a way, as its service says and as its backends do. */
  service: number;
  backends: number;
  /** All that came, workers' and the kernel's. */
  rx: number;
  /** Of these, those that workers had in hand. */
  inWorkers: number;
  /** Not handed on, by any name that it has for that. */
  dropped: number;
  /** Lost on the way to user space. */
  lost: number;
  /** Flows that were put in force, and offers that were refused. */
  installed: number;
  refused: number;
}

export class OffloadDaemon {
  private constructor(
    private readonly program: ChildProgram,
    private readonly socket: string,
  ) {}

  /** @throws ChildError with what it said when it is not ready in time */
  static async start(
    playground: Playground,
    place: Place,
    mode: 'auto' | 'off',
    slots: number,
  ): Promise<OffloadDaemon> {
    const socket = playground.path(`control-${mode}.sock`);
    const path = playground.path(`sluice-${mode}.json`);
    writeFileSync(path, JSON.stringify(offloadConfig(mode, socket, slots)));
    const args = ['-c', '1', process.execPath, MAIN, 'run', '-c', path];
    const daemon = new OffloadDaemon(
      playground.start(place.node, 'taskset', args, { label: `sluice run, ${mode}` }),
      socket,
    );
    await daemon.ready();
    return daemon;
  }

  private async ready(): Promise<void> {
    const deadline = performance.now() + START_MS;
    while (this.program.running && performance.now() < deadline) {
      try {
        const { ready, services } = await this.status();
        const isKnown = services.every(({ backends }) => backends.every(({ nextHop }) => nextHop !== null));
        if (ready && isKnown) return;
      } catch (error) {
        if (!(error instanceof SluiceError) && !isKernelError(error)) throw error;
      }
      await pause(50);
    }
    throw new ChildError(`sluice did not start:\n${this.program.errorOutput}`);
  }

  status(): Promise<Status> {
    return callControl(this.socket, 'status', {}, START_MS);
  }

  /** CPU time of all its threads, ns. */
  cpuNs(): number {
    return cpuTimeNs(this.program.pid!);
  }

  async counts(way: Way): Promise<DaemonCounts> {
    return countsOf(await this.status(), way);
  }

  /** Counters once they no longer move. @throws ChildError when they do not come to rest, or contradict each other */
  async settled(way: Way): Promise<DaemonCounts> {
    const deadline = performance.now() + SETTLE_MS;
    let last = await this.counts(way);
    // Workers publish every tenth of a second.
    for (let quiet = 0; quiet < 3;) {
      await pause(50);
      const status = await this.status();
      const now = countsOf(status, way);
      quiet = now.rx === last.rx && now.lost === last.lost && now.service === last.service ? quiet + 1 : 0;
      last = now;
      if (quiet === 3 && status.violations.length > 0) throw new ChildError(status.violations.join('\n'));
      if (performance.now() > deadline) throw new ChildError('counters of sluice do not come to rest');
    }
    return last;
  }
}

function countsOf(status: Status, way: Way): DaemonCounts {
  const service = status.services.find(({ name }) => name === way)!;
  const flows = status.flowOffload?.interfaces ?? [];
  const { workers, totals } = status;
  return {
    service: service.packets,
    backends: service.backends.reduce((sum, { packets }) => sum + packets, 0),
    rx: totals.rx,
    inWorkers: workers.reduce((sum, { rx }) => sum + rx, 0),
    dropped: totals.drop + totals.pass + totals.aborted,
    lost: workers.reduce((sum, { kernelLost }) => sum + kernelLost, 0),
    installed: flows.reduce((sum, { installed }) => sum + installed, 0),
    refused: flows.reduce((sum, { refused }) => sum + refused, 0),
  };
}

/** One service a way. Flows outlive the bench. */
export function offloadConfig(mode: 'auto' | 'off', socket: string, slots: number): object {
  return {
    // Live frames have all their checksums.
    interfaces: ['d0', 'd1'].map((name) => ({ name, checksum: 'trust' })),
    flows: { slots, timeouts: { udp: '1h' } },
    flow_offload: mode,
    services: WAYS.map((way) => ({
      name: way,
      vip: VIPS[way],
      protocol: 'udp',
      port: PORT,
      encapsulation: 'ipip',
      backends: backendsBehind(way),
    })),
    metrics: { listen: '127.0.0.1:9477' },
    control: { socket },
    log: { level: 'warn' },
  };
}

import { webcrypto } from 'node:crypto';
import { native, type Tap, type Umem } from '../native.js';
import { Counter, CounterBlock, PortCounter, type Tables } from '../shared/layout.js';
import type {
  OpenedPort,
  PortSpec,
  WorkerCommand,
  WorkerEvent,
  WorkerFault,
  WorkerOptions,
} from '../shared/worker_protocol.js';
import { Balancer } from './balance/forward.js';
import { FlowField, FlowTable } from './balance/flow_table.js';
import { Sampler } from './capture/sampler.js';
import { CaptureTap } from './capture/tap.js';
import { buildChain, programsOf } from './filter/build.js';
import { NO_PARTS } from './filter/rule_parts.js';
import { MitigationStages } from './mitigate/stages.js';
import { FlowOffers, HEAR_MOST, HEAR_SOME } from './flow_offers.js';
import { Path } from './poll.js';
import { XskPort } from './ports/xsk.js';
import { BurstHeader } from './port.js';
import { Snapshot } from './snapshot.js';

/** How often counters of the kernel are copied and the sockets' health is looked at, ms. */
const HOUSEKEEPING_MS = 100;

/** An aborted packet is reported at most this often, ms. */
const ABORT_REPORT_MS = 1000;

/** How long a worker that starts waits for a queue whose former socket the kernel has not let go yet, ms. */
const START_RETRY_MS = 1000;

/**
 * Rounds with packets in a row until all else gets its turn although packets are in hand: some ms at full load. A burst's verdicts take effect with the next round, so what
 * comes in between is on the way of its packets.
 */
const BUSY_ROUNDS = 16;

/** First counter of a port that is a gauge rather than a running total. */
const FIRST_GAUGE = PortCounter.framesFree;

/** Everything that one worker owns: UMEM, ports, flow table, path. Single-threaded; driven by `worker.ts`. */
export class Engine {
  readonly ports: XskPort[] = [];
  private readonly umem: Umem;
  private readonly counters: Float64Array;
  private readonly balancer: Balancer;
  private readonly path: Path;
  private readonly tap: CaptureTap;
  private readonly stages: MitigationStages;
  private readonly taps = new Map<number, Tap>();
  /** Totals of a port from before it was re-opened. */
  private readonly portBase = new Map<number, Float64Array>();
  /** Its side of flows in the kernel; null: they are not wanted there. */
  private offers: FlowOffers | null = null;
  private nowMs = 0;
  private lastHousekeepingMs = 0;
  private lastAbortReportMs = -ABORT_REPORT_MS;
  /** Rounds with packets since `keepUp`. */
  private busyRounds = 0;
  private abortsSuppressed = 0;

  constructor(
    private readonly options: WorkerOptions,
    private readonly send: (event: WorkerEvent) => void,
  ) {
    const { frames, flowSlots, tables } = options;
    const addon = native();
    this.counters = new Float64Array(options.counters);
    this.umem = new addon.Umem({ frameCount: frames.count, chunkSize: frames.size, hugepages: frames.hugepages });
    const words = new Int32Array(addon.allocate((flowSlots * FlowField.STRIDE) << 2, frames.hugepages));
    const flows = new FlowTable(words, tables.settings.timeouts);
    const secret = webcrypto.getRandomValues(new Int32Array(4));
    const snapshot = new Snapshot(tables);
    this.nowMs = this.lastHousekeepingMs = addon.nowMs();
    this.balancer = new Balancer(flows, this.counters, [...secret], snapshot);
    this.tap = new CaptureTap(this.umem.buffer, frames.size, snapshot);
    this.stages = new MitigationStages(options.worker, this.counters, Date.now, (bytes) =>
      addon.allocate(bytes, frames.hugepages),
    );
    this.path = new Path(
      this.umem.buffer,
      frames.size,
      this.balancer,
      this.chain(tables),
      tables.settings.repairChecksums,
      this.counters,
      (error, packet) => this.reportAbort(error, packet.view, packet.data, packet.dataEnd),
      () => addon.threadCpuNs32(),
      this.tap,
    );
    this.path.expectDecisions(tables.kernelNonce);
    this.counters[Counter.generation] = tables.generation;
    this.countPrograms();
  }

  private chain(tables: Tables) {
    const { limits, mitigation } = this.stages.adopt(tables, this.nowMs);
    return buildChain(tables, this.counters, {
      worker: this.options.worker,
      nowMs: () => this.path.nowMs,
      parts: {
        ...NO_PARTS,
        limits,
        samples: tables.samples.map((spec) => new Sampler(spec, this.tap, Math.random() * 2 ** 32)),
        watch: this.tap,
      },
      mitigation,
    });
  }

  /** Opens the ports that the worker starts with, and says which came up. */
  open(): void {
    const opened: OpenedPort[] = [];
    const faults: { port: PortSpec; fault: WorkerFault }[] = [];
    for (const spec of this.options.ports) {
      try {
        opened.push(this.openPort(spec, START_RETRY_MS));
      } catch (error) {
        faults.push({ port: spec, fault: faultOf(error) });
      }
    }
    this.send({ kind: 'ready', ports: opened, faults, hugepages: this.umem.hugepages });
  }

  /** `busyRetryMs`: how long to wait for a queue that is busy. Nothing else of this worker moves in that time. */
  private openPort(spec: PortSpec, busyRetryMs: number): OpenedPort {
    const port = new XskPort(this.umem, {
      interface: spec.interface,
      queue: spec.queue,
      index: spec.index,
      mode: spec.mode,
      rxSize: spec.ring,
      txSize: spec.ring,
      fillSize: spec.ring,
      completionSize: spec.ring,
      burst: this.options.frames.burst,
      busyPoll: spec.poll === 'busy' ? { timeoutUs: 20, budget: 64 } : undefined,
      busyRetryMs,
    });
    try {
      if (spec.tap !== null) {
        const tap = new (native().Tap)({ name: spec.tap });
        this.taps.set(spec.index, tap);
        port.setTap(tap);
      }
    } catch (error) {
      port.close();
      throw error;
    }
    const at = CounterBlock.ports + spec.index * PortCounter.SIZE;
    this.portBase.set(spec.index, this.counters.slice(at, at + FIRST_GAUGE));
    this.ports.push(port);
    port.refreshCounters();
    this.publishPort(port);
    // The first exchange fills the fill ring, so that the kernel has frames before the first packet comes.
    port.exchange();
    return {
      index: spec.index,
      interface: spec.interface,
      queue: spec.queue,
      fd: port.socket.fd,
      zeroCopy: port.socket.zeroCopy,
    };
  }

  private closePort(index: number): XskPort | undefined {
    const position = this.ports.findIndex((port) => port.index === index);
    if (position < 0) return undefined;
    const [port] = this.ports.splice(position, 1);
    this.path.forget(port);
    port.refreshCounters();
    this.publishPort(port);
    port.close();
    this.taps.get(index)?.close();
    this.taps.delete(index);
    // What it held is back in the pool: its gauges speak of nothing any more.
    this.counters.fill(0, this.gaugesOf(index), this.gaugesOf(index) + PortCounter.SIZE - FIRST_GAUGE);
    return port;
  }

  private gaugesOf(index: number): number {
    return CounterBlock.ports + index * PortCounter.SIZE + FIRST_GAUGE;
  }

  /** One burst from each port. Returns the number of packets. */
  pollAll(): number {
    const ports = this.ports;
    let packets = 0;
    for (let i = 0; i < ports.length; i++) packets += this.path.pollOnce(ports[i]);
    if (ports.length > 0) this.stages.nowMs = this.nowMs = ports[0].burst.header[BurstHeader.nowMs];
    if (packets > 0) this.busyRounds++;
    if (packets === 0 ? this.busyRounds > 0 : this.busyRounds >= BUSY_ROUNDS) this.keepUp();
    return packets;
  }

  /** What time and packets leave to be done: up to some 20 µs. */
  private keepUp(): void {
    const { nowMs, busyRounds } = this;
    this.busyRounds = 0;
    // Before the sweep: it says which flows are not idle.
    if (this.offers !== null) this.offers.hear(busyRounds * HEAR_SOME);
    this.balancer.sweep(nowMs);
    this.stages.tick(nowMs);
    if (((nowMs - this.lastHousekeepingMs) | 0) >= HOUSEKEEPING_MS) this.housekeep(false);
  }

  sleep(timeoutMs: number): void {
    this.counters[Counter.sleeps]++;
    this.umem.wait(timeoutMs);
  }

  /** Copies the kernel's counters, notices lost interfaces, forgets old flows. Does nothing when called too soon, unless just gone idle. */
  housekeep(idle: boolean): void {
    if (this.ports.length === 0) this.nowMs = native().nowMs();
    if (((this.nowMs - this.lastHousekeepingMs) | 0) < HOUSEKEEPING_MS) {
      if (!idle) return;
      // Going to sleep: leave behind totals that are exact. Each round of one that spins comes here; an iterator is an object.
      for (let i = 0; i < this.ports.length; i++) this.publishPort(this.ports[i]);
      return;
    }
    this.lastHousekeepingMs = this.nowMs;
    programsOf(this.counters)?.compileSome();
    this.offers?.hear(idle ? HEAR_MOST : HEAR_SOME);
    this.countPrograms();
    if (idle) {
      this.balancer.sweep(this.nowMs);
      this.stages.tick(this.nowMs);
    }
    for (const port of [...this.ports]) {
      port.refreshCounters();
      this.publishPort(port);
      if (port.socket.error() !== 0) {
        this.closePort(port.index);
        this.send({ kind: 'lost', index: port.index, interface: port.name });
      }
    }
  }

  private countPrograms(): void {
    let all = 0;
    let interpreted = 0;
    for (const shelf of [programsOf(this.counters), this.stages.programs, this.tap.programs]) {
      all += shelf?.size ?? 0;
      interpreted += shelf?.interpreted ?? 0;
    }
    this.counters[Counter.programsCompiled] = all - interpreted;
    this.counters[Counter.programsInterpreted] = interpreted;
  }

  private publishPort(port: XskPort): void {
    const at = CounterBlock.ports + port.index * PortCounter.SIZE;
    const base = this.portBase.get(port.index)!;
    for (let i = 0; i < FIRST_GAUGE; i++) this.counters[at + i] = base[i] + port.counters[i];
    for (let i = FIRST_GAUGE as number; i < PortCounter.SIZE; i++) this.counters[at + i] = port.counters[i];
  }

  /** Carries out a command whose modules, if any, are loaded. */
  obey(command: WorkerCommand): void {
    switch (command.kind) {
      case 'tables':
        this.adopt(command.tables);
        break;
      case 'open':
        try {
          this.send({ kind: 'opened', port: this.openPort(command.port, 0) });
        } catch (error) {
          this.send({ kind: 'open-failed', port: command.port, fault: faultOf(error) });
        }
        break;
      case 'close':
        this.closePort(command.index);
        this.send({ kind: 'closed', index: command.index });
        break;
      case 'offer-flows': {
        const { flows, flowHash, snapshot } = this.balancer;
        this.offers = command.rings && new FlowOffers(flows, flowHash, command.rings, snapshot, command.ruled);
        this.path.offerFlows(this.offers);
        break;
      }
      case 'capture':
        this.tap.configure(command);
        break;
    }
  }

  /** Between two bursts: all of the new generation, or nothing of it. */
  private adopt(tables: Tables): void {
    try {
      const snapshot = new Snapshot(tables);
      const filters = this.chain(tables);
      this.balancer.adopt(snapshot);
      this.path.adopt(filters, tables.settings.repairChecksums);
      this.path.expectDecisions(tables.kernelNonce);
    } catch (error) {
      this.refuse(tables.generation, error);
      return;
    }
    this.counters[Counter.generation] = tables.generation;
    this.countPrograms();
    this.send({ kind: 'adopted', generation: tables.generation });
  }

  refuse(generation: number, error: unknown): void {
    this.send({ kind: 'refused', generation, fault: faultOf(error) });
  }

  /** Goes on until nothing arrives any more, at most `limitMs`: the manager has taken the sockets out of the XSKMAP. */
  drain(limitMs: number): void {
    const start = performance.now();
    let empty = 0;
    while (empty < 3 && performance.now() - start < limitMs) empty = this.pollAll() > 0 ? 0 : empty + 1;
  }

  /** Closes everything and says whether each frame was accounted for. */
  close(): void {
    this.balancer.fragments.dropHeld();
    for (const port of [...this.ports]) {
      port.refreshCounters();
      this.publishPort(port);
    }
    const frames = this.umem.counts();
    const conserved = frames.free + frames.fill + frames.rx + frames.tx + frames.held === frames.total;
    for (const port of [...this.ports]) this.closePort(port.index);
    this.umem.close();
    this.send({ kind: 'stopped', conserved, frames });
  }

  private reportAbort(error: unknown, view: DataView, start: number, end: number): void {
    if (((this.nowMs - this.lastAbortReportMs) | 0) < ABORT_REPORT_MS) {
      this.abortsSuppressed++;
      return;
    }
    this.lastAbortReportMs = this.nowMs;
    const bytes = new Uint8Array(view.buffer, start, Math.min(end - start, 128));
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.send({
      kind: 'aborted',
      error: text,
      packet: Buffer.from(bytes).toString('hex'),
      suppressed: this.abortsSuppressed,
    });
    this.abortsSuppressed = 0;
  }
}

/** An error as it travels to the manager. */
export function faultOf(error: unknown): WorkerFault {
  if (!(error instanceof Error)) return { message: String(error), code: '', remedy: '' };
  const { code, remedy } = error as Error & { code?: string; remedy?: string };
  return { message: error.message, code: code ?? '', remedy: remedy ?? '' };
}

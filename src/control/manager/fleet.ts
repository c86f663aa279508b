import { formatPrefix } from '../../shared/addr.js';
import type { Config, Prefix } from '../../shared/config.js';
import type { Tables } from '../../shared/layout.js';
import type { PortSpec, WorkerEvent, WorkerFault } from '../../shared/worker_protocol.js';
import type { Log } from '../log.js';
import { CaptureHub } from '../capture/hub.js';
import type { CounterBook } from '../metrics/book.js';
import { releaseMitigation } from '../mitigation/release.js';
import { Adoption } from './adoption.js';
import { FlowOffload } from './flow_offload.js';
import type { NamedSets } from './kernel_sets.js';
import { vipsOf } from './config_parts.js';
import { ManagedInterface } from './managed_interface.js';
import { RuleOffload } from './rule_offload.js';
import { Starting } from './starting.js';
import { errorText } from './text.js';
import { WorkerHandle } from './worker_handle.js';

/** How often interfaces that are gone, and ports that are not open, are looked at again. */
const RECONCILE_MS = 250;

/** How long workers may take to adopt tables. Importing a filter module is part of it. */
const ADOPT_MS = 10_000;

/** What is wanted of rules in the kernel; `nameOf`: name of a rule by its number in the tables. */
export interface OffloadOrder {
  /** Of the tables. */
  config: Config;
  nameOf: (rule: number) => string;
  /** Sets of the tables, by name. */
  sets: NamedSets;
}

/**
 * The interfaces and the workers, and what ties them together: each open port's socket in its interface's XSKMAP. Keeps that
 * state right over crashes of workers and loss and return of interfaces.
 */
export class Fleet {
  readonly interfaces: ManagedInterface[];
  readonly workers: WorkerHandle[] = [];
  readonly captures: CaptureHub;
  readonly offload: RuleOffload;
  readonly flows: FlowOffload;
  private adoption: Adoption | null = null;
  private starting: Starting | null = null;
  /** What every worker has adopted: what a restarted one begins with. */
  private tables!: Tables;
  private timer: NodeJS.Timeout | null = null;
  private reconciling = false;
  private stopped = false;
  /** Ports that a worker was asked to open and has not answered for, as "queue/index". */
  private readonly opening = new Set<string>();

  constructor(
    private readonly config: Config,
    private readonly counters: CounterBook,
    private readonly log: Log,
    vips: readonly Prefix[],
  ) {
    this.interfaces = config.interfaces.map((entry, index) => new ManagedInterface({ ...entry }, index, vips));
    this.captures = new CaptureHub({
      workers: () => this.workers,
      interfaces: () => this.interfaces,
      log,
      onChange: () => this.offload.capturesChanged(),
    });
    this.offload = new RuleOffload({
      interfaces: this.interfaces,
      captures: () => this.captures.specs,
      changed: () => this.flows.apply(),
      log,
    });
    this.flows = new FlowOffload({
      interfaces: this.interfaces,
      workers: () => this.workers,
      captures: () => this.captures.specs,
      rules: this.offload,
      log,
    });
    counters.flowsInKernel = this.flows;
    counters.inKernel = (rule, counter) => this.offload.count(rule, counter);
    counters.limitTableFullInKernel = () => this.offload.limitTableFull;
  }

  /** Attaches every program. On failure nothing stays attached. */
  async attach(): Promise<void> {
    try {
      for (const entry of this.interfaces) {
        await entry.attach();
        this.log.info('program attached', { interface: entry.name, mode: entry.mode, queues: entry.queues });
      }
    } catch (error) {
      for (const entry of this.interfaces) entry.detach();
      throw error;
    }
  }

  /** Numbers of the workers, ascending; before they are there, as they will be. Known once programs are attached. */
  get queues(): number[] {
    if (this.workers.length > 0) return this.workers.map(({ queue }) => queue);
    return [...new Set(this.interfaces.flatMap((entry) => entry.queues))].sort((a, b) => a - b);
  }

  /** Starts one worker a queue and waits until all their sockets serve. On failure everything is stopped again. */
  async start(tables: Tables, rules: OffloadOrder): Promise<void> {
    this.tables = tables;
    await this.offload.prepare(tables, rules.config.offload, rules.sets);
    this.offload.check(tables, rules.config.offload, rules.nameOf);
    const queues = this.queues;
    for (const queue of queues) this.workers.push(this.makeWorker(queue));
    this.starting = new Starting(queues);
    for (const worker of this.workers) worker.start();
    try {
      await this.starting.done;
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      this.starting = null;
    }
    this.offload.use(tables, rules.config.offload);
    this.flows.use(tables, rules.config.flowOffload, vipsOf(rules.config).map(formatPrefix));
    this.timer = setInterval(() => void this.reconcile(), RECONCILE_MS);
  }

  private makeWorker(queue: number): WorkerHandle {
    const { count, size, hugepages, burst } = this.config.frames;
    return new WorkerHandle({
      queue,
      frames: { count, size, hugepages, burst },
      flowSlots: this.config.flows.slots,
      counters: this.counters.worker(queue),
      log: this.log,
      ports: () => this.portsOf(queue),
      tables: () => this.tables,
      onEvent: (event) => this.hear(queue, event),
      onExit: (problem) => this.workerGone(queue, problem),
    });
  }

  private portsOf(queue: number): PortSpec[] {
    return this.interfaces
      .filter((entry) => entry.attached && entry.queues.includes(queue))
      .map((entry) => entry.portSpec(queue, this.config.frames.ring));
  }

  private hear(queue: number, event: WorkerEvent): void {
    switch (event.kind) {
      case 'ready':
        for (const port of event.ports) this.bind(port.index, queue, port.fd, port.zeroCopy);
        for (const { port, fault } of event.faults) this.logFault(port, fault);
        this.catchUp();
        this.captures.workerReady(queue);
        break;
      case 'opened':
        this.opening.delete(`${queue}/${event.port.index}`);
        this.bind(event.port.index, queue, event.port.fd, event.port.zeroCopy);
        this.log.info('port opened', { interface: event.port.interface, queue });
        break;
      case 'open-failed':
        this.opening.delete(`${queue}/${event.port.index}`);
        this.logFault(event.port, event.fault);
        break;
      case 'lost':
        this.log.warn('interface is gone', { interface: event.interface, queue });
        this.interfaces[event.index].unbindSocket(queue);
        break;
      case 'aborted':
        this.log.error('filter threw, packet dropped', { queue, ...event });
        break;
      case 'stopped':
        if (!event.conserved) this.log.error('frames are missing', { queue, ...event.frames });
        break;
      case 'adopted':
      case 'refused':
      case 'closed':
      case 'failed':
        break;
    }
    this.starting?.hear(queue, event);
    this.adoption?.hear(queue, event);
  }

  private bind(index: number, queue: number, fd: number, zeroCopy: boolean): void {
    try {
      this.interfaces[index].bindSocket(queue, fd, zeroCopy);
    } catch (error) {
      this.log.error('socket cannot be put into the XSKMAP', { queue, err: error });
    }
  }

  private logFault(port: PortSpec, fault: WorkerFault): void {
    const message = fault.remedy ? `${fault.message}. ${fault.remedy}` : fault.message;
    this.log
      .limited('port-open', 1)
      .warn('port does not open', { interface: port.interface, queue: port.queue, message });
  }

  /** Its sockets are closed, so the kernel has emptied their XSKMAP entries. */
  private workerGone(queue: number, problem: string): void {
    for (const entry of this.interfaces) entry.unbindSocket(queue);
    for (const key of this.opening) if (key.startsWith(`${queue}/`)) this.opening.delete(key);
    this.captures.workerGone(queue);
    releaseMitigation(this.tables, queue);
    this.adoption?.died(queue, problem);
    this.starting?.died(queue, problem);
  }

  /** Publishes tables to all workers, waits for their word, then changes the rules in the kernel. Refusals come back; [] is success. Throws as RuleOffload.check. */
  async publish(tables: Tables, rules: OffloadOrder): Promise<{ queue: number; fault: WorkerFault }[]> {
    await this.offload.prepare(tables, rules.config.offload, rules.sets);
    this.offload.check(tables, rules.config.offload, rules.nameOf);
    const serving = this.workers.filter((worker) => worker.post({ kind: 'tables', tables }));
    this.adoption = new Adoption(
      tables.generation,
      serving.map((worker) => worker.queue),
      ADOPT_MS,
    );
    const refusals = await this.adoption.done;
    this.adoption = null;
    if (refusals.length === 0) {
      this.tables = tables;
      this.catchUp();
      // Last: what the former rules drop until here, the former tables would have dropped too.
      this.offload.use(tables, rules.config.offload);
      this.flows.use(tables, rules.config.flowOffload, vipsOf(rules.config).map(formatPrefix));
    }
    return refusals;
  }

  /** Workers that started while tables were being published began with the former ones. */
  private catchUp(): void {
    if (this.adoption) return;
    for (const worker of this.workers) {
      if (worker.running && worker.generation !== this.tables.generation) {
        worker.post({ kind: 'tables', tables: this.tables });
      }
    }
  }

  addVips(vips: readonly Prefix[]): void {
    for (const entry of this.interfaces) entry.addVips(vips);
  }

  setVips(vips: readonly Prefix[]): void {
    for (const entry of this.interfaces) entry.setVips(vips);
  }

  /** Brings interfaces that came back and ports that are closed into service again. */
  private async reconcile(): Promise<void> {
    if (this.reconciling || this.stopped) return;
    this.reconciling = true;
    try {
      for (const entry of this.interfaces) await this.reconcileInterface(entry);
    } finally {
      this.reconciling = false;
    }
  }

  private async reconcileInterface(entry: ManagedInterface): Promise<void> {
    const info = ManagedInterface.look(entry.name);
    if (entry.attached && info?.ifindex !== entry.ifindex) {
      entry.detach();
      this.flows.apply();
      for (const worker of this.workers) worker.post({ kind: 'close', index: entry.index });
      this.log.warn('interface is lost; waiting for it to come back', { interface: entry.name });
    }
    if (!info || this.stopped) return;
    if (!entry.attached) {
      try {
        await entry.attach();
      } catch (error) {
        this.log.limited(`attach ${entry.index}`, 0.2).warn('interface is back but not usable', {
          interface: entry.name,
          message: errorText(error),
        });
        return;
      }
      this.log.info('interface is back', { interface: entry.name, mode: entry.mode });
      this.offload.attached();
    }
    const unbound = new Set(entry.unboundQueues);
    for (const worker of this.workers) {
      const key = `${worker.queue}/${entry.index}`;
      if (!worker.running || !unbound.has(worker.queue) || !entry.queues.includes(worker.queue)) continue;
      if (this.opening.has(key)) continue;
      if (worker.post({ kind: 'open', port: entry.portSpec(worker.queue, this.config.frames.ring) })) {
        this.opening.add(key);
      }
    }
  }

  /** Detaches, lets the workers empty their rings, closes. Idempotent. */
  async stop(): Promise<void> {
    this.stopped = true;
    if (this.timer) clearInterval(this.timer);
    this.adoption?.cancel();
    for (const entry of this.interfaces) entry.detach();
    await Promise.all(this.workers.map((worker) => worker.stop()));
    await this.captures.stop();
    this.flows.close();
    this.offload.close();
  }
}

import { readFileSync } from 'node:fs';
import type { CaptureSpec } from '../../shared/capture_spec.js';
import type { Config } from '../../shared/config.js';
import { FlowRecord, FlowRing, flowRingMemory, FlowSaying } from '../../shared/flow_ring.js';
import { BackendField, type BackendCounter, type Counter, type ServiceCounter } from '../../shared/layout.js';
import type { WorkerCommand } from '../../shared/worker_protocol.js';
import type { FlowOffloadStatus } from '../api/contract_flows.js';
import type { Log } from '../log.js';
import { standsInTheWay, type FlowTables, type RulesInKernel } from './flow_admission.js';
import { FlowBackends } from './flow_backends.js';
import { FlowCache } from './flow_cache.js';
import { FlowCounts } from './flow_counts.js';
import { FlowInstaller } from './flow_installer.js';
import { FlowProof } from './flow_proof.js';
import { errorText } from './text.js';

export type FlowOffloadMode = Config['flowOffload'];

/** An interface as far as flows in the kernel go; see ManagedInterface. */
export interface FlowInterface {
  readonly name: string;
  readonly index: number;
  readonly attached: boolean;
  readonly mode: 'native' | 'generic' | null;
  readonly driver: string;
  readonly ifindex: number;
  setFlowCache(cache: FlowCache | null): void;
}

export interface FlowWorker {
  readonly queue: number;
  /** Of its thread; changes with each life. null: none runs. */
  readonly thread: object | null;
  post(command: WorkerCommand): boolean;
}

export interface FlowOffloadOptions {
  interfaces: readonly FlowInterface[];
  workers: () => readonly FlowWorker[];
  captures: () => readonly CaptureSpec[];
  rules: RulesInKernel;
  log: Log;
}

/** Between two turns, ms: longer than what lies in a worker's rings may wait for it. */
const TURN_MS = 50;
/** Between two looks at what the driver dropped, ms. */
const WATCH_MS = 1000;
/** From the update of a link until no CPU runs the former program any more, ms. */
const RETIRE_MS = 200;
/** Records of a worker's ring. */
const RING_RECORDS = 1024;
/** Packets between two looks from which it is believed what they say. */
const TELLING_PACKETS = 8;

const OFF = 'flow_offload is off';

interface Active {
  cache: FlowCache;
  backends: FlowBackends;
  installer: FlowInstaller;
  watchedMs: number;
  sent: number;
  dropped: number;
}

interface Rings {
  thread: object;
  fromWorker: FlowRing;
  toWorker: FlowRing;
  lost: number;
}

/** Has the rest of a flow run in the kernel, where the setting wants that and nothing stands in the way. docs/flow-offload.md */
export class FlowOffload {
  private mode: FlowOffloadMode = 'off';
  private tables: FlowTables | null = null;
  private destinations: readonly string[] = [];
  private settings = '';
  private why = OFF;
  /** By interface's index: what went wrong with it, for good. */
  private readonly failures = new Map<number, string>();
  /** By interface's index: why it has no cache. */
  private readonly hindrances = new Map<number, string>();
  private readonly active = new Map<number, Active>();
  private readonly rings = new Map<number, Rings>();
  private readonly retiring = new Map<Active, NodeJS.Timeout>();
  private timer: NodeJS.Timeout | null = null;
  private readonly proof = new FlowProof();
  /** Backends of the tables. */
  private backends = new Int32Array(0);
  readonly counts = new FlowCounts();

  constructor(private readonly options: FlowOffloadOptions) {}

  get status(): FlowOffloadStatus {
    return {
      mode: this.mode,
      why: this.why,
      interfaces: this.options.interfaces.map(({ name, index }) => {
        const installer = this.active.get(index)?.installer;
        const { size = 0, installed = 0, refused = 0 } = installer ?? {};
        return { name, why: this.why || (this.hindrances.get(index) ?? ''), flows: size, installed, refused };
      }),
    };
  }

  total(counter: Counter): number {
    return this.counts.total(counter);
  }

  backend(number: number, counter: BackendCounter): number {
    return this.counts.backend(number, counter);
  }

  service(number: number, counter: ServiceCounter): number {
    return this.counts.service(number, counter);
  }

  /** All workers have adopted these tables, and rules in the kernel are theirs. `destinations`: prefixes whose packets come to user space. */
  use(tables: FlowTables, mode: FlowOffloadMode, destinations: readonly string[]): void {
    this.mode = mode;
    const lostSome = this.destinations.some((destination) => !destinations.includes(destination));
    this.destinations = destinations;
    // What a program has for a constant, and what flows' own bytes come from.
    const { timeouts, hashKey, repairChecksums } = tables.settings;
    const settings = JSON.stringify([timeouts, hashKey, repairChecksums]);
    if (settings !== this.settings) this.takeOutAll();
    this.settings = settings;
    this.tables = tables;
    // What was offered before was decided by other tables.
    this.drain();
    this.backends = new Int32Array(Uint8Array.from(new Uint8Array(tables.backends)).buffer);
    this.counts.use(this.backends);
    for (const { backends: records, installer } of this.active.values()) {
      records.use(this.backends, new Int32Array(tables.services));
      if (lostSome) records.renew();
      installer.discard();
    }
    this.apply();
  }

  /** A capture has begun or ended, rules have come into the kernel or gone, an interface is back. */
  apply(): void {
    const { tables } = this;
    if (tables === null) return;
    this.why = this.mode === 'off' ? OFF : standsInTheWay(tables, this.options.rules, this.options.captures());
    for (const entry of this.options.interfaces) {
      const hindrance = this.why || this.hindranceOf(entry, tables);
      if (this.hindrances.get(entry.index) !== hindrance) this.say(entry, hindrance);
      this.hindrances.set(entry.index, hindrance);
      if (hindrance !== '') this.takeOut(entry);
      else if (!this.active.has(entry.index)) this.putIn(entry, tables);
    }
    if (this.active.size > 0) {
      this.timer ??= setInterval(() => this.turn(), TURN_MS).unref();
      this.connect();
    } else {
      this.disconnect();
    }
  }

  private hindranceOf(entry: FlowInterface, { settings }: FlowTables): string {
    if (!entry.attached) {
      this.proof.forget(entry);
      return 'the interface is not there';
    }
    const failed = this.failures.get(entry.index);
    if (failed !== undefined) return failed;
    if (entry.mode !== 'native') return 'its XDP program is in generic mode';
    if (settings.repairChecksums[entry.index] === true) return 'checksums are completed';
    return '';
  }

  private say({ name }: FlowInterface, why: string): void {
    const { log } = this.options;
    if (why === '') log.info('flows may run in the kernel', { interface: name });
    else if (why !== OFF) log.info('flows run in user space', { interface: name, why });
  }

  private putIn(entry: FlowInterface, tables: FlowTables): void {
    const { timeouts } = tables.settings;
    const idle = { tcpMs: timeouts.tcpEstablished * 1000, udpMs: timeouts.udp * 1000 };
    let cache: FlowCache | null = null;
    try {
      cache = new FlowCache(idle);
      const backends = new FlowBackends(cache, (port) => this.ifindexOf(entry, port));
      backends.use(new Int32Array(tables.backends), new Int32Array(tables.services));
      const installer = new FlowInstaller({
        target: cache,
        generationOf: (number, incarnation) => backends.generationOf(number, incarnation),
        idleMs: Math.max(idle.tcpMs, idle.udpMs),
        tell: (worker) => this.rings.get(worker)?.toWorker ?? null,
      });
      entry.setFlowCache(cache);
      const dropped = droppedBy(entry.name);
      this.active.set(entry.index, { cache, backends, installer, watchedMs: 0, sent: 0, dropped });
      this.counts.add(cache, () => backends.numbers);
    } catch (error) {
      cache?.close();
      const message = errorText(error).split('\n')[0];
      this.options.log.warn('the kernel does not take the cache of flows', { interface: entry.name, message });
      this.failures.set(entry.index, `the kernel does not take it: ${message}`);
      this.hindrances.set(entry.index, this.failures.get(entry.index)!);
    }
  }

  /** Of the interface behind a port, as FlowBackends wants it. */
  private ifindexOf(own: FlowInterface, port: number): number {
    const isOwn = port === own.index;
    const outlet = isOwn ? own : this.options.interfaces[port];
    if (!outlet?.attached || outlet.mode !== 'native' || this.proof.drops(outlet, !isOwn)) return -1;
    return isOwn ? 0 : outlet.ifindex;
  }

  private takeOut(entry: FlowInterface): void {
    const active = this.active.get(entry.index);
    if (!active) return;
    this.active.delete(entry.index);
    this.proof.abandon();
    active.backends.close();
    try {
      entry.setFlowCache(null);
    } catch (error) {
      this.options.log.error('the cache of flows cannot be taken out', { interface: entry.name, err: error });
    }
    this.retiring.set(
      active,
      setTimeout(() => this.retire(active), RETIRE_MS),
    );
  }

  private takeOutAll(): void {
    for (const entry of this.options.interfaces) this.takeOut(entry);
  }

  private retire(active: Active): void {
    clearTimeout(this.retiring.get(active));
    this.retiring.delete(active);
    this.counts.remove(active.cache);
    active.cache.close();
  }

  /** Gives each thread of a worker its rings. */
  private connect(): void {
    for (const worker of this.options.workers()) {
      const { queue, thread } = worker;
      if (thread === null || this.rings.get(queue)?.thread === thread) continue;
      const memory = { fromWorker: flowRingMemory(RING_RECORDS), toWorker: flowRingMemory(RING_RECORDS) };
      if (!worker.post({ kind: 'offer-flows', rings: memory })) continue;
      const fromWorker = new FlowRing(memory.fromWorker);
      this.rings.set(queue, { thread, fromWorker, toWorker: new FlowRing(memory.toWorker), lost: 0 });
    }
  }

  private disconnect(): void {
    if (this.timer) clearInterval(this.timer);
    this.timer = null;
    for (const worker of this.options.workers()) {
      if (this.rings.get(worker.queue)?.thread === worker.thread) worker.post({ kind: 'offer-flows', rings: null });
    }
    this.rings.clear();
  }

  private turn(): void {
    const now = Number(process.hrtime.bigint() / 1_000_000n);
    this.connect();
    this.drain();
    for (const [index, active] of this.active) {
      active.installer.turn(now);
      if (now - active.watchedMs >= WATCH_MS) this.watch(this.options.interfaces[index], active, now);
    }
    const dropping = this.proof.judge(this.options.interfaces);
    for (const { name } of dropping) {
      this.options.log.warn('flows by this interface stay in user space: it drops what XDP sends', { interface: name });
    }
    if (dropping.length > 0 && this.tables) {
      const services = new Int32Array(this.tables.services);
      for (const { backends } of this.active.values()) backends.use(this.backends, services);
    }
  }

  /** Hears what workers have to say. */
  private drain(): void {
    const now = Number(process.hrtime.bigint() / 1_000_000n);
    for (const [queue, rings] of this.rings) {
      const { fromWorker } = rings;
      while (fromWorker.take()) this.hear(queue, fromWorker.record, now);
      if (fromWorker.lost === rings.lost) continue;
      rings.lost = fromWorker.lost;
      for (const { installer } of this.active.values()) installer.discard();
    }
  }

  private hear(queue: number, record: Int32Array, now: number): void {
    if (record[FlowRecord.what] >>> 16 === (FlowSaying.offer as number)) {
      this.offered(queue, record, now);
    } else {
      // It may have come in by any interface.
      for (const { installer } of this.active.values()) installer.ended(record);
    }
  }

  private offered(queue: number, record: Int32Array, now: number): void {
    const port = record[FlowRecord.sportAndPort] & 0xffff;
    const active = this.active.get(port);
    if (!active) return;
    const { cache, backends, installer } = active;
    const number = record[FlowRecord.backend];
    if (backends.generationOf(number, record[FlowRecord.incarnation]) === 0) return;
    const out = this.backends[number * BackendField.STRIDE + BackendField.port];
    const outlet = this.options.interfaces[out];
    if (this.proof.admits(outlet, out !== port, () => cache.countsOf(number)[0])) installer.offer(queue, record, now);
  }

  /** Compares what the cache gave to the driver with what the driver dropped. */
  private watch(entry: FlowInterface, active: Active, now: number): void {
    const { tx } = active.cache.stats();
    const sent = tx - active.sent;
    const dropped = droppedBy(entry.name) - active.dropped;
    active.watchedMs = now;
    active.sent += sent;
    active.dropped += dropped;
    if (sent >= TELLING_PACKETS && dropped * 2 >= sent) {
      this.failures.set(entry.index, 'its driver drops what XDP sends');
      this.options.log.warn('flows go back to user space: the driver drops what XDP sends', {
        interface: entry.name,
        sent,
        dropped,
      });
      this.apply();
    }
  }

  /** No program is attached any more. */
  close(): void {
    this.mode = 'off';
    this.disconnect();
    this.takeOutAll();
    for (const active of [...this.retiring.keys()]) this.retire(active);
  }
}

/** Position of the dropped among the numbers of an interface in /proc/net/dev that are about sending, which follow eight about receiving. */
const TX_DROPPED = 8 + 3;

/** Packets that an interface could not send, since it is there. Not by /sys, which may be another namespace's. */
function droppedBy(name: string): number {
  const line = readFileSync('/proc/thread-self/net/dev', 'utf8')
    .split('\n')
    .find((text) => text.trimStart().startsWith(`${name}:`));
  const numbers =
    line
      ?.slice(line.indexOf(':') + 1)
      .trim()
      .split(/\s+/) ?? [];
  return Number(numbers[TX_DROPPED] ?? 0);
}

import type { CaptureSpec } from '../../shared/capture_spec.js';
import type { Config } from '../../shared/config.js';
import { FlowRecord, FlowRing, flowRingMemory, FlowSaying } from '../../shared/flow_ring.js';
import { BackendField, type BackendCounter, type Counter, type ServiceCounter } from '../../shared/layout.js';
import type { WorkerCommand } from '../../shared/worker_protocol.js';
import type { FlowOffloadStatus } from '../api/contract_flows.js';
import type { Log } from '../log.js';
import {
  admissionKey,
  isCaptured,
  runsAllRules,
  standsInTheWay,
  type FlowTables,
  type RulesInKernel,
} from './flow_admission.js';
import { FlowBackends } from './flow_backends.js';
import { FlowCache } from './flow_cache.js';
import { FlowCounts } from './flow_counts.js';
import { DropWatch } from './flow_drops.js';
import { FlowInstaller } from './flow_installer.js';
import { FlowProof } from './flow_proof.js';
import { FlowWalk } from './flow_walk.js';
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
/** From the update of a link until no CPU runs the former program any more, ms. */
const RETIRE_MS = 200;
/** Records of the rings from and to a worker: 64 KiB and 1 MiB. */
const OFFERS = 1024;
const SEEN = 16384;

const OFF = 'flow_offload is off';

interface Active {
  cache: FlowCache;
  backends: FlowBackends;
  installer: FlowInstaller;
  walk: FlowWalk;
  drops: DropWatch;
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
  private admission = '';
  /** Whether flows are offered that rules may match. */
  private ruled = false;
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
        const { installer, walk } = this.active.get(index) ?? {};
        const { installed = 0, refused = 0 } = installer ?? {};
        const flows = walk?.flows ?? 0;
        return { name, why: this.why || (this.hindrances.get(index) ?? ''), flows, installed, refused };
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
      installer.discard();
    }
    const admission = admissionKey(tables);
    if (lostSome || admission !== this.admission) this.renew();
    this.admission = admission;
    this.apply();
  }

  /** A capture has begun or ended, rules have come into the kernel or gone, an interface is back. */
  apply(): void {
    const { tables } = this;
    if (tables === null) return;
    this.why = this.mode === 'off' ? OFF : standsInTheWay(tables, this.options.rules);
    const ruled = runsAllRules(tables, this.options.rules);
    if (ruled !== this.ruled) this.renew();
    this.ruled = ruled;
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
    if (isCaptured(this.options.captures(), entry.index)) return 'a capture runs';
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
      const { flows } = cache;
      const keeps = (number: number, generation: number): boolean => backends.keeps(number, generation);
      const generationOf = (number: number, incarnation: number): number => backends.generationOf(number, incarnation);
      const installer = new FlowInstaller({ flows, generationOf, keeps });
      const walk = new FlowWalk({
        flows,
        idle,
        keeps,
        tell: (worker) => this.rings.get(worker)?.toWorker ?? null,
      });
      entry.setFlowCache(cache);
      this.active.set(entry.index, { cache, backends, installer, walk, drops: new DropWatch(entry.name) });
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

  /** All flows are void, and what was offered; those that are offered from now on are not. */
  private renew(): void {
    for (const { backends, installer } of this.active.values()) {
      backends.renew();
      installer.discard();
    }
    // Over new rings: what workers have offered by the old ones was decided before.
    this.rings.clear();
  }

  /** Gives each thread of a worker its rings. */
  private connect(): void {
    for (const worker of this.options.workers()) {
      const { queue, thread } = worker;
      if (thread === null || this.rings.get(queue)?.thread === thread) continue;
      const memory = { fromWorker: flowRingMemory(OFFERS), toWorker: flowRingMemory(SEEN) };
      if (!worker.post({ kind: 'offer-flows', rings: memory, ruled: this.ruled })) continue;
      const fromWorker = new FlowRing(memory.fromWorker);
      this.rings.set(queue, { thread, fromWorker, toWorker: new FlowRing(memory.toWorker), lost: 0 });
    }
  }

  private disconnect(): void {
    if (this.timer === null) return;
    clearInterval(this.timer);
    this.timer = null;
    for (const worker of this.options.workers()) worker.post({ kind: 'offer-flows', rings: null, ruled: false });
    this.rings.clear();
  }

  private turn(): void {
    const now = Number(process.hrtime.bigint() / 1_000_000n);
    this.drain();
    this.connect();
    for (const [index, active] of [...this.active]) {
      active.installer.turn(now);
      active.walk.turn(now);
      this.watch(this.options.interfaces[index], active, now);
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
    for (const [queue, rings] of this.rings) {
      const { fromWorker } = rings;
      while (fromWorker.take()) this.hear(queue, fromWorker.record);
      if (fromWorker.lost === rings.lost) continue;
      rings.lost = fromWorker.lost;
      for (const { installer } of this.active.values()) installer.discard();
    }
  }

  private hear(queue: number, record: Int32Array): void {
    if (record[FlowRecord.what] >>> 16 === (FlowSaying.offer as number)) {
      this.offered(queue, record);
    } else {
      // It may have come in by any interface.
      for (const { installer } of this.active.values()) installer.ended(record);
    }
  }

  private offered(queue: number, record: Int32Array): void {
    const port = record[FlowRecord.sportAndPort] & 0xffff;
    const active = this.active.get(port);
    if (!active) return;
    const { cache, backends, installer } = active;
    const number = record[FlowRecord.backend];
    if (backends.generationOf(number, record[FlowRecord.incarnation]) === 0) return;
    const out = this.backends[number * BackendField.STRIDE + BackendField.port];
    const outlet = this.options.interfaces[out];
    if (this.proof.admits(outlet, out !== port, () => cache.countsOf(number)[0])) installer.offer(queue, record);
  }

  private watch({ name, index }: FlowInterface, { cache, drops }: Active, now: number): void {
    const lost = drops.look(() => cache.stats().tx, now);
    if (lost === null) return;
    this.failures.set(index, 'its driver drops what XDP sends');
    this.options.log.warn('flows go back to user space: the driver drops what XDP sends', { interface: name, ...lost });
    this.apply();
  }

  /** No program is attached any more. */
  close(): void {
    this.mode = 'off';
    this.disconnect();
    this.takeOutAll();
    for (const active of [...this.retiring.keys()]) this.retire(active);
  }
}

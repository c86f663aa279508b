import type { BackendCounter, ServiceCounter } from '../../shared/layout.js';
import { BackendField, Counter } from '../../shared/layout.js';
import type { FlowStat } from '../ebpf/flow_layout.js';

/** Of a cache, what is needed here; see FlowCache. */
export interface FlowCounting {
  countsOf(backend: number): number[];
  stats(): Record<FlowStat, number>;
}

/** What was read of a cache last. */
interface Read {
  backends: Map<number, number[]>;
  stats: Record<FlowStat, number> | null;
}

/** How long counters are good for after they were read from the kernel, ms: who reads one of them reads all. */
const FRESH_MS = 20;

/**
 * What caches of flows have counted, in the words of a worker's counters and as one more worker: sums over all caches since the daemon started, also of those
 * that are gone. Never goes down.
 */
export class FlowCounts {
  private readonly caches = new Map<FlowCounting, { numbers: () => Iterable<number>; read: Read }>();
  private readonly byBackend = new Map<number, number[]>();
  private readonly byService = new Map<number, number[]>();
  private readonly totals = new Map<Counter, number>();
  private backends = new Int32Array(0);
  private readMs = -Infinity;

  /** `numbers`: of the backends that flows of the cache may be sent to. */
  add(cache: FlowCounting, numbers: () => Iterable<number>): void {
    this.caches.set(cache, { numbers, read: { backends: new Map(), stats: null } });
  }

  /** No CPU runs its program any more: its counts are final. */
  remove(cache: FlowCounting): void {
    this.read(cache);
    this.caches.delete(cache);
  }

  /** From now on backends are of these services. */
  use(backends: Int32Array<ArrayBuffer>): void {
    this.refresh(true);
    this.backends = backends;
  }

  backend(number: number, counter: BackendCounter): number {
    this.refresh(false);
    return this.byBackend.get(number)?.[counter] ?? 0;
  }

  service(number: number, counter: ServiceCounter): number {
    this.refresh(false);
    return this.byService.get(number)?.[counter] ?? 0;
  }

  total(counter: Counter): number {
    this.refresh(false);
    return this.totals.get(counter) ?? 0;
  }

  private refresh(always: boolean): void {
    const now = performance.now();
    if (this.caches.size === 0 || (!always && now - this.readMs < FRESH_MS)) return;
    this.readMs = now;
    for (const cache of this.caches.keys()) this.read(cache);
  }

  private read(cache: FlowCounting): void {
    const found = this.caches.get(cache);
    if (!found) return;
    const { numbers, read } = found;
    for (const number of numbers()) {
      const counts = cache.countsOf(number);
      const before = read.backends.get(number);
      const moved = counts.map((count, i) => count - (before?.[i] ?? 0));
      if (moved.every((by) => by === 0)) continue;
      read.backends.set(number, counts);
      add(this.byBackend, number, moved);
      const service = this.backends[number * BackendField.STRIDE + BackendField.service] ?? 0;
      add(this.byService, service, moved);
    }
    const stats = cache.stats();
    const by = (name: FlowStat): number => stats[name] - (read.stats?.[name] ?? 0);
    const packets = by('tx') + by('redirect');
    this.count(Counter.rx, packets);
    this.count(Counter.flowHit, packets);
    this.count(Counter.tx, by('tx'));
    this.count(Counter.redirect, by('redirect'));
    this.count(Counter.rxBytes, by('rx_bytes'));
    this.count(Counter.txBytes, by('tx_bytes'));
    read.stats = stats;
  }

  private count(counter: Counter, by: number): void {
    this.totals.set(counter, (this.totals.get(counter) ?? 0) + by);
  }
}

/** Packets and bytes, which are the first two counters of backends and of services. */
function add(sums: Map<number, number[]>, number: number, moved: readonly number[]): void {
  const sum = sums.get(number) ?? [0, 0];
  sums.set(
    number,
    sum.map((count, i) => count + moved[i]),
  );
}

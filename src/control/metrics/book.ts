/** All counters of the daemon: the workers' blocks, and what services, backends, rules and filters counted by name. */
import { BackendCounter, RuleCounter, ServiceCounter } from '../../shared/layout.js';
import type { Counter } from '../../shared/layout.js';
import { WorkerCounters } from '../counters.js';
import { CounterLedger } from './ledger.js';

/** Who counts under which number: part of a `RuntimeView`, or made for the occasion. */
export interface Numbering {
  services: readonly { name: string; number: number; backends: readonly { address: string; number: number }[] }[];
  rules: readonly { name: string; id: number }[];
  /** Limits, which are numbered with the rules; `key`: name in the book. */
  limits?: readonly { key: string; id: number }[];
  /** Names of module filters with their position in the chain. */
  filters: readonly { name: string; position: number }[];
}

type BackendSum = Exclude<BackendCounter, BackendCounter.flows>;

/**
 * Sums over workers, by name. A worker that is no longer configured stays in the sums, or they would go down.
 *
 * The owner calls `assign` with the new numbering right before it publishes tables in which a number changes hands; the
 * readers call it again, which does nothing when nothing changed.
 */
export class CounterBook {
  private readonly byQueue = new Map<number, WorkerCounters>();
  private list: WorkerCounters[] = [];
  private assigned: Numbering | null = null;
  private readonly services: CounterLedger;
  private readonly backends: CounterLedger;
  private readonly rules: CounterLedger;
  private readonly filters: CounterLedger;
  private readonly kernelRules: CounterLedger;
  /** What the kernel has counted under a rule's number, as one more worker; never goes down. */
  inKernel: (rule: number, counter: RuleCounter) => number = () => 0;

  /** Packets that the kernel sent to backends by itself, in the words of a worker's counters; never goes down. */
  flowsInKernel: {
    total: (counter: Counter) => number;
    service: (service: number, counter: ServiceCounter) => number;
    backend: (backend: number, counter: BackendCounter) => number;
  } | null = null;

  /** Packets that limits in the kernel dropped because a table was full. */
  limitTableFullInKernel: () => number = () => 0;

  constructor() {
    const ledger = (fields: number, read: (worker: WorkerCounters, slot: number, field: number) => number) =>
      new CounterLedger(fields, (slot, field) => this.sum((worker) => read(worker, slot, field)));
    this.services = new CounterLedger(
      ServiceCounter.SIZE,
      (slot, field) =>
        this.sum((worker) => worker.service(slot, field)) + (this.flowsInKernel?.service(slot, field) ?? 0),
    );
    this.backends = new CounterLedger(
      BackendCounter.SIZE,
      (slot, field) =>
        this.sum((worker) => worker.backend(slot, field)) + (this.flowsInKernel?.backend(slot, field) ?? 0),
    );
    this.rules = new CounterLedger(
      RuleCounter.SIZE,
      (slot, field) => this.sum((worker) => worker.rule(slot, field)) + this.inKernel(slot, field),
    );
    this.kernelRules = new CounterLedger(RuleCounter.SIZE, (slot, field) => this.inKernel(slot, field));
    this.filters = ledger(1, (worker, slot) => worker.filter(slot));
  }

  /** The counters of a queue's worker; made on first use and kept for good. */
  worker(queue: number): WorkerCounters {
    let worker = this.byQueue.get(queue);
    if (worker === undefined) {
      worker = new WorkerCounters(queue);
      this.byQueue.set(queue, worker);
      this.list = [...this.byQueue.values()].sort((a, b) => a.queue - b.queue);
    }
    return worker;
  }

  /** By queue, ascending. */
  workers(): readonly WorkerCounters[] {
    return this.list;
  }

  /** Takes over a numbering. Cheap when it is the same object as the last time. */
  assign(numbering: Numbering): void {
    if (numbering === this.assigned) return;
    this.services.assign(numbering.services.map(({ name, number }) => ({ key: name, slot: number })));
    this.backends.assign(
      numbering.services.flatMap((service) =>
        service.backends.map(({ address, number }) => ({ key: backendKey(service.name, address), slot: number })),
      ),
    );
    const rules = [
      ...numbering.rules.map(({ name, id }) => ({ key: name, slot: id })),
      ...(numbering.limits ?? []).map(({ key, id }) => ({ key, slot: id })),
    ];
    this.rules.assign(rules);
    this.kernelRules.assign(rules);
    this.filters.assign(numbering.filters.map(({ name, position }) => ({ key: name, slot: position })));
    this.assigned = numbering;
  }

  total(counter: Counter): number {
    return this.sum((worker) => worker.total(counter)) + (this.flowsInKernel?.total(counter) ?? 0);
  }

  reason(reason: number): number {
    return this.sum((worker) => worker.reason(reason));
  }

  service(name: string, counter: ServiceCounter): number {
    return this.services.value(name, counter);
  }

  /** Packets, bytes or new flows of a backend. For its gauge of flows see `backendFlows`. */
  backend(service: string, address: string, counter: BackendSum): number {
    return this.backends.value(backendKey(service, address), counter);
  }

  /** The same for who reads several counters of many backends; see `backendKey`. */
  backendByKey(key: string, counter: BackendSum): number {
    return this.backends.value(key, counter);
  }

  /** Flows that lead to the backend with this number now. */
  backendFlows(number: number): number {
    return this.sum((worker) => worker.backend(number, BackendCounter.flows));
  }

  rule(name: string, counter: RuleCounter): number {
    return this.rules.value(name, counter);
  }

  /** What of `rule` was counted in the kernel. */
  kernelRule(name: string, counter: RuleCounter): number {
    return this.kernelRules.value(name, counter);
  }

  /** Packets that a module filter dropped. */
  filter(name: string): number {
    return this.filters.value(name, 0);
  }

  /** Identities that do not hold, over all workers; see `WorkerCounters.check`. */
  check(): string[] {
    return this.list.flatMap((worker) => worker.check());
  }

  private sum(read: (worker: WorkerCounters) => number): number {
    let sum = 0;
    for (const worker of this.list) sum += read(worker);
    return sum;
  }
}

/** Name of a backend in the book. An address holds no line feed, so the last one parts it from the service's name. */
export function backendKey(service: string, address: string): string {
  return `${service}\n${address}`;
}

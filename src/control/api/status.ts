import { BackendCounter, Counter, PortCounter, RuleCounter, ServiceCounter } from '../../shared/layout.js';
import { DROP_REASONS } from '../counters.js';
import type { WorkerCounters } from '../counters.js';
import type { CounterBook } from '../metrics/book.js';
import type { Status, StatusInterface, StatusService, StatusTotals, StatusWorker } from './contract.js';
import { mitigationStatus } from './status_mitigation.js';
import { missing } from './view.js';
import type { InterfaceView, RuntimeView, ServiceView, WorkerView } from './view.js';

/** Reads every counter once and says how the daemon is. `clockMs` is a monotonic clock in milliseconds. */
export function buildStatus(view: RuntimeView, clockMs: number = performance.now()): Status {
  const book = view.counters;
  book.assign(view);
  const lines = missing(view);
  return {
    version: view.version,
    pid: view.pid,
    uptimeSeconds: Math.max(0, (Date.now() - view.startedAtMs) / 1000),
    clockMs,
    configPath: view.configPath,
    generation: view.generation,
    lastReload: view.lastReload,
    ready: lines.length === 0,
    missing: lines,
    totals: totalsOf(book),
    drops: dropsOf(book),
    workers: view.workers.map((worker) => workerStatus(worker, book.worker(worker.queue))),
    interfaces: view.interfaces.map(interfaceStatus),
    services: view.services.map((service) => serviceStatus(service, book)),
    rules: view.rules.map(({ name, action, mode }) => ({
      name,
      action,
      mode,
      packets: book.rule(name, RuleCounter.packets),
      bytes: book.rule(name, RuleCounter.bytes),
      acted: book.rule(name, RuleCounter.acted),
      actedBytes: book.rule(name, RuleCounter.actedBytes),
    })),
    filters: view.filters.map(({ name }) => ({ name, drops: book.filter(name) })),
    mitigation: mitigationStatus(view),
    flowOffload: view.flowOffload ?? null,
    violations: book.check(),
  };
}

function totalsOf(book: CounterBook): StatusTotals {
  return {
    rx: book.total(Counter.rx),
    rxBytes: book.total(Counter.rxBytes),
    drop: book.total(Counter.drop),
    pass: book.total(Counter.pass),
    tx: book.total(Counter.tx),
    txBytes: book.total(Counter.txBytes),
    redirect: book.total(Counter.redirect),
    aborted: book.total(Counter.aborted),
    noService: book.total(Counter.noService),
    flowHit: book.total(Counter.flowHit),
    flowMiss: book.total(Counter.flowMiss),
    flowBypass: book.total(Counter.flowBypass),
    flowEvict: book.total(Counter.flowEvict),
    flows: book.total(Counter.flows),
    sampledNs: book.total(Counter.sampledNs),
    sampledPackets: book.total(Counter.sampledPackets),
  };
}

function dropsOf(book: CounterBook): Record<string, number> {
  const drops: Record<string, number> = {};
  DROP_REASONS.forEach((name, reason) => {
    const packets = book.reason(reason);
    if (packets > 0) drops[name] = packets;
  });
  return drops;
}

function workerStatus(worker: WorkerView, counters: WorkerCounters): StatusWorker {
  let kernelLost = 0;
  for (const { index } of worker.ports) {
    // rx_dropped of XDP_STATISTICS already includes what an empty fill ring lost (kernel-facts 2a, row 1).
    kernelLost +=
      counters.port(index, PortCounter.kernelRxDropped) + counters.port(index, PortCounter.kernelRxRingFull);
  }
  return {
    queue: worker.queue,
    up: worker.up,
    restarts: worker.restarts,
    problem: worker.problem,
    ports: worker.ports.map((port) => ({ ...port })),
    generation: counters.total(Counter.generation),
    rx: counters.total(Counter.rx),
    drop: counters.total(Counter.drop),
    pass: counters.total(Counter.pass),
    tx: counters.total(Counter.tx),
    redirect: counters.total(Counter.redirect),
    aborted: counters.total(Counter.aborted),
    flows: counters.total(Counter.flows),
    frames: counters.frames(),
    kernelLost,
  };
}

function interfaceStatus(iface: InterfaceView): StatusInterface {
  let xdp: Record<string, number> | null = null;
  try {
    const counts = iface.xdp();
    xdp = counts && { ...counts };
  } catch {
    // An interface that is going away answers nothing; the rest of the status is still worth having.
  }
  const { name, ifindex, mode, zeroCopy, up, queues } = iface;
  return { name, ifindex, mode, zeroCopy, up, queues, unboundQueues: [...iface.unboundQueues], xdp };
}

function serviceStatus(service: ServiceView, book: CounterBook): StatusService {
  const { name, vip, ports, protocols } = service;
  return {
    name,
    vip,
    ports,
    protocols,
    packets: book.service(name, ServiceCounter.packets),
    bytes: book.service(name, ServiceCounter.bytes),
    backends: service.backends.map(
      ({ address, weight, state, reason, sinceMs, health, nextHop, interface: via, number }) => ({
        address,
        weight,
        state,
        reason,
        sinceMs,
        health: health && { ...health },
        nextHop,
        interface: via,
        packets: book.backend(name, address, BackendCounter.packets),
        bytes: book.backend(name, address, BackendCounter.bytes),
        newFlows: book.backend(name, address, BackendCounter.newFlows),
        flows: book.backendFlows(number),
      }),
    ),
  };
}

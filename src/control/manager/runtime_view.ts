import type { Config, PortRange, ServiceConfig } from '../../shared/config.js';
import { formatMac, formatPrefix } from '../../shared/addr.js';
import type { BackendStanding } from '../backend_book.js';
import type {
  BackendHealthView,
  BackendView,
  InterfaceView,
  ReloadView,
  RuntimeView,
  ServiceView,
  SetView,
  WorkerView,
} from '../api/view.js';
import type { CounterBook } from '../metrics/book.js';
import { limitRuleName } from '../mitigation/shelf.js';
import type { BackendOverride } from '../service_plan.js';
import { backendKey, type Numbers } from '../registry.js';
import type { NextHop } from '../routes.js';
import { VERSION } from '../version.js';
import type { Fleet } from './fleet.js';
import { ManagedInterface } from './managed_interface.js';

/** What a view is made from. `config`: as in force, with what was changed of its rules. */
export interface RuntimeParts {
  config: Config;
  numbers: Numbers;
  overrides: ReadonlyMap<string, BackendOverride>;
  standing: (key: string) => BackendStanding | undefined;
  health: (key: string) => BackendHealthView | null;
  nextHops: ReadonlyMap<string, NextHop>;
  generation: number;
  startedAtMs: number;
  counters: CounterBook;
  fleet: Fleet;
  lastReload: () => ReloadView;
  rulesExpired: () => number;
  sets: () => readonly SetView[];
}

/** Names of the protocols that configs use; others show as numbers. */
const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };

/** The daemon as status and metrics see it, for one generation. What changes without a new generation is behind getters. */
export function runtimeView(parts: RuntimeParts): RuntimeView {
  const { config, fleet, lastReload, rulesExpired, sets } = parts;
  const interfaces = fleet.interfaces.map(interfaceView);
  return {
    version: VERSION,
    pid: process.pid,
    startedAtMs: parts.startedAtMs,
    configPath: config.path,
    generation: parts.generation,
    get lastReload() {
      return lastReload();
    },
    counters: parts.counters,
    get workers() {
      return workerViews(fleet);
    },
    interfaces,
    services: config.services.map((service) => serviceView(service, parts)),
    rules: config.rules.map(({ name, action, mode = 'enforce' }) => ({
      id: parts.numbers.rules.get(name)?.number ?? 0,
      name,
      action,
      mode,
    })),
    limits: config.mitigation.limits.flatMap(({ name, kind }) => {
      const key = limitRuleName(name);
      return kind === 'rate' ? [{ id: parts.numbers.rules.get(key)?.number ?? 0, name, key }] : [];
    }),
    get flowOffload() {
      return fleet.flows.status;
    },
    get rulesExpired() {
      return rulesExpired();
    },
    get sets() {
      return sets();
    },
    filters: config.filters.flatMap((filter, position) =>
      filter.kind === 'module' ? [{ name: filter.name, position }] : [],
    ),
  };
}

function workerViews(fleet: Fleet): WorkerView[] {
  return fleet.workers.map((worker) => ({
    queue: worker.queue,
    up: worker.up,
    restarts: worker.restarts,
    problem: worker.problem,
    ports: fleet.interfaces
      .filter((entry) => entry.config.queues === 'all' || entry.config.queues.includes(worker.queue))
      .map((entry) => ({ index: entry.index, interface: entry.name, queue: worker.queue })),
  }));
}

function interfaceView(entry: ManagedInterface): InterfaceView {
  return {
    name: entry.name,
    get ifindex() {
      return entry.ifindex;
    },
    get mode() {
      return entry.mode;
    },
    get zeroCopy() {
      return entry.zeroCopy;
    },
    get up() {
      return ManagedInterface.look(entry.name)?.up ?? false;
    },
    get queues() {
      return entry.rxQueues;
    },
    get unboundQueues() {
      return entry.unboundQueues;
    },
    xdp: () => entry.xdpCounts(),
  };
}

function serviceView(service: ServiceConfig, parts: RuntimeParts): ServiceView {
  return {
    number: parts.numbers.services.get(service.name)?.number ?? 0,
    name: service.name,
    vip: service.vip.length === (service.vip.family === 4 ? 32 : 128) ? service.vip.text : formatPrefix(service.vip),
    ports: service.ports.length === 0 ? 'any' : service.ports.map(rangeText).join(','),
    protocols: service.protocols.length === 0 ? 'any' : service.protocols.map((n) => PROTOCOLS[n] ?? n).join(','),
    backends: service.backends.map((backend): BackendView => {
      const key = backendKey(service.name, backend.address.text);
      const override = parts.overrides.get(key);
      const standing = parts.standing(key);
      const hop = parts.nextHops.get(backend.address.text);
      return {
        number: parts.numbers.backends.get(key)?.number ?? 0,
        address: backend.address.text,
        weight: override?.weight ?? backend.weight,
        state: standing?.state ?? override?.state ?? backend.state,
        reason: standing?.reason ?? 'config',
        sinceMs: standing?.sinceMs ?? parts.startedAtMs,
        get health() {
          return parts.health(key);
        },
        nextHop: hop?.dmac ? formatMac(hop.dmac) : null,
        interface: hop && hop.interface !== '' ? hop.interface : null,
      };
    }),
  };
}

function rangeText({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

/**
 * What the manager knows of the running daemon, as its surfaces see it: status and metrics are both made from this and
 * from nothing else. Counters come by reference and are read when they are asked for.
 */
import type { RuleConfig } from '../../shared/config.js';
import type { CounterBook } from '../metrics/book.js';
import type { FlowOffloadStatus } from './contract_flows.js';

export type BackendState = 'active' | 'draining' | 'inactive';
export const BACKEND_STATES: readonly BackendState[] = ['active', 'draining', 'inactive'];

/** One of a worker's ports: the position under which it counts, and the queue it serves. */
export interface WorkerPortView {
  /** Position in the worker's port list (PortCounter blocks). */
  index: number;
  interface: string;
  queue: number;
}

export interface WorkerView {
  /** Key of the worker in the counter book. */
  queue: number;
  /** Running and serving: its sockets are bound and its heartbeat goes on. */
  up: boolean;
  /** Restarts since the daemon started. */
  restarts: number;
  /** Why it is not up, one sentence; '' when it is. */
  problem: string;
  ports: readonly WorkerPortView[];
}

/** Packets by XDP action, from the redirect program's per-CPU map; for example { redirect: 12, pass: 3 }. */
export type XdpCounts = Readonly<Record<string, number>>;

export interface InterfaceView {
  name: string;
  ifindex: number;
  /** Where the XDP program is attached; null while it is not. */
  mode: 'native' | 'generic' | null;
  /** Whether its sockets run without a copy; null when there is none. */
  zeroCopy: boolean | null;
  up: boolean;
  /** Receive queues of the device. */
  queues: number;
  /** Queues without a worker: their packets take the fallback action. */
  unboundQueues: readonly number[];
  /** Reads the program's counters from the kernel; null while there is no program. May throw. */
  xdp(): XdpCounts | null;
}

/** What health checks say of a backend. */
export interface BackendHealthView {
  /** null: not known yet. */
  up: boolean | null;
  /** Unix time of the last change, ms. */
  sinceMs: number;
  /** What went wrong last; '' when nothing did. */
  lastError: string;
  /** Of the last check that was answered, ms; null before the first. */
  latencyMs: number | null;
  ok: number;
  failed: number;
  /** Changed so often that it is held down for a while. */
  held: boolean;
}

export interface BackendView {
  /** Number under which it counts. */
  number: number;
  address: string;
  weight: number;
  state: BackendState;
  /** Why it has that state. */
  reason: string;
  /** Since when, Unix time in ms. */
  sinceMs: number;
  readonly health: BackendHealthView | null;
  /** Hardware address of the next hop, "02:00:…"; null while it is not known: the backend then drops as no_next_hop. */
  nextHop: string | null;
  /** Interface that leads to it; null while it has no route. */
  interface: string | null;
}

export interface ServiceView {
  /** Number under which it counts. */
  number: number;
  name: string;
  /** "192.0.2.1" or a prefix "192.0.2.0/24". */
  vip: string;
  /** "80", "80,443,8000-8080" or "any". */
  ports: string;
  /** "tcp", "tcp,udp" or "any". */
  protocols: string;
  backends: readonly BackendView[];
}

export interface RuleView {
  /** Number under which it counts. */
  id: number;
  name: string;
  action: RuleConfig['action'];
  mode: 'enforce' | 'shadow';
}

export interface SetView {
  name: string;
  entries: number;
  /** Shared memory in use. */
  bytes: number;
  /** Packets that were found in a set of that name, and their bytes. */
  packets: number;
  packetBytes: number;
}

/** The last attempt to load the configuration, the one at start included. */
export interface ReloadView {
  success: boolean;
  /** Unix time, milliseconds. */
  atMs: number;
  /** What was wrong with it, one line; '' on success. */
  error: string;
}

export interface RuntimeView {
  version: string;
  pid: number;
  /** Unix time of the daemon's start, milliseconds. */
  startedAtMs: number;
  /** Absolute path of the config file; '' when there is none. */
  configPath: string;
  /** Of the tables that were published last. */
  generation: number;
  lastReload: ReloadView;
  counters: CounterBook;
  workers: readonly WorkerView[];
  interfaces: readonly InterfaceView[];
  services: readonly ServiceView[];
  /** Those in force, in order. */
  rules: readonly RuleView[];
  /** Limits on rates; `key`: under which they are in the counter book, beside the rules. */
  limits: readonly { id: number; name: string; key: string }[];
  /** Rules whose time was over, since the daemon started. */
  rulesExpired: number;
  /** Flows in the kernel; absent where nothing can put them there. */
  flowOffload?: FlowOffloadStatus;
  /** Sets as they are now. */
  sets: readonly SetView[];
  /** Module filters by name and position in the chain. */
  filters: readonly { name: string; position: number }[];
}

/** What keeps the daemon from serving, each in one line; [] when every worker and interface is up. */
export function missing(view: RuntimeView): string[] {
  const lines: string[] = [];
  if (view.workers.length === 0) lines.push('no worker has been started');
  for (const worker of view.workers) {
    if (!worker.up) lines.push(`worker ${worker.queue} is down${worker.problem ? `: ${worker.problem}` : ''}`);
  }
  for (const iface of view.interfaces) {
    if (iface.mode === null) lines.push(`interface ${iface.name} has no XDP program attached`);
    else if (!iface.up) lines.push(`interface ${iface.name} is down`);
  }
  return lines;
}

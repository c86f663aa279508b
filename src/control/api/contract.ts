/**
 * The control protocol: what a client may ask of a running daemon, and what it is told.
 *
 * JSON lines over a unix socket. Request `{"id":1,"method":"status","params":{}}`, answer `{"id":1,"result":…}` or
 * `{"id":1,"error":{"code":"SLUICE_…","message":"…","remedy":"…"}}`. Requests of a connection are answered in order.
 */
import type { FlowOffloadStatus } from './contract_flows.js';
import type { SluiceErrorCode } from '../../errors.js';
import type { ConfigProblem } from '../../shared/config.js';
import type { CaptureMethods, ControlStream } from './contract_capture.js';
import type { StatusMitigation } from './contract_mitigation.js';
import type { RuleMethods, RuleTarget, StatusRule } from './contract_rules.js';
import type { SetMethods, SetTarget } from './contract_sets.js';
import type {
  BackendHealthView,
  BackendState,
  InterfaceView,
  ReloadView,
  ServiceView,
  WorkerPortView,
} from './view.js';

export type * from './contract_rules.js';
export type * from './contract_sets.js';
export type { CaptureRequest, CaptureStarted } from './contract_capture.js';

/** Changes when an existing field of an answer changes its meaning; new fields do not count. */
export const CONTROL_PROTOCOL = 1;

/** Longest request line, bytes. */
export const MAX_REQUEST_BYTES = 1 << 20;

/** Longest answer that a client takes, bytes: the status of 16,384 services and 131,072 backends fits. */
export const MAX_ANSWER_BYTES = 128 << 20;

/** Largest weight of a backend. */
export const MAX_WEIGHT = 65535;

export interface VersionInfo {
  version: string;
  protocol: number;
  node: string;
  pid: number;
}

/** Sums over all workers since the daemon started: packets unless the name says otherwise. */
export interface StatusTotals {
  rx: number;
  rxBytes: number;
  drop: number;
  pass: number;
  tx: number;
  txBytes: number;
  redirect: number;
  aborted: number;
  noService: number;
  flowHit: number;
  flowMiss: number;
  flowBypass: number;
  flowEvict: number;
  /** Flows in the tables now. */
  flows: number;
  /** Time that packets took in user space, ns: sum over `sampledPackets` packets. */
  sampledNs: number;
  sampledPackets: number;
}

export interface StatusWorker {
  queue: number;
  up: boolean;
  restarts: number;
  problem: string;
  ports: WorkerPortView[];
  /** Generation that the worker has adopted. */
  generation: number;
  rx: number;
  drop: number;
  pass: number;
  tx: number;
  redirect: number;
  aborted: number;
  flows: number;
  frames: { free: number; fill: number; rx: number; tx: number; held: number; total: number };
  /** Lost before user space saw them: no frame in the fill ring, no room in the RX ring, or else in the kernel. */
  kernelLost: number;
}

export interface StatusInterface extends Omit<InterfaceView, 'xdp' | 'unboundQueues'> {
  unboundQueues: number[];
  /** Packets by XDP action; null when there is no program or its map cannot be read. */
  xdp: Record<string, number> | null;
}

export interface StatusBackend {
  address: string;
  weight: number;
  state: BackendState;
  /** Why it has that state: "config", an operator's words, "health: …", "drain timeout". */
  reason: string;
  /** Since when, Unix time in ms. */
  sinceMs: number;
  /** What health checks say; null when the service has none. */
  health: BackendHealthView | null;
  nextHop: string | null;
  interface: string | null;
  packets: number;
  bytes: number;
  newFlows: number;
  /** Flows that lead here now: what is left to drain. */
  flows: number;
}

export interface StatusService extends Omit<ServiceView, 'number' | 'backends'> {
  packets: number;
  bytes: number;
  backends: StatusBackend[];
}

export interface Status {
  version: string;
  pid: number;
  uptimeSeconds: number;
  /** Monotonic time of the reading, milliseconds: rates are differences of two readings over this. */
  clockMs: number;
  configPath: string;
  generation: number;
  lastReload: ReloadView;
  ready: boolean;
  /** What keeps it from being ready, each in one line. */
  missing: string[];
  totals: StatusTotals;
  /** Packets by drop reason; reasons that never came up are left out. */
  drops: Record<string, number>;
  workers: StatusWorker[];
  interfaces: StatusInterface[];
  services: StatusService[];
  rules: StatusRule[];
  filters: { name: string; drops: number }[];
  mitigation: StatusMitigation;
  /** null where nothing can put flows into the kernel. */
  flowOffload: FlowOffloadStatus | null;
  /** Counter identities that do not hold, in words. Anything here is a bug. */
  violations: string[];
}

export interface ReloadResult {
  /** False: the config has problems, and everything goes on as before. */
  applied: boolean;
  /** Generation in force after the attempt. */
  generation: number;
  /** What changed, each in one line a person can read; [] when the config says the same as before. */
  changes: string[];
  /** Why it was not applied; [] when it was. */
  problems: ConfigProblem[];
}

/** Longest reason, characters. */
export const MAX_REASON = 200;

/** At least a weight or a state. */
export interface BackendChange {
  weight?: number;
  state?: BackendState;
  /** Why, for whoever looks at the status: at most MAX_REASON printable characters. */
  reason?: string;
}

export interface BackendSettings {
  weight: number;
  state: BackendState;
}

export interface BackendSetResult {
  service: string;
  backend: string;
  before: BackendSettings;
  after: BackendSettings;
  generation: number;
}

/** Who carries the requests out: the manager, or a fake. Whatever it throws becomes the answer's error. */
export interface ControlTarget {
  version(): VersionInfo;
  status(): Status;
  /** Reads the config again and applies it whole or not at all. A bad config is a result, not an error. */
  reload(): Promise<ReloadResult>;
  /** The config file is not written: a restart forgets the change. Unknown names: see `resolveBackend`. */
  setBackend(service: string, backend: string, change: BackendChange): Promise<BackendSetResult>;
  readonly rules: RuleTarget;
  /** Left out: it has none. */
  readonly sets?: SetTarget;
  /** Starts a capture; `params`: a CaptureRequest, not checked yet. Left out: it cannot capture. */
  capture?(params: Record<string, unknown>): ControlStream;
}

/** The methods, with what they take and give. */
export interface ControlMethods extends RuleMethods, SetMethods, CaptureMethods {
  version: { params: Record<string, never>; result: VersionInfo };
  status: { params: Record<string, never>; result: Status };
  reload: { params: Record<string, never>; result: ReloadResult };
  'backend.set': { params: { service: string; backend: string } & BackendChange; result: BackendSetResult };
}

export type ControlMethod = keyof ControlMethods;

export interface ControlError {
  code: SluiceErrorCode;
  message: string;
  remedy: string;
}

/** `stream`: what comes behind the answer. */
export type ControlAnswer =
  { id: unknown; result: unknown; stream?: ControlStream } | { id: unknown; error: ControlError };

/**
 * What the manager and a worker thread say to each other. Commands go through a MessagePort that the worker reads without its event
 * loop (receiveMessageOnPort), after the manager raised ControlWord.posted; events come back with postMessage.
 */
import type { MessagePort } from 'node:worker_threads';
import type { CaptureCommand } from './capture_spec.js';
import type { FlowRings } from './flow_ring.js';
import type { Tables } from './layout.js';

/** One queue of one interface that a worker serves. */
export interface PortSpec {
  /** Port number: position of the interface in the config. */
  index: number;
  interface: string;
  queue: number;
  mode: 'auto' | 'zero-copy' | 'copy';
  poll: 'interrupt' | 'busy';
  ring: number;
  /** TAP device that takes passed packets, or null. */
  tap: string | null;
}

export interface WorkerOptions {
  /** Number of the worker, which is the queue that it serves on each of its interfaces. */
  worker: number;
  frames: { count: number; size: 2048 | 4096; hugepages: boolean; burst: number };
  flowSlots: number;
  ports: PortSpec[];
  tables: Tables;
  /** Float64Array block, see CounterBlock; a new one for each life of the worker. */
  counters: SharedArrayBuffer;
  /** Int32Array block, see ControlWord. */
  control: SharedArrayBuffer;
  commands: MessagePort;
}

export type WorkerCommand =
  | { kind: 'tables'; tables: Tables }
  | { kind: 'open'; port: PortSpec }
  | { kind: 'close'; index: number }
  /** From now on flows are offered to the kernel, over these rings; null: no more. `ruled`: those too that rules may match. */
  | { kind: 'offer-flows'; rings: FlowRings | null; ruled: boolean }
  | CaptureCommand;

export interface OpenedPort {
  index: number;
  interface: string;
  queue: number;
  /** The socket's descriptor, for the XSKMAP. */
  fd: number;
  zeroCopy: boolean;
}

/** A failed command or a lost port, with what a person needs to act. */
export interface WorkerFault {
  message: string;
  code: string;
  remedy: string;
}

export type WorkerEvent =
  | { kind: 'ready'; ports: OpenedPort[]; faults: { port: PortSpec; fault: WorkerFault }[]; hugepages: boolean }
  /** It could not start and ends: a filter that cannot be loaded, no memory. */
  | { kind: 'failed'; fault: WorkerFault }
  | { kind: 'opened'; port: OpenedPort }
  | { kind: 'open-failed'; port: PortSpec; fault: WorkerFault }
  | { kind: 'closed'; index: number }
  /** The interface is gone; the socket is closed. */
  | { kind: 'lost'; index: number; interface: string }
  | { kind: 'adopted'; generation: number }
  /** The worker keeps its former tables. */
  | { kind: 'refused'; generation: number; fault: WorkerFault }
  /** A filter threw; at most one a second. `suppressed` counts those in between. */
  | { kind: 'aborted'; error: string; packet: string; suppressed: number }
  | {
      kind: 'stopped';
      conserved: boolean;
      frames: { free: number; fill: number; rx: number; tx: number; held: number; total: number };
    };

/** What `sluice bench` measures: jobs by the names of the kernel's own samples (xdpsock, xsk_fwd), and two of a load balancer. */
import type { Load } from '../generator/load.js';
import type { Address, XdpMode } from '../shared/config.js';

/** `rxdrop` receives and drops; `txonly` sends; `l2fwd` sends back; `forward` sends out of the other interface; `lb` balances; `filter` drops by rules. */
export const MODES = ['rxdrop', 'txonly', 'l2fwd', 'forward', 'lb', 'filter'] as const;
export type Mode = (typeof MODES)[number];

/** Interfaces that a mode takes: least and most. */
export const INTERFACES: Record<Mode, readonly [number, number]> = {
  rxdrop: [1, 1],
  txonly: [1, 1],
  l2fwd: [1, 1],
  forward: [2, 2],
  lb: [1, 2],
  filter: [1, 1],
};

/**
 * Packets at a time where nothing else is asked for. What is cold after a burst was sent (the way into the kernel and V8's out of the addon) costs as much as three
 * packets: 128 make that a smaller part. `lb` and `filter` have a worker's default (`frames.burst`).
 */
export const BATCH: Record<Mode, number> = { rxdrop: 128, txonly: 128, l2fwd: 128, forward: 128, lb: 64, filter: 64 };

/** The service that `lb` balances: UDP, IP in IP to backends that are all behind one hardware address. */
export interface BalancedService {
  vip: Address;
  port: number;
  /** Backends, 1 to 200: 192.0.2.10 and on. */
  backends: number;
  destinationMac: Uint8Array;
}

export interface BenchSettings {
  mode: Mode;
  interfaces: readonly string[];
  /** The one queue of each interface that is served. */
  queue: number;
  xdp: XdpMode;
  /** Packets at a time, 1-1024. */
  batch: number;
  /** Sleeps while there is nothing, instead of asking again and again. */
  poll: boolean;
  /** What `txonly` sends; its rate is not kept, its time is the run's. */
  load: Load | null;
  service: BalancedService | null;
  /** Rules of `filter`. */
  rules: number;
}

/** Since the start. */
export interface BenchCounts {
  rx: number;
  rxBytes: number;
  /** Onto a TX ring. */
  tx: number;
  txBytes: number;
  /** By the job: what it is there to drop. */
  dropped: number;
  /** For want of room on a TX ring. */
  txLost: number;
  /** For want of room on the way to user space. */
  missed: number;
}

/** A job at work, in the calling thread. */
export interface Job extends Disposable {
  /** "copy", "zero-copy" or "generic": how packets come and go. */
  readonly way: string;
  /** It has done all that was asked. */
  readonly done: boolean;
  /** One burst from each interface; the number of packets. When there is nothing it may sleep for so long. */
  round(sleepMs: number): number;
  counts(): BenchCounts;
  /** Monotonic clock, ms, wrapping int32: unlike `performance.now()` it makes no object. */
  nowMs(): number;
  close(): void;
}

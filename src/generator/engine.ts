/** What sends a load: `LiveEngine`, from the kernel, and `XskEngine`, from an AF_XDP socket. */
import type { Load } from './load.js';

export interface Progress {
  packets: number;
  elapsedMs: number;
}

export interface LoadResult {
  /** Frames made and handed to the interface; what that did with them is in `sent` and `dropped`. */
  packets: number;
  bytes: number;
  /** By size of the frame, in the order of the load's sizes. */
  bySize: readonly { bytes: number; packets: number }[];
  elapsedMs: number;
  /** CPU time of what sent them, ms; on a veth most of the receiver's XDP is in it. */
  cpuMs: number;
  /** Why it ended. */
  ended: 'count' | 'time' | 'stopped';
  /** What the interface's own counters say of the time: others' packets too, and a NIC may still be at work. */
  sent: number;
  dropped: number;
}

/** A load under way. It ends by itself; nothing is left behind then. */
export interface RunningLoad {
  progress(): Progress;
  /** Ends it early. */
  stop(): void;
  /** @throws KernelError of what ended it */
  readonly ended: Promise<LoadResult>;
}

export interface Engine {
  /** @throws SluiceError, KernelError when it cannot begin */
  start(load: Load): Promise<RunningLoad>;
}

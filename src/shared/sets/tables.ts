/** Sets as the tables hand them to workers. */
import type { SetBuffers, SetCounters } from './layout.js';
import type { SetSides } from './packet_key.js';

export interface SetTable {
  name: string;
  buffers: SetBuffers;
  /** Counters of the entries by worker; null: the set has none. */
  counters: (SetCounters | null)[];
  /** By worker, which alone writes it: Float64 pair of packets that were in the set, and their bytes. */
  matches: SharedArrayBuffer[];
}

/** Packets in a set are dropped before the rules. */
export interface SetDrop {
  /** Position in Tables.sets. */
  set: number;
  sides: SetSides;
}

/**
 * The clock that timeouts count by, int32: milliseconds (wrapping, of the bursts' clock) at second 0, and the second now, which the control plane writes about once
 * a second. The first never changes, so that a worker that starts late begins with the same seconds.
 */
export const enum SetClockWord {
  zeroMs = 0,
  seconds = 1,
  SIZE = 2,
}

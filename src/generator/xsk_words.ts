/** What the AF_XDP engine and its thread share. */
import type { Load, Replay } from './load.js';
import type { XskSenderOptions } from './xsk_sender.js';

export interface XskThreadData extends XskSenderOptions {
  load: Load | Replay;
  /** One int32: not 0 asks it to end. */
  control: SharedArrayBuffer;
  /** Float64 by XskWord, then packets of each size. */
  progress: SharedArrayBuffer;
}

export const enum XskWord {
  elapsedMs = 0,
  /** Once it has ended. */
  cpuMs = 1,
  /** Packets of size i: at bySize + i. */
  bySize = 2,
}

/** Its last message. */
export interface XskThreadEnd {
  ended: 'count' | 'time' | 'stopped';
}

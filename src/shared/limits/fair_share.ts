/**
 * Fair share: a destination address gets no more than `rate`, and what is above is taken from the heaviest sources, wherever on the ladder from
 * "one flow" to "everybody" they stand out. The ladder is rakelimit's (github.com/cloudflare/rakelimit; Cormode et al., "Finding
 * Hierarchical Heavy Hitters in Streaming Data", TKDD 2008): the source is generalised from address over prefixes to any, each port
 * from itself to any, the destination address never. A node's level is the number of its generalisations.
 *
 *   IPv4, prefix /24: 12 nodes on 5 levels        IPv6, prefixes /64 and /48: 16 nodes on 6 levels
 */
import { SluiceError } from '../../errors.js';
import type { Rate } from './rate.js';

export interface FairShareSpec {
  /** For each destination address, all workers together. */
  rate: Rate;
  /**
   * fair: one share for all sources, found so that the destination gets its rate (default). fixed: rakelimit's own rule, the rate is the
   * limit of every node, and what a lower level has judged is not counted above.
   */
  share?: 'fair' | 'fixed';
  /** Source prefixes between address and any, longest first. Default [24] and [64, 48]. */
  prefixes4?: number[];
  prefixes6?: number[];
  /** Cells of a row of the count-min sketches, a power of two, 64 to 65536. Default 512. */
  columns?: number;
  /** A key's first rate comes from its first two packets, as in rakelimit, instead of growing over a window. Default: with 'fixed'. */
  firstInterval?: boolean;
}

export interface FairShareShared {
  /** Packets or bytes a second. */
  limit: number;
  bytes: boolean;
  fair: boolean;
  firstInterval: boolean;
  prefixes4: number[];
  prefixes6: number[];
  columns: number;
  /** Key of all hashes, four int32, the same in all workers. */
  hashKey: number[];
  /** What each worker says of each destination; ShareWord. */
  shares: SharedArrayBuffer;
}

/** Time that a rate is taken over, ms: rakelimit's 2^27 ns. */
export const WINDOW_MS = 2 ** 27 / 1e6;

/**
 * Destinations are known by their cell, in two rows, each with its own account; the better of the two holds, so that a destination that
 * shares one cell with another is not mistaken.
 */
export const SHARE_ROWS = 2;
export const SHARE_CELLS = 1024;

/** Float64 a worker and cell: rates over the worker's last window. */
export const enum ShareWord {
  SIZE = 4,
  /** When the window ended, ms. */
  atMs = 0,
  /** What came. */
  offered = 1,
  /** What the share let through. */
  passed = 2,
  /** Of that: of keys above the share. */
  heavy = 3,
}

/** Throws SluiceError when the spec cannot be met. */
export function allocateFairShare(spec: FairShareSpec, workers: number): FairShareShared {
  const { rate, share = 'fair', prefixes4 = [24], prefixes6 = [64, 48], columns = 512 } = spec;
  if (columns < 64 || columns > 65536 || (columns & (columns - 1)) !== 0) {
    throw refuse(`${columns} columns`, 'A power of two from 64 to 65536.');
  }
  checkLadder(prefixes4, 32);
  checkLadder(prefixes6, 128);
  const bytes = SHARE_ROWS * SHARE_CELLS * workers * ShareWord.SIZE * Float64Array.BYTES_PER_ELEMENT;
  return {
    limit: rate.amount / rate.seconds,
    bytes: rate.unit === 'bytes',
    fair: share === 'fair',
    firstInterval: spec.firstInterval ?? share === 'fixed',
    prefixes4,
    prefixes6,
    columns,
    hashKey: Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word | 0),
    shares: new SharedArrayBuffer(bytes),
  };
}

function checkLadder(prefixes: readonly number[], bits: number): void {
  const falls = prefixes.every(
    (length, i) => Number.isInteger(length) && length > 0 && length < (prefixes[i - 1] ?? bits),
  );
  if (!falls || prefixes.length > 4) {
    throw refuse(`the prefixes ${prefixes.join(', ')}`, `At most 4, longest first, from ${bits - 1} to 1.`);
  }
}

function refuse(what: string, remedy: string): SluiceError {
  return new SluiceError('SLUICE_CONFIG', `fair share cannot have ${what}`, remedy);
}

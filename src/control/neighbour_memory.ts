import type { Neighbour } from './neighbours.js';

/** Between two requests to resolve one neighbour; ms. The kernel itself asks once a second. */
const ASK_EVERY_MS = 1000;
/** The same for one that did not answer before. */
export const ASK_FAILED_EVERY_MS = 5000;

interface Entry {
  mac: Uint8Array | null;
  seenMs: number;
  askedMs: number;
  failed: boolean;
}

/**
 * What is remembered of neighbours between two readings of the kernel's tables, by `neighbourKey`: the hardware address
 * that was there last, for as long as it may still be used, and whom we have asked for.
 */
export class NeighbourMemory {
  #entries = new Map<string, Entry>();

  /** @param graceMs how long a hardware address is used after it was last seen */
  constructor(readonly graceMs: number) {}

  /** Takes over a reading. Neighbours whose keys are not listed are forgotten. */
  see(keys: Iterable<string>, neighbours: ReadonlyMap<string, Neighbour>, nowMs: number): void {
    const entries = new Map<string, Entry>();
    for (const key of keys) {
      const before = this.#entries.get(key) ?? { mac: null, seenMs: -Infinity, askedMs: -Infinity, failed: false };
      const neighbour = neighbours.get(key);
      if (neighbour?.mac) entries.set(key, { ...before, mac: neighbour.mac, seenMs: nowMs, failed: false });
      else entries.set(key, { ...before, failed: before.failed || neighbour?.state === 'FAILED' });
    }
    this.#entries = entries;
  }

  /** The hardware address to use: the kernel's, or the last known one while its time of grace runs. */
  mac(key: string, nowMs: number): Uint8Array | null {
    const entry = this.#entries.get(key);
    return entry && nowMs - entry.seenMs < this.graceMs ? entry.mac : null;
  }

  /** The kernel gave up on it, and it has not been seen since: a new attempt alone does not change that. */
  hasFailed(key: string): boolean {
    return this.#entries.get(key)?.failed ?? false;
  }

  /** Whether to ask for it now; if so, that is written down. */
  mayAsk(key: string, nowMs: number): boolean {
    const entry = this.#entries.get(key);
    if (!entry || nowMs - entry.askedMs < (entry.failed ? ASK_FAILED_EVERY_MS : ASK_EVERY_MS)) return false;
    entry.askedMs = nowMs;
    return true;
  }
}

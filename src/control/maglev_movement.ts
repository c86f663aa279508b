/** How much of a Maglev ring a change moves, and how much it may. */
import type { RingBackend } from './maglev_build.js';

/** A ring together with the list that its positions refer to. */
export interface RingView {
  ring: Uint16Array | null;
  backends: readonly RingBackend[];
}

/** In slots. Each slot is the same share of all possible flows, so shares of slots are shares of new flows. */
export interface Movement {
  /** Slots of the ring. */
  slots: number;
  /** Slots that lead to another backend than before. */
  moved: number;
  /** Of these, those that any method would have to move: slots by which backends' shares became smaller. */
  needed: number;
  /** Most that should move, given `needed` and the number of backends that changed; see EXTRA_PER_CHANGE. */
  bound: number;
}

/**
 * Slots that move beyond the needed ones, for each backend that came, went or changed its weight, are at most about
 * 3 * sqrt(slots): measured for 251 to 655373 slots and 3 to 1000 backends whose weights are within 10 times the mean
 * (docs/maglev.md). Maglev gives no proof of a bound, so this is twice what was seen.
 */
const EXTRA_PER_CHANGE = 6;

/**
 * Compares two rings of one size by the keys of the backends that their slots lead to.
 *
 * A ring that is not there (no backend with a weight) counts as one whose slots lead nowhere.
 *
 * @throws RangeError when the sizes differ: then nothing says which slot of one is which of the other
 */
export function moved(before: RingView, after: RingView): Movement {
  const slots = before.ring?.length ?? after.ring?.length ?? 0;
  if (before.ring && after.ring && before.ring.length !== after.ring.length) {
    throw new RangeError(`rings of ${before.ring.length} and ${after.ring.length} slots cannot be compared`);
  }
  // One number a key, so that comparing a slot is comparing two integers. -1: leads nowhere.
  const numbers = new Map<string, number>();
  for (const { key } of [...before.backends, ...after.backends]) if (!numbers.has(key)) numbers.set(key, numbers.size);
  const was = before.backends.map(({ key }) => numbers.get(key)!);
  const is = after.backends.map(({ key }) => numbers.get(key)!);
  const lost = new Int32Array(numbers.size);
  let count = 0;
  for (let slot = 0; slot < slots; slot++) {
    const from = before.ring ? was[before.ring[slot]] : -1;
    const to = after.ring ? is[after.ring[slot]] : -1;
    if (from === to) continue;
    count++;
    if (from >= 0) lost[from]++;
    if (to >= 0) lost[to]--;
  }
  let needed = 0;
  if (!before.ring || !after.ring) needed = slots;
  else for (const slotsLost of lost) needed += Math.max(0, slotsLost);
  const extra = EXTRA_PER_CHANGE * Math.sqrt(slots) * changedBackends(before.backends, after.backends);
  return { slots, moved: count, needed, bound: Math.min(slots, Math.ceil(needed + extra)) };
}

function changedBackends(before: readonly RingBackend[], after: readonly RingBackend[]): number {
  const weights = new Map(before.map(({ key, weight }) => [key, weight]));
  let changed = 0;
  for (const { key, weight } of after) {
    if ((weights.get(key) ?? 0) !== weight) changed++;
    weights.delete(key);
  }
  for (const weight of weights.values()) if (weight !== 0) changed++;
  return changed;
}

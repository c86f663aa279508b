/**
 * Builds Maglev rings: the look-up tables that spread flows over backends (Eisenbud et al., "Maglev: A Fast and Reliable
 * Software Network Load Balancer", NSDI 2016, section 3.4), with weights that hold to less than one slot.
 *
 * Each backend walks its own permutation of the slots, given by two hashes of its key, and takes the first free slot
 * when it is its turn. The paper gives everyone a turn a round; here backend i has its k-th turn at time k / weight(i),
 * until it has its share of the slots. `docs/maglev.md` says why, and what it was measured to do.
 */
import { murmur3 } from './murmur3.js';

export interface RingBackend {
  /** What the backend's permutation derives from: the canonical text of its address. */
  key: string;
  /** Integer, 0 to MAX_WEIGHT. 0: takes no slots. */
  weight: number;
}

export const MAX_WEIGHT = 65535;
/** Sizes for about 1 % disruption: at least 100 slots a backend (section 5.3 of the paper). Any prime between the two will do. */
export const MIN_RING_SIZE = 251;
export const MAX_RING_SIZE = 655373;
/** Slots are Uint16 and one value marks a free slot while building. */
const MAX_RING_BACKENDS = 65535;
const FREE = 0xffff;

/** Seeds of the two hashes, fixed for ever: other seeds are other rings. First 64 bits of the fraction of pi. */
const OFFSET_SEED = 0x243f6a88;
const SKIP_SEED = 0x85a308d3;

/**
 * The ring for these backends: for each slot the position, in the list given, of the backend that has it.
 *
 * Depends on keys and weights alone, not on the order of the list: a permuted list gives the same keys in the same slots.
 *
 * @param size number of slots, a prime from MIN_RING_SIZE to MAX_RING_SIZE
 * @returns null when no backend has a weight: a ring has no holes, so an empty one does not exist
 * @throws RangeError for a size, weight or number of backends out of range, or two backends of one key
 */
export function buildRing(backends: readonly RingBackend[], size: number): Uint16Array | null {
  if (!isRingSize(size)) {
    throw new RangeError(`ring size ${size} is not a prime from ${MIN_RING_SIZE} to ${MAX_RING_SIZE}`);
  }
  const walkers = makeWalkers(backends, size);
  if (walkers.length === 0) return null;
  giveShares(walkers, size);
  const ring = new Uint16Array(size).fill(FREE);
  fill(ring, classesOf(walkers));
  return ring;
}

/** Whether a ring may have this many slots. */
export function isRingSize(size: number): boolean {
  if (!Number.isInteger(size) || size < MIN_RING_SIZE || size > MAX_RING_SIZE || size % 2 === 0) return false;
  for (let divisor = 3; divisor * divisor <= size; divisor += 2) if (size % divisor === 0) return false;
  return true;
}

/** One backend on its way through the slots. */
interface Walker {
  position: number;
  key: string;
  weight: number;
  hash: number;
  /** Next slot of its permutation. */
  slot: number;
  /** Step of its permutation, 1 to size - 1: every slot comes by once, because the size is prime. */
  skip: number;
  /** Slots that it still takes. */
  share: number;
}

function makeWalkers(backends: readonly RingBackend[], size: number): Walker[] {
  if (backends.length > MAX_RING_BACKENDS) {
    throw new RangeError(`${backends.length} backends in one ring: the limit is ${MAX_RING_BACKENDS}`);
  }
  const encoder = new TextEncoder();
  const walkers: Walker[] = [];
  backends.forEach(({ key, weight }, position) => {
    if (!Number.isInteger(weight) || weight < 0 || weight > MAX_WEIGHT) {
      throw new RangeError(`weight ${weight} of backend ${key} is not an integer from 0 to ${MAX_WEIGHT}`);
    }
    if (weight === 0) return;
    const bytes = encoder.encode(key);
    const hash = murmur3(bytes, OFFSET_SEED);
    const skip = (murmur3(bytes, SKIP_SEED) % (size - 1)) + 1;
    walkers.push({ position, key, weight, hash, slot: hash % size, skip, share: 0 });
  });
  // The order of turns that come at the same time. By hash first, so that no range of addresses is favoured.
  walkers.sort((a, b) => a.hash - b.hash || (a.key < b.key ? -1 : 1));
  for (let i = 1; i < walkers.length; i++) {
    if (walkers[i].key === walkers[i - 1].key) throw new RangeError(`backend ${walkers[i].key} is in the ring twice`);
  }
  return walkers;
}

/**
 * Shares by largest remainder: size * weight / total rounded down, and one more for those that lost most by it, until
 * the ring is full. Within one slot of the exact share for any weights, which cumulative turns alone (Katran's V2) are not: their
 * roundings add up, and all of them fall to the heaviest backend. Integers below 2^53 throughout.
 */
function giveShares(walkers: Walker[], size: number): void {
  let total = 0;
  for (const walker of walkers) total += walker.weight;
  const remainders = new Map<Walker, number>();
  let left = size;
  for (const walker of walkers) {
    const remainder = (size * walker.weight) % total;
    walker.share = (size * walker.weight - remainder) / total;
    remainders.set(walker, remainder);
    left -= walker.share;
  }
  // Array.sort is stable: equal remainders stay in the order of turns.
  const byRemainder = [...walkers].sort((a, b) => remainders.get(b)! - remainders.get(a)!);
  for (let i = 0; i < left; i++) byRemainder[i].share++;
}

/** Walkers of one weight: they have all their turns at the same times. */
interface WeightClass {
  weight: number;
  walkers: Walker[];
  /** Turns taken. */
  turns: number;
  /** When the next turn comes: (turns + 1) / weight. Distinct quotients of integers this small are distinct doubles. */
  time: number;
}

function classesOf(walkers: Walker[]): WeightClass[] {
  const classes = new Map<number, WeightClass>();
  for (const walker of walkers) {
    let same = classes.get(walker.weight);
    if (!same)
      classes.set(walker.weight, (same = { weight: walker.weight, walkers: [], turns: 0, time: 1 / walker.weight }));
    same.walkers.push(walker);
  }
  return [...classes.values()];
}

function fill(ring: Uint16Array, heap: WeightClass[]): void {
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) sink(heap, i);
  while (heap.length > 0) {
    const next = heap[0];
    if (!takeTurn(ring, next.walkers)) {
      const last = heap.pop()!;
      if (heap.length === 0) return;
      heap[0] = last;
    } else {
      next.turns++;
      next.time = (next.turns + 1) / next.weight;
    }
    sink(heap, 0);
  }
}

/** Gives each walker that has something left of its share its next free slot. False when none had. */
function takeTurn(ring: Uint16Array, walkers: Walker[]): boolean {
  const size = ring.length;
  let took = false;
  for (const walker of walkers) {
    if (walker.share === 0) continue;
    let slot = walker.slot;
    while (ring[slot] !== FREE) {
      slot += walker.skip;
      if (slot >= size) slot -= size;
    }
    ring[slot] = walker.position;
    walker.slot = slot;
    walker.share--;
    took = true;
  }
  return took;
}

/** Binary heap, earliest turn first; of two at one time the heavier weight. */
function sink(heap: WeightClass[], start: number): void {
  let at = start;
  for (;;) {
    let least = at;
    for (let child = 2 * at + 1; child <= 2 * at + 2 && child < heap.length; child++) {
      if (isBefore(heap[child], heap[least])) least = child;
    }
    if (least === at) return;
    const moving = heap[at];
    heap[at] = heap[least];
    heap[least] = moving;
    at = least;
  }
}

function isBefore(a: WeightClass, b: WeightClass): boolean {
  return a.time < b.time || (a.time === b.time && a.weight > b.weight);
}

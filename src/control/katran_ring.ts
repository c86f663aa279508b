/**
 * Katran's hash rings, slot for slot (katran/lib/MaglevBase.cpp, MaglevHash.cpp, MaglevHashV2.cpp, Vip.cpp), so that a fleet
 * can move between Katran and sluice one node at a time. `maglev_build.ts` has the ring for everybody else.
 */
import type { Address } from '../shared/config.js';
import { isRingSize, MAX_WEIGHT } from './maglev_build.js';
import { katranEndpointHash, murmur3x64 } from './katran_endpoint_hash.js';

export interface KatranBackend {
  address: Address;
  /** Integer, 0 to 65535. 0: takes no slots. */
  weight: number;
  /** Katran's number of the real. Only says which of two backends with one hash has its turn first. */
  id: number;
}

/** Slots are Uint16; one value marks a free one. */
const FREE = 0xffff;
/** Probes a turn, in ring sizes, after which Katran would (all but surely) never end. */
const PATIENCE = 64;

/**
 * The ring for these backends: for each slot the position, in the list given, of the backend that has it.
 *
 * It depends on addresses and weights alone. Katran's ids do not go into it: they are what its slots hold (as ours hold
 * positions), and reals have their turns in the order of their address hashes, not of ids or of addition. The one exception:
 * Katran leaves the order of equal hashes to std::sort, which is not specified; here the lower id is first.
 *
 * One state Katran has that this has not: when a VIP's last real goes, or all weights become 0, Katran leaves the old ring in
 * place and goes on sending to the reals that are gone.
 *
 * @param size number of slots: Katran's RING_SIZE, 65537 in every build that is known
 * @param version 1: `weight` turns in a row in the first round, then one each, so that weights only say who is first as soon
 *   as the ring is larger than their sum; 2: a turn each time the summed weight reaches the largest one
 * @returns null when no backend has a weight
 * @throws RangeError for a size, weight, version or number of backends out of range, or an address that is there twice
 */
export function buildKatranRing(backends: readonly KatranBackend[], size: number, version: 1 | 2): Uint16Array | null {
  if (!isRingSize(size)) throw new RangeError(`ring size ${size} is not a prime in the range of ring sizes`);
  if (version !== 1 && version !== 2) throw new RangeError(`Katran has no ring version ${String(version)}`);
  const walkers = makeWalkers(backends, size);
  if (walkers.length === 0) return null;
  const ring = new Uint16Array(size).fill(walkers.length === 1 ? walkers[0].position : FREE);
  if (walkers.length === 1) return ring;
  if (version === 1) fillV1(ring, walkers);
  else fillV2(ring, walkers);
  return ring;
}

/** One backend on its way through the slots. */
interface Walker {
  position: number;
  id: number;
  weight: number;
  hash: bigint;
  /** offset + turns * skip as uint32, wrapping as Katran's does: it matters in rings above 65537. */
  at: number;
  skip: number;
}

function makeWalkers(backends: readonly KatranBackend[], size: number): Walker[] {
  if (backends.length > FREE) throw new RangeError(`${backends.length} backends in one ring: the limit is ${FREE}`);
  const walkers: Walker[] = [];
  const seen = new Set<string>();
  backends.forEach(({ address, weight, id }, position) => {
    if (!Number.isInteger(weight) || weight < 0 || weight > MAX_WEIGHT) {
      throw new RangeError(`weight ${weight} of backend ${address.text} is not an integer from 0 to ${MAX_WEIGHT}`);
    }
    if (seen.has(address.text)) throw new RangeError(`backend ${address.text} is in the ring twice`);
    seen.add(address.text);
    if (weight === 0) return;
    const hash = katranEndpointHash(address);
    const at = Number(murmur3x64(hash, 42n, 0n) % BigInt(size));
    const skip = Number(murmur3x64(hash, 2718281828n, 2307n) % BigInt(size - 1)) + 1;
    walkers.push({ position, id, weight, hash, at, skip });
  });
  return walkers.sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : a.id - b.id));
}

function fillV1(ring: Uint16Array, walkers: Walker[]): void {
  let free = ring.length;
  for (let round = 0; ; round++) {
    for (const walker of walkers) {
      for (let turns = round === 0 ? walker.weight : 1; turns > 0; turns--) {
        take(ring, walker);
        if (--free === 0) return;
      }
    }
  }
}

/**
 * Walkers of one weight have their turns in the same rounds, so sums are kept by weight: as Katran keeps them, one light walker
 * after another would be visited some 65535 times for each turn.
 */
function fillV2(ring: Uint16Array, walkers: Walker[]): void {
  const heaviest = Math.max(...walkers.map(({ weight }) => weight));
  const classes = new Map<number, { sum: number; turns: number[] }>();
  walkers.forEach(({ weight }, turn) => {
    const same = classes.get(weight);
    if (same) same.turns.push(turn);
    else classes.set(weight, { sum: 0, turns: [turn] });
  });
  const weights = [...classes];
  let free = ring.length;
  for (;;) {
    const due: number[][] = [];
    for (const [weight, same] of weights) {
      same.sum += weight;
      if (same.sum < heaviest) continue;
      same.sum -= heaviest;
      due.push(same.turns);
    }
    for (const turn of due.length === 1 ? due[0] : due.flat().sort((x, y) => x - y)) {
      take(ring, walkers[turn]);
      if (--free === 0) return;
    }
  }
}

/** Gives the walker its next free slot. */
function take(ring: Uint16Array, walker: Walker): void {
  const size = ring.length;
  let at = walker.at;
  let left = PATIENCE * size;
  while (ring[at % size] !== FREE && left-- > 0) at = (at + walker.skip) >>> 0;
  // Not a permutation any more once the sum has wrapped, so it may go round without meeting a free slot. Katran would hang.
  const slot = left < 0 ? ring.indexOf(FREE) : at % size;
  ring[slot] = walker.position;
  walker.at = (at + walker.skip) >>> 0;
}

/**
 * Tables for services with second hop: for each row a chain of backends. A flow goes to the first of its row's chain with the
 * others in its header; a backend that does not know the flow passes it on to the next. So connections survive changes of
 * the table without any state on the load balancer (GLB Director, docs/development/glb-hashing.md and second-chance-design.md;
 * Olteanu et al., "Stateless Datacenter Load-balancing with Beamer", NSDI 2018).
 *
 * Rows rank backends by weighted rendezvous hashing: ascending -ln(1 - score) / weight (Schindelhauer and Schomaker, "Weighted
 * Distributed Hash Tables", SPAA 2005), which for equal weights is the order of the scores themselves.
 */
import type { Address } from '../shared/config.js';
import { NO_HOP } from '../shared/layout.js';
import { MAX_WEIGHT } from './maglev_build.js';
import { GlbScores, SluiceScores, type RendezvousScores } from './rendezvous_scores.js';

export interface RendezvousBackend {
  address: Address;
  /**
   * Integer, 0 to 65535: share of the rows, relative to the others. Moves the backend's rank, so to take one out of service
   * change its state and keep its weight. 0 counts as draining, and ranks as 1.
   */
  weight: number;
  /** active: takes new flows. draining: only those that it has. inactive: in no chain. */
  state: 'active' | 'draining' | 'inactive';
}

export interface RendezvousTable {
  /** Entries a row, 1 to MAX_HOPS. */
  hops: number;
  /** Row r is `rows[r * hops]` on: positions in the list given, NO_HOP after the last. */
  rows: Uint16Array;
}

export interface RendezvousOptions {
  /** Rows of the table, 1 to MAX_ROWS. GLB has 65536. */
  rows: number;
  /** Entries a row, 1 to MAX_HOPS: the backend that is tried first and those after it. GLB has 2. */
  hops: number;
  /** GLB's forwarding-table seed, 16 bytes: ranks as GLB Director with that seed does. Without it sluice's own, faster scores. */
  glbSeed?: Uint8Array;
}

export const MAX_HOPS = 3;
export const MAX_ROWS = 655373;

/**
 * The table for these backends. A row's chain is the first active backend of its ranking and after it the rest of the ranking,
 * draining and active, cut to `hops`. In order: draining backends that had the row before it; then those that come after it,
 * of which the first had the row if this one has joined since, draining or not.
 *
 * - A backend F that once was first in a row is in its chain still, not after position k, when no more than k changes of
 *   state since a time without draining backends concerned backends that rank up to F in the row. So with `hops` 2 any one
 *   change is safe, with 3 any two.
 * - A change of one backend's state changes only rows that have it in their chain before or after.
 * - Depends on addresses, weights and states alone, not on the order of the list.
 * - With one backend not active and `hops` 2 the rows are those of GLB Director, which swaps the two of a row when the
 *   first is draining or unhealthy; call an unhealthy backend draining for that. With several GLB may leave a row two that are bad.
 *
 * With no active backend draining ones go first, so that their flows stay whole.
 *
 * @returns null when no backend is active or draining
 * @throws RangeError for a number of rows, hops, backends or a weight out of range, an address that is there twice, a seed
 *   that has not 16 bytes
 */
export function buildRendezvous(
  backends: readonly RendezvousBackend[],
  options: RendezvousOptions,
): RendezvousTable | null {
  const { rows, hops, glbSeed } = options;
  if (!Number.isInteger(rows) || rows < 1 || rows > MAX_ROWS) {
    throw new RangeError(`${rows} rows: must be an integer from 1 to ${MAX_ROWS}`);
  }
  if (!Number.isInteger(hops) || hops < 1 || hops > MAX_HOPS) {
    throw new RangeError(`${hops} hops: must be an integer from 1 to ${MAX_HOPS}`);
  }
  const candidates = candidatesOf(backends);
  if (candidates.length === 0) return null;
  const addresses = candidates.map(({ address }) => address);
  const scores = glbSeed ? new GlbScores(addresses, glbSeed) : new SluiceScores(addresses);
  return { hops, rows: new Ranking(candidates, scores).chains(rows, hops) };
}

interface Candidate {
  position: number;
  address: Address;
  weight: number;
  active: boolean;
}

/**
 * Those that may be in a chain, the heaviest first: that leaves fewer of the others to look at closely. It is also the order of
 * two of equal cost.
 */
function candidatesOf(backends: readonly RendezvousBackend[]): Candidate[] {
  if (backends.length > NO_HOP) {
    throw new RangeError(`${backends.length} backends in one table: the limit is ${NO_HOP}`);
  }
  const seen = new Set<string>();
  const candidates: Candidate[] = [];
  backends.forEach(({ address, weight, state }, position) => {
    if (!Number.isInteger(weight) || weight < 0 || weight > MAX_WEIGHT) {
      throw new RangeError(`weight ${weight} of backend ${address.text} is not an integer from 0 to ${MAX_WEIGHT}`);
    }
    if (seen.has(address.text)) throw new RangeError(`backend ${address.text} is in the table twice`);
    seen.add(address.text);
    if (state === 'inactive') return;
    candidates.push({ position, address, weight: Math.max(weight, 1), active: state === 'active' && weight > 0 });
  });
  return candidates.sort((a, b) => b.weight - a.weight || (a.address.text < b.address.text ? -1 : 1));
}

/** Ranks candidates row by row, keeping only the front of each ranking: no sort, and logarithms for a few of them only. */
class Ranking {
  private readonly positions: Uint16Array;
  private readonly active: Uint8Array;
  private readonly perWeight: Float64Array;
  private readonly equalWeights: boolean;
  private readonly scored: Float64Array;
  /** The front of the row's ranking: costs ascending, and whose they are. */
  private readonly costs = new Float64Array(MAX_HOPS);
  private readonly front = new Int32Array(MAX_HOPS);

  constructor(
    candidates: Candidate[],
    private readonly scores: RendezvousScores,
  ) {
    this.positions = Uint16Array.from(candidates, ({ position }) => position);
    this.active = Uint8Array.from(candidates, ({ active }) => (active ? 1 : 0));
    this.equalWeights = candidates.every(({ weight }) => weight === candidates[0].weight);
    this.perWeight = Float64Array.from(candidates, ({ weight }) => 1 / weight);
    this.scored = new Float64Array(candidates.length);
  }

  chains(count: number, hops: number): Uint16Array {
    const rows = new Uint16Array(count * hops).fill(NO_HOP);
    for (let row = 0; row < count; row++) {
      this.scores.fill(row, this.scored);
      const first = this.rank(hops);
      let at = row * hops;
      const end = at + hops;
      if (first >= 0) rows[at++] = this.positions[first];
      for (let i = 0; i < hops && at < end && this.front[i] >= 0; i++) {
        if (this.front[i] !== first) rows[at++] = this.positions[this.front[i]];
      }
    }
    return rows;
  }

  /** Sets `front` to the first `hops` candidates of the row, -1 after the last. Returns the first active one, or -1. */
  private rank(hops: number): number {
    const { scored, perWeight, active, equalWeights, costs, front } = this;
    const last = hops - 1;
    costs.fill(Infinity);
    front.fill(-1);
    let first = -1;
    let firstCost = Infinity;
    for (let i = 0; i < scored.length; i++) {
      const x = scored[i];
      // -ln(1 - x) >= x + x * x / 2: most candidates are out without a logarithm. Of two equal costs the later is out.
      let cost = equalWeights ? x : x * (1 + 0.5 * x) * perWeight[i];
      if (cost >= costs[last] && (active[i] === 0 || cost >= firstCost)) continue;
      if (!equalWeights) cost = minusLog(x) * perWeight[i];
      if (active[i] === 1 && cost < firstCost) {
        first = i;
        firstCost = cost;
      }
      if (cost >= costs[last]) continue;
      let at = last;
      for (; at > 0 && costs[at - 1] > cost; at--) {
        costs[at] = costs[at - 1];
        front[at] = front[at - 1];
      }
      costs[at] = cost;
      front[at] = i;
    }
    return first;
  }
}

/** Coefficients of artanh's series, last first: enough of them for 14 digits at 1/3. */
const ARTANH = Float64Array.from({ length: 15 }, (_, i) => 1 / (29 - 2 * i));

/**
 * -ln(1 - x) for 0 <= x < 1. Math.log may differ in the last digit from one Node to the next, and a table must not; additions,
 * multiplications and divisions are exact by IEEE 754.
 */
function minusLog(x: number): number {
  let halvings = 0;
  let u = 1 - x;
  for (; u < 0.5; u *= 2) halvings++;
  // -ln(u) = 2 artanh((1 - u) / (1 + u)), and the argument is at most 1/3.
  const s = halvings === 0 ? x / (2 - x) : (1 - u) / (1 + u);
  const square = s * s;
  let sum = 0;
  for (let i = 0; i < ARTANH.length; i++) sum = sum * square + ARTANH[i];
  return halvings * Math.LN2 + 2 * s * sum;
}

import { FlowRecord } from '../../shared/flow_ring.js';
import type { FlowSets, KeepsFlow } from './flow_sets.js';

/** Flows a second that an interface takes, and how many at once. */
const FLOWS_PER_SECOND = 20_000;
const FLOWS_AT_ONCE = 2_000;

export interface FlowInstallerOptions {
  /** Of one cache. */
  flows: Readonly<Record<4 | 6, FlowSets>>;
  /** Generation for a flow of this backend; 0: it is not taken. */
  generationOf: (backend: number, incarnation: number) => number;
  keeps: KeepsFlow;
}

/** A flow on its way in. */
interface Offer {
  record: Int32Array;
  worker: number;
  generation: number;
}

interface Announced {
  sets: FlowSets;
  place: number;
  backend: number;
  generation: number;
}

/**
 * Takes flows into one cache, in two steps, and takes them out when a worker says so. Remembers those that are on their way in, which their rate bounds;
 * of those that are in, the sets are the only list (FlowWalk).
 *
 * The two steps: a flow is announced, with generation 0, in one turn, and put in force in the next. A SYN, FIN or RST that comes after the announcement voids it in
 * the kernel, and the second step then fails; one that came before it has reached its worker until the next turn, whose word (`ended`) comes
 * first. So no decision is ever in force that is older than a packet which may have changed it. `turn` must therefore be called no sooner than
 * a worker takes for what is in its ring, and after all that the rings have to say was given to `offer` and `ended`.
 */
export class FlowInstaller {
  private announced: Announced[] = [];
  private coming: Offer[] = [];
  /** Flows that ended since the last turn; few, since most have never been offered. */
  private readonly over = new Set<string>();
  private tokens = FLOWS_AT_ONCE;
  private turnedMs = 0;
  /** Flows put in force so far, and offers that were above the rate or found all places of their set in use. */
  installed = 0;
  refused = 0;

  constructor(private readonly options: FlowInstallerOptions) {}

  /** An offer of a worker. */
  offer(worker: number, record: Int32Array): void {
    const generation = this.options.generationOf(record[FlowRecord.backend], record[FlowRecord.incarnation]);
    if (generation === 0) return;
    if (this.tokens < 1) {
      this.refused++;
      return;
    }
    this.tokens--;
    this.coming.push({ record: Int32Array.from(record), worker, generation });
  }

  /** A worker says that a flow ended. */
  ended(record: Int32Array): void {
    this.over.add(nameOf(record));
    const sets = this.options.flows[familyOf(record)];
    const place = sets.find(record);
    if (place >= 0) sets.void(place);
  }

  /** Nothing that was offered so far is to be put in force: tables have changed, or a word of a worker was lost. */
  discard(): void {
    for (const { sets, place } of this.announced) sets.withdraw(place);
    this.announced = [];
    this.coming = [];
  }

  /** Puts in force what was announced in the turn before, and announces what was offered since. */
  turn(nowMs: number): void {
    for (const { sets, place, backend, generation } of this.announced) {
      if (sets.enforce(place, backend, generation, nowMs)) this.installed++;
    }
    this.announced = [];
    for (const offer of this.coming) {
      if (this.over.size === 0 || !this.over.has(nameOf(offer.record))) this.announce(offer, nowMs);
    }
    this.coming = [];
    this.over.clear();
    const elapsed = Math.max(0, nowMs - this.turnedMs);
    this.tokens = Math.min(FLOWS_AT_ONCE, this.tokens + (elapsed * FLOWS_PER_SECOND) / 1000);
    this.turnedMs = nowMs;
  }

  private announce({ record, worker, generation }: Offer, nowMs: number): void {
    const sets = this.options.flows[familyOf(record)];
    const place = sets.announce(record, worker, nowMs, this.options.keeps);
    if (place < 0) this.refused++;
    else this.announced.push({ sets, place, backend: record[FlowRecord.backend], generation });
  }
}

/** Family of the flow that a record is about. */
function familyOf(record: Int32Array): 4 | 6 {
  return ((record[FlowRecord.what] >>> 8) & 0xff) as 4 | 6;
}

function nameOf(record: Int32Array): string {
  return `${record[FlowRecord.what] & 0xffff} ${record.subarray(FlowRecord.src0, FlowRecord.ports + 1).join()}`;
}

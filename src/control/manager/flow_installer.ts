import { FlowRecord } from '../../shared/flow_ring.js';
import { FlowBatch, familyOf, keyOf } from './flow_batch.js';

/** Flows a second that an interface takes, and how many at once. */
const FLOWS_PER_SECOND = 20_000;
const FLOWS_AT_ONCE = 2_000;

/** Of a cache, what is needed here; see FlowCache. */
export interface FlowTarget {
  /** Keys and values one after the other. */
  put(family: 4 | 6, keys: Uint8Array, values: Uint8Array): void;
  /** False: it is not there any more. */
  replace(family: 4 | 6, key: Uint8Array, value: Uint8Array): boolean;
  remove(family: 4 | 6, key: Uint8Array): void;
}

export interface FlowInstallerOptions {
  target: FlowTarget;
  /** Generation for a flow of this backend; 0: it is not taken. */
  generationOf: (backend: number, incarnation: number) => number;
}

/**
 * Takes flows into one cache, in two steps, and takes them out when a worker says so. Remembers those that are on their way in, which their rate bounds;
 * of those that are in, the kernel's map is the only list (FlowWalk).
 *
 * The two steps: a flow is announced, with generation 0, in one turn, and put in force in the next. A SYN, FIN or RST that comes after the announcement deletes it in
 * the kernel, and the second step then fails; one that came before it has reached its worker until the next turn, whose word (`ended`) comes
 * first. So no decision is ever in force that is older than a packet which may have changed it. `turn` must therefore be called no sooner than
 * a worker takes for what is in its ring, and after all that the rings have to say was given to `offer` and `ended`.
 */
export class FlowInstaller {
  private announced = batches();
  private coming = batches();
  /** Flows that ended since the last turn; few, since most have never been offered. */
  private readonly over = new Set<string>();
  private tokens = FLOWS_AT_ONCE;
  private turnedMs = 0;
  /** Flows put in force so far, and offers that were above the rate. */
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
    this.coming[familyOf(record)].add(record, generation, worker);
  }

  /** A worker says that a flow ended. */
  ended(record: Int32Array): void {
    const key = keyOf(record);
    this.over.add(nameOf(key));
    this.options.target.remove(familyOf(record), key);
  }

  /** Nothing that was offered so far is to be put in force: tables have changed, or a word of a worker was lost. */
  discard(): void {
    for (const batch of [this.announced, this.coming]) batch[4].count = batch[6].count = 0;
  }

  /** Puts in force what was announced in the turn before, and announces what was offered since. */
  turn(nowMs: number): void {
    const { target } = this.options;
    const { announced, coming, over } = this;
    for (const family of [4, 6] as const) {
      const former = announced[family];
      const next = coming[family];
      if (over.size > 0) for (const batch of [former, next]) batch.filter((key) => !over.has(nameOf(key)));
      for (let i = 0; i < former.count; i++) {
        if (target.replace(family, former.keyOf(i), former.valueInForce(i, nowMs))) this.installed++;
      }
      former.count = 0;
      const { keys, values } = next.all(nowMs);
      if (next.count > 0) target.put(family, keys, values);
    }
    over.clear();
    this.announced = coming;
    this.coming = announced;
    const elapsed = Math.max(0, nowMs - this.turnedMs);
    this.tokens = Math.min(FLOWS_AT_ONCE, this.tokens + (elapsed * FLOWS_PER_SECOND) / 1000);
    this.turnedMs = nowMs;
  }
}

/** Room for what the rate lets in between two turns. */
function batches(): Readonly<Record<4 | 6, FlowBatch>> {
  return { 4: new FlowBatch(4, FLOWS_AT_ONCE), 6: new FlowBatch(6, FLOWS_AT_ONCE) };
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

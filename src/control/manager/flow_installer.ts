import { FlowRecord } from '../../shared/flow_ring.js';
import { encodeFlowKey, encodeFlowValue, type FlowDecision, type FlowTuple } from '../ebpf/flow_layout.js';

/** Flows a second that an interface takes, and how many at once. */
const FLOWS_PER_SECOND = 20_000;
const FLOWS_AT_ONCE = 2_000;

/** Of a cache, what is needed here; see FlowCache. */
export interface FlowTarget {
  put(family: 4 | 6, key: Uint8Array, value: Uint8Array): void;
  replace(family: 4 | 6, key: Uint8Array, value: Uint8Array): boolean;
  remove(family: 4 | 6, key: Uint8Array): void;
}

interface Announced extends FlowDecision {
  family: 4 | 6;
  key: Uint8Array;
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
  private readonly announced = new Map<string, Announced>();
  private readonly coming = new Map<string, Announced>();
  private tokens = FLOWS_AT_ONCE;
  private turnedMs = 0;
  /** Flows put in force so far, and offers that were above the rate. */
  installed = 0;
  refused = 0;

  constructor(private readonly options: FlowInstallerOptions) {}

  /** An offer of a worker. */
  offer(worker: number, record: Int32Array, nowMs: number): void {
    const backend = record[FlowRecord.backend];
    const generation = this.options.generationOf(backend, record[FlowRecord.incarnation]);
    if (generation === 0) return;
    if (this.tokens < 1) {
      this.refused++;
      return;
    }
    this.tokens--;
    const tuple = tupleOf(record);
    const key = encodeFlowKey(tuple);
    this.coming.set(nameOf(key), {
      family: tuple.family,
      key,
      backend,
      generation,
      worker,
      seenMs: nowMs,
      sport: record[FlowRecord.sportAndPort] >>> 16,
      label: record[FlowRecord.label],
      host: record[FlowRecord.host],
    });
  }

  /** A worker says that a flow ended. */
  ended(record: Int32Array): void {
    const tuple = tupleOf(record);
    const key = encodeFlowKey(tuple);
    const name = nameOf(key);
    this.announced.delete(name);
    this.coming.delete(name);
    this.options.target.remove(tuple.family, key);
  }

  /** Nothing that was offered so far is to be put in force: tables have changed, or a word of a worker was lost. */
  discard(): void {
    this.announced.clear();
    this.coming.clear();
  }

  /** Puts in force what was announced in the turn before, and announces what was offered since. */
  turn(nowMs: number): void {
    const { target } = this.options;
    for (const flow of this.announced.values()) {
      flow.seenMs = nowMs;
      if (target.replace(flow.family, flow.key, encodeFlowValue(flow))) this.installed++;
    }
    this.announced.clear();
    for (const [name, flow] of this.coming) {
      target.put(flow.family, flow.key, encodeFlowValue({ ...flow, seenMs: nowMs, generation: 0 }));
      this.announced.set(name, flow);
    }
    this.coming.clear();
    const elapsed = Math.max(0, nowMs - this.turnedMs);
    this.tokens = Math.min(FLOWS_AT_ONCE, this.tokens + (elapsed * FLOWS_PER_SECOND) / 1000);
    this.turnedMs = nowMs;
  }
}

function tupleOf(record: Int32Array): FlowTuple {
  const family = ((record[FlowRecord.what] >>> 8) & 0xff) as 4 | 6;
  const words = family === 4 ? 1 : 4;
  return {
    family,
    protocol: record[FlowRecord.what] & 0xff,
    src: [...record.subarray(FlowRecord.src0, FlowRecord.src0 + words)],
    dst: [...record.subarray(FlowRecord.dst0, FlowRecord.dst0 + words)],
    ports: record[FlowRecord.ports],
  };
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

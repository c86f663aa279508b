import { FlowRecord, FlowSaying, type FlowRing } from '../../shared/flow_ring.js';
import { encodeFlowKey, encodeFlowValue, type FlowDecision, type FlowTuple } from '../ebpf/flow_layout.js';

/** Flows a second that an interface takes, and how many at once. */
const FLOWS_PER_SECOND = 20_000;
const FLOWS_AT_ONCE = 2_000;

/** Flows of the list that are looked at in one turn: some 5 ms. */
const LOOK_MOST = 4096;
/** How often each flow is looked at, ms, as long as there are no more than can be looked at in this time. */
const ROUND_MS = 2000;
/** FLOW_SEEN_NS of bpf/flow_cache.bpf.c: how much later than written a flow's last packet may have come, ms. */
const SEEN_MS = 1000;
/** A flow that is not served, and was announced so long ago, is taken out, ms. */
const ANNOUNCED_MS = 10_000;

/** Of a cache, what is needed here; see FlowCache. */
export interface FlowTarget {
  put(family: 4 | 6, key: Uint8Array, value: Uint8Array): void;
  replace(family: 4 | 6, key: Uint8Array, value: Uint8Array): boolean;
  find(family: 4 | 6, key: Uint8Array): FlowDecision | null;
  remove(family: 4 | 6, key: Uint8Array): void;
}

interface Listed {
  family: 4 | 6;
  key: Uint8Array;
  worker: number;
  /** Of a packet that its worker was told of. */
  toldMs: number;
}

interface Announced extends FlowDecision {
  family: 4 | 6;
  key: Uint8Array;
}

export interface FlowInstallerOptions {
  target: FlowTarget;
  /** Generation for a flow of this backend; 0: it is not taken. */
  generationOf: (backend: number, incarnation: number) => number;
  /** Longest idle time of any flow, ms. */
  idleMs: number;
  /** Ring to a worker; null: it is gone. */
  tell: (worker: number) => FlowRing | null;
}

/**
 * What is in one cache: takes flows in, in two steps, forgets them, and tells workers of their packets.
 *
 * The two steps: a flow is announced, with generation 0, in one turn, and put in force in the next. A SYN, FIN or RST that comes after the announcement deletes it in
 * the kernel, and the second step then fails; one that came before it has reached its worker until the next turn, whose word (`ended`) comes
 * first. So no decision is ever in force that is older than a packet which may have changed it. `turn` must therefore be called no sooner than
 * a worker takes for what is in its ring, and after all that the rings have to say was given to `offer` and `ended`.
 */
export class FlowInstaller {
  private readonly announced = new Map<string, Announced>();
  private readonly coming = new Map<string, Announced>();
  private readonly list: Listed[] = [];
  private cursor = 0;
  private tokens = FLOWS_AT_ONCE;
  private turnedMs = 0;
  /** Flows put in force so far, and offers that were above the rate. */
  installed = 0;
  refused = 0;

  constructor(private readonly options: FlowInstallerOptions) {}

  /** Flows that are listed: those in the cache, and some that have left it since they were looked at. */
  get size(): number {
    return this.list.length;
  }

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
      host: 0,
      place: 0,
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
      flow.place = this.list.length;
      flow.seenMs = nowMs;
      if (!target.replace(flow.family, flow.key, encodeFlowValue(flow))) continue;
      this.list.push({ family: flow.family, key: flow.key, worker: flow.worker, toldMs: nowMs });
      this.installed++;
    }
    this.announced.clear();
    for (const [name, flow] of this.coming) {
      target.put(flow.family, flow.key, encodeFlowValue({ ...flow, seenMs: nowMs, generation: 0 }));
      this.announced.set(name, flow);
    }
    this.coming.clear();
    const elapsed = Math.max(0, nowMs - this.turnedMs);
    this.tokens = Math.min(FLOWS_AT_ONCE, this.tokens + (elapsed * FLOWS_PER_SECOND) / 1000);
    this.look(nowMs, Math.min(LOOK_MOST, Math.ceil((this.list.length * Math.min(elapsed, ROUND_MS)) / ROUND_MS)));
    this.turnedMs = nowMs;
  }

  /** Looks at the next flows of the list: tells workers of their packets, and drops from the list what has left the cache. */
  private look(nowMs: number, count: number): void {
    for (let i = 0; i < count && this.list.length > 0; i++) {
      if (this.cursor >= this.list.length) this.cursor = 0;
      const at = this.cursor;
      const listed = this.list[at];
      const found = this.options.target.find(listed.family, listed.key);
      // Another place: it left and came again, and is listed there.
      if (found?.place !== at || this.isOver(found, listed, nowMs)) {
        this.unlist(at);
        continue;
      }
      this.cursor++;
      if (found.seenMs > listed.toldMs) this.tellOf(listed, found.seenMs, nowMs);
    }
  }

  private isOver(found: FlowDecision, { family, key }: Listed, nowMs: number): boolean {
    const limit = found.generation === 0 ? ANNOUNCED_MS : this.options.idleMs;
    if (nowMs - found.seenMs <= limit) return false;
    this.options.target.remove(family, key);
    return true;
  }

  /** The last of the list comes into its place, and is told so in the cache. */
  private unlist(at: number): void {
    const last = this.list.pop()!;
    if (at === this.list.length) return;
    this.list[at] = last;
    const found = this.options.target.find(last.family, last.key);
    if (found?.place !== this.list.length) return;
    this.options.target.replace(last.family, last.key, encodeFlowValue({ ...found, place: at }));
  }

  private tellOf(listed: Listed, seenMs: number, nowMs: number): void {
    const ring = this.options.tell(listed.worker);
    if (ring === null) return;
    const { record } = ring;
    const view = new DataView(listed.key.buffer, listed.key.byteOffset, listed.key.byteLength);
    const words = listed.family === 4 ? 1 : 4;
    for (let i = 0; i < words; i++) {
      record[FlowRecord.src0 + i] = view.getInt32(4 * i);
      record[FlowRecord.dst0 + i] = view.getInt32(4 * (words + i));
    }
    record[FlowRecord.ports] = view.getInt32(8 * words);
    record[FlowRecord.what] = (FlowSaying.seen << 16) | (listed.family << 8) | view.getUint32(8 * words + 4, true);
    record[FlowRecord.seenMs] = Math.min(nowMs, seenMs + SEEN_MS) | 0;
    if (ring.put()) listed.toldMs = seenMs;
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

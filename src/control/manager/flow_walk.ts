import { FlowRecord, FlowSaying, type FlowRing } from '../../shared/flow_ring.js';
import { FLOW_WAYS, FlowGeneration } from '../ebpf/flow_layout.js';
import type { FlowIdleTimes } from './flow_cache.js';
import type { FlowSets, KeepsFlow } from './flow_sets.js';

/** Time that one turn takes, ms; and what it goes on for without a look at the clock, some 100 µs, in sets that are empty. */
const SLICE_MS = 3;
const AT_A_TIME = 16_384;
/** What a flow takes, in the same unit. */
const OF_A_FLOW = 64;
/** From the beginning of a round to that of the next, ms, unless a round takes longer. */
const ROUND_MS = 2000;
/** FLOW_SEEN_NS of bpf/flow_cache.bpf.c: how much later than written a flow's last packet may have come, ms. */
const SEEN_MS = 1000;
/** What was written so long before a round began may have been written after the entry was looked at: the program's clock is coarse, ms. */
const CLOCK_MS = 20;
/** A flow that is not served, and was announced so long ago, is taken out, ms. */
const ANNOUNCED_MS = 10_000;
/** A worker's ring that is full holds the round up for so long, ms; then it misses what there was to say. */
const STUCK_MS = 1000;

const FAMILIES = [4, 6] as const;
/** IPPROTO_TCP. */
const TCP = 6;

export interface FlowWalkOptions {
  /** Of one cache. */
  flows: Readonly<Record<4 | 6, FlowSets>>;
  idle: FlowIdleTimes;
  keeps: KeepsFlow;
  /** Ring to a worker; null: it is gone. */
  tell: (worker: number) => FlowRing | null;
  /** ms, of any beginning. */
  clock?: () => number;
}

/**
 * Goes round and round through a cache, some ms of each turn: tells workers which of their flows had packets, and takes out those that are idle or
 * void. The sets are the only list of flows there is: this keeps a place in them, whatever the number of flows.
 *
 * An entry is told of again if its time is later than the beginning of the round before: more than once at times, but never not. Where a worker's ring is full,
 * the walk waits for it.
 */
export class FlowWalk {
  /** Family in hand: 0, 1; 2: the round is over. */
  private family: number = FAMILIES.length;
  /** Number of the set in hand, and places of it that are done. */
  private set = 0;
  private done = 0;
  private startedMs = -Infinity;
  private startedBeforeMs = -Infinity;
  private counted = 0;
  private readonly stuckMs = new Map<number, number>();
  /** Flows in force in the last round that is over. */
  flows = 0;
  /** Rounds that are over. */
  rounds = 0;

  constructor(private readonly options: FlowWalkOptions) {}

  /** Goes on for SLICE_MS, or to the end of the round. `nowMs`: CLOCK_MONOTONIC. */
  turn(nowMs: number): void {
    if (this.family === FAMILIES.length && !this.begin(nowMs)) return;
    const { clock = () => performance.now() } = this.options;
    const until = clock() + SLICE_MS;
    while (this.family < FAMILIES.length && clock() < until) if (!this.some(nowMs)) return;
  }

  private begin(nowMs: number): boolean {
    if (nowMs - this.startedMs < ROUND_MS) return false;
    this.startedBeforeMs = this.startedMs;
    this.startedMs = nowMs;
    this.counted = this.family = this.set = this.done = 0;
    return true;
  }

  /** Goes on for AT_A_TIME, or to the end of the family. False: a worker's ring is full, at the flow in hand. */
  private some(nowMs: number): boolean {
    const flows = this.options.flows[FAMILIES[this.family]];
    for (let left = AT_A_TIME; left > 0 && this.set < flows.sets; this.set++, left--) {
      const set = flows.placesOf(this.set);
      let hasVoid = false;
      for (; this.done < FLOW_WAYS; this.done++, left -= OF_A_FLOW) {
        const place = set + this.done * flows.stride;
        const generation = flows.generation(place);
        if (generation === (FlowGeneration.empty as number)) break;
        if (generation !== (FlowGeneration.void as number) && !this.look(flows, place, generation, nowMs)) return false;
        hasVoid ||= flows.generation(place) === (FlowGeneration.void as number);
      }
      if (hasVoid) flows.trim(set);
      this.done = 0;
    }
    if (this.set === flows.sets) this.endFamily();
    return true;
  }

  private endFamily(): void {
    this.family++;
    this.set = 0;
    if (this.family < FAMILIES.length) return;
    this.flows = this.counted;
    this.rounds++;
  }

  /** False: it is to be looked at again, when its worker's ring has room. */
  private look(flows: FlowSets, place: number, generation: number, nowMs: number): boolean {
    const { idle, keeps } = this.options;
    const idleMs = flows.idleMs(place, nowMs);
    if (generation === (FlowGeneration.announced as number)) {
      if (idleMs > ANNOUNCED_MS) flows.void(place);
      return true;
    }
    const isOver = idleMs > (flows.protocol(place) === TCP ? idle.tcpMs : idle.udpMs);
    if (isOver || !keeps(flows.backend(place), generation)) {
      flows.void(place);
      return true;
    }
    const seenMs = nowMs - idleMs;
    if (seenMs > this.startedBeforeMs - CLOCK_MS) {
      if (!this.tell(flows, place, Math.min(nowMs, seenMs + SEEN_MS), nowMs)) return false;
    }
    this.counted++;
    return true;
  }

  /** Tells the flow's worker of it. False: its ring is full, and the walk is to wait. */
  private tell(flows: FlowSets, place: number, seenMs: number, nowMs: number): boolean {
    const worker = flows.worker(place);
    const ring = this.options.tell(worker);
    if (ring === null) return true;
    const { record } = ring;
    flows.read(place, record);
    record[FlowRecord.what] |= FlowSaying.seen << 16;
    record[FlowRecord.seenMs] = seenMs | 0;
    if (ring.put()) {
      this.stuckMs.delete(worker);
      return true;
    }
    const since = this.stuckMs.get(worker) ?? nowMs;
    this.stuckMs.set(worker, since);
    return nowMs - since >= STUCK_MS;
  }
}

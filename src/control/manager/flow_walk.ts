import { FlowRecord, FlowSaying, type FlowRing } from '../../shared/flow_ring.js';
import { FLOW_KEY_BYTES, FLOW_VALUE_BYTES, FlowValueAt } from '../ebpf/flow_layout.js';
import type { FlowIdleTimes } from './flow_cache.js';

/** Entries that are read with one call: some 150 µs. */
const AT_A_TIME = 512;
/** Time that one turn takes, ms; one call more at most. */
const SLICE_MS = 3;
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

/** Of a cache, what is needed here; see FlowCache. */
export interface WalkedCache {
  /** See BpfMap.lookupBatch. */
  read(
    family: 4 | 6,
    keys: Uint8Array,
    values: Uint8Array,
    from: number | null,
  ): { count: number; next: number | null };
  /** `keys`: one after the other. Those that are not there do not matter. */
  removeMany(family: 4 | 6, keys: Uint8Array): void;
}

export interface FlowWalkOptions {
  cache: WalkedCache;
  idle: FlowIdleTimes;
  /** Whether a flow with this generation is the backend's: false for good, once false. */
  keeps: (backend: number, generation: number) => boolean;
  /** Ring to a worker; null: it is gone. */
  tell: (worker: number) => FlowRing | null;
  /** ms, of any beginning. */
  clock?: () => number;
}

/**
 * Goes round and round through a cache, some ms of each turn: tells workers which of their flows had packets, and takes out those that are idle or
 * void. The kernel's map is the only list of flows there is: this keeps one batch of entries, whatever the number of flows.
 *
 * An entry is told of again if its time is later than the beginning of the round before: more than once at times, but never not. Where a worker's ring is full,
 * the walk waits for it.
 */
export class FlowWalk {
  private readonly keys = new Uint8Array(AT_A_TIME * FLOW_KEY_BYTES[6]);
  private readonly values = new Uint8Array(AT_A_TIME * FLOW_VALUE_BYTES);
  private readonly keyView = new DataView(this.keys.buffer);
  private readonly valueView = new DataView(this.values.buffer);
  /** Keys of the batch that are to go. */
  private readonly gone = new Uint8Array(this.keys.length);
  private goneCount = 0;
  /** Family in hand: 0, 1; 2: the round is over. */
  private family: number = FAMILIES.length;
  private from: number | null = null;
  /** Of the batch in hand. */
  private at = 0;
  private count = 0;
  private isLast = true;
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
    while (this.family < FAMILIES.length && clock() < until) {
      if (this.at === this.count && !this.readSome()) continue;
      const isHeldUp = !this.look(nowMs);
      this.takeOut();
      if (isHeldUp) return;
    }
  }

  private begin(nowMs: number): boolean {
    if (nowMs - this.startedMs < ROUND_MS) return false;
    this.startedBeforeMs = this.startedMs;
    this.startedMs = nowMs;
    this.family = 0;
    this.counted = 0;
    this.beginFamily();
    return true;
  }

  private beginFamily(): void {
    this.from = null;
    this.at = this.count = 0;
    this.isLast = false;
  }

  /** Fetches the next batch; false: that was all of the family. */
  private readSome(): boolean {
    if (this.isLast) {
      this.family++;
      this.beginFamily();
      if (this.family === FAMILIES.length) {
        this.flows = this.counted;
        this.rounds++;
      }
      return false;
    }
    const family = FAMILIES[this.family];
    const keys = this.keys.subarray(0, AT_A_TIME * FLOW_KEY_BYTES[family]);
    const { count, next } = this.options.cache.read(family, keys, this.values, this.from);
    this.at = 0;
    this.count = count;
    this.from = next;
    this.isLast = next === null;
    return true;
  }

  /** Looks at what is left of the batch. False: a worker's ring is full, at the entry in hand. */
  private look(nowMs: number): boolean {
    const { valueView, options } = this;
    const keyBytes = FLOW_KEY_BYTES[FAMILIES[this.family]];
    for (; this.at < this.count; this.at++) {
      const value = this.at * FLOW_VALUE_BYTES;
      const seenNs =
        valueView.getUint32(value + FlowValueAt.seenNs + 4, true) * 2 ** 32 +
        valueView.getUint32(value + FlowValueAt.seenNs, true);
      const seenMs = seenNs / 1e6;
      const generation = valueView.getUint32(value + FlowValueAt.generation, true);
      const idleMs = nowMs - seenMs;
      if (generation === 0) {
        if (idleMs > ANNOUNCED_MS) this.remove(keyBytes);
        continue;
      }
      const protocol = this.keyView.getUint32((this.at + 1) * keyBytes - 4, true);
      if (
        idleMs > (protocol === TCP ? options.idle.tcpMs : options.idle.udpMs) ||
        !options.keeps(valueView.getUint32(value + FlowValueAt.backend, true), generation)
      ) {
        this.remove(keyBytes);
        continue;
      }
      if (seenMs > this.startedBeforeMs - CLOCK_MS) {
        const worker = valueView.getUint16(value + FlowValueAt.worker, true);
        if (!this.tell(worker, Math.min(nowMs, seenMs + SEEN_MS), nowMs)) return false;
      }
      this.counted++;
    }
    return true;
  }

  private remove(keyBytes: number): void {
    const from = this.at * keyBytes;
    this.gone.set(this.keys.subarray(from, from + keyBytes), this.goneCount * keyBytes);
    this.goneCount++;
  }

  private takeOut(): void {
    if (this.goneCount === 0) return;
    const family = FAMILIES[this.family];
    this.options.cache.removeMany(family, this.gone.subarray(0, this.goneCount * FLOW_KEY_BYTES[family]));
    this.goneCount = 0;
  }

  /** Tells the worker of the flow in hand. False: its ring is full, and the walk is to wait. */
  private tell(worker: number, seenMs: number, nowMs: number): boolean {
    const ring = this.options.tell(worker);
    if (ring === null) return true;
    const { record } = ring;
    const { keyView } = this;
    const family = FAMILIES[this.family];
    const key = this.at * FLOW_KEY_BYTES[family];
    const words = family === 4 ? 1 : 4;
    for (let i = 0; i < words; i++) {
      record[FlowRecord.src0 + i] = keyView.getInt32(key + 4 * i);
      record[FlowRecord.dst0 + i] = keyView.getInt32(key + 4 * (words + i));
    }
    record[FlowRecord.ports] = keyView.getInt32(key + 8 * words);
    record[FlowRecord.what] = (FlowSaying.seen << 16) | (family << 8) | keyView.getUint32(key + 8 * words + 4, true);
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

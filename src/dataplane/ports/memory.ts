import { BurstHeader } from '../port.js';
import type { MemoryPool } from './memory_pool.js';
import { PoolPort, type Fate, type PoolPortOptions } from './pool_port.js';

export interface MemoryPortOptions extends PoolPortOptions {
  /** Monotonic milliseconds for the burst header, wrapped to int32 here; default: time since the process started. */
  clock?: () => number;
  /** Keep copies of dropped packets in `dropped`; default false. */
  keepDropped?: boolean;
}

/**
 * A port for tests: hand packets in with `inject`, find what left in `sent` and `passed`. Packets are copied in and
 * out. For benches, where every nanosecond is the path's own, see LoopPort in ports/loop.ts.
 */
export class MemoryPort extends PoolPort {
  /** Packets that left by this port, from its own bursts or redirected by others. Yours to empty. */
  readonly sent: Uint8Array[] = [];
  /** Packets for the host's stack. */
  readonly passed: Uint8Array[] = [];
  /** Packets dropped or aborted, as the policy left them, when `keepDropped` is set; empty for one placed outside its chunk. */
  readonly dropped: Uint8Array[] = [];
  /** false: what is sent stays under way, as with a driver that does not complete. */
  completing = true;
  readonly #queue: Uint8Array[] = [];
  #head = 0;
  readonly #clock: () => number;
  readonly #keepDropped: boolean;

  constructor(pool: MemoryPool, options: MemoryPortOptions = {}) {
    super(pool, options);
    this.#clock = options.clock ?? (() => performance.now());
    this.#keepDropped = options.keepDropped ?? false;
  }

  /** Queues a copy of the frame for receiving. False, and counted as the kernel counts it, when no chunk can hold it. */
  inject(frame: Uint8Array): boolean {
    if (!this.fits(frame.length)) return false;
    this.#queue.push(new Uint8Array(frame));
    return true;
  }

  /** Frames that wait to be received: for a burst with room and a free frame. */
  get waiting(): number {
    return this.#queue.length - this.#head;
  }

  protected override receive(): void {
    this.burst.header[BurstHeader.nowMs] = this.#clock();
    const queue = this.#queue;
    while (this.#head < queue.length && this.place(queue[this.#head])) this.#head++;
    // Cut off what was received once it is half of the queue: constant time for each frame, and bounded memory.
    if (this.#head > queue.length >> 1) {
      queue.splice(0, this.#head);
      this.#head = 0;
    }
  }

  override complete(): void {
    if (this.completing) super.complete();
  }

  protected override transmitted(offset: number, length: number): void {
    this.sent.push(this.pool.bytes(offset, length).slice());
  }

  protected override settled(slot: number, fate: Fate): void {
    if (fate === 'passed') this.passed.push(this.#copy(slot));
    else if (fate === 'dropped' && this.#keepDropped) this.dropped.push(this.#copy(slot));
  }

  protected override released(chunk: number, offset: number, length: number): void {
    if (!this.#keepDropped) return;
    const inside = this.withinChunk(chunk, offset, length);
    this.dropped.push(inside ? this.pool.bytes(offset, length).slice() : new Uint8Array(0));
  }

  #copy(slot: number): Uint8Array {
    if (!this.within(slot)) return new Uint8Array(0);
    return this.pool.bytes(this.burst.offset[slot], this.burst.length[slot]).slice();
  }

  override close(): void {
    this.completing = true;
    super.close();
  }
}

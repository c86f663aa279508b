import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';

/** What the garbage collector of this thread did since the start: its thread stood still meanwhile. */
export interface GcPauses {
  count: number;
  totalMs: number;
  /** The longest. */
  maxMs: number;
  /** In use on V8's heap now. Between two reports with the same `count` it grows by what was allocated. */
  heapBytes: number;
}

/** Counts pauses of the garbage collector in the calling thread, from its making to `stop`. */
export class GcWatch {
  private count = 0;
  private totalMs = 0;
  private maxMs = 0;
  private readonly observer = new PerformanceObserver((list) => this.add(list.getEntries()));

  constructor() {
    this.observer.observe({ entryTypes: ['gc'] });
  }

  /** Also of pauses that the event loop has not told of yet. */
  pauses(): GcPauses {
    this.add(this.observer.takeRecords());
    const { count, totalMs, maxMs } = this;
    return { count, totalMs, maxMs, heapBytes: getHeapStatistics().used_heap_size };
  }

  /** What was counted can still be asked for. */
  stop(): void {
    this.add(this.observer.takeRecords());
    this.observer.disconnect();
  }

  private add(entries: readonly { duration: number }[]): void {
    for (const { duration } of entries) {
      this.count++;
      this.totalMs += duration;
      this.maxMs = Math.max(this.maxMs, duration);
    }
  }
}

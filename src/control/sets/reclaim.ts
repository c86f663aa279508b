/** Places in shared memory that are out of use, until no reader can still be looking at them. */

/** The readers of a set, seen from the writer. */
export interface Readers {
  /** A mark for what the readers are doing now. */
  mark(): unknown;
  /**
   * Whether each reader has since been between two look-ups, having adopted all buffers that were handed out before the mark. Workers show it by
   * their heartbeat, which they count up between bursts: two more than at the mark.
   */
  passed(mark: unknown): boolean;
}

/** No reader runs beside the writer: one thread does both. */
export const NO_READERS: Readers = { mark: () => null, passed: () => true };

/** Readers that show a count each, as the workers' heartbeats. A reader that is gone leaves the list; `live` is asked at each mark. */
export class CountingReaders implements Readers {
  /** `live`: the readers that run, each by an object that stays the same, and their counts now. */
  constructor(private readonly live: () => ReadonlyMap<object, number>) {}

  mark(): unknown {
    return new Map(this.live());
  }

  passed(mark: unknown): boolean {
    const now = this.live();
    for (const [reader, count] of mark as ReadonlyMap<object, number>) {
      const later = now.get(reader);
      // Counts wrap. One more may have been under way when the mark was made.
      if (later !== undefined && ((later - count) | 0) < 2) return false;
    }
    return true;
  }
}

/** Retired places in the order of their retirement, in two batches: one waits for its mark, the other collects what comes meanwhile. */
export class Reclaimer {
  private waiting: number[] = [];
  private coming: number[] = [];
  private mark: unknown = null;

  /** `release` gets the two numbers of a place when it may be used again. */
  constructor(
    private readonly readers: Readers,
    private readonly release: (place: number, size: number) => void,
  ) {}

  retire(place: number, size: number): void {
    this.coming.push(place, size);
  }

  /** Releases what no reader can see any more. Cheap: to be called with every change, at its beginning. */
  collect(): void {
    if (this.waiting.length === 0 && this.coming.length === 0) return;
    if (this.waiting.length > 0) {
      if (!this.readers.passed(this.mark)) return;
      this.releaseWaiting();
    }
    if (this.coming.length > 0) {
      [this.waiting, this.coming] = [this.coming, this.waiting];
      this.mark = this.readers.mark();
      if (this.readers === NO_READERS) this.releaseWaiting();
    }
  }

  private releaseWaiting(): void {
    const { waiting } = this;
    for (let i = 0; i < waiting.length; i += 2) this.release(waiting[i], waiting[i + 1]);
    waiting.length = 0;
  }
}

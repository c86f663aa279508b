/** What entries have beside their look-up: counters and comments. For one family of a set. */

/** What an entry is added with; absent: the set's default, or none. */
export interface AddFields {
  /** Seconds, 0: for ever. */
  timeout?: number;
  nomatch?: boolean;
  packets?: number;
  bytes?: number;
  comment?: string;
}

/** An entry as it is listed. */
export interface SetEntry {
  /** As `ipset add` takes it. */
  text: string;
  /** Seconds left, 0: for ever; null: the set has no timeouts. */
  timeout: number | null;
  nomatch: boolean;
  counters: { packets: number; bytes: number } | null;
  /** null: none. */
  comment: string | null;
}

/**
 * Counters are Float64 pairs by entry number, one array a worker, which alone writes it: an entry's count is the sum over the workers, less what the sum was
 * when the entry was made, as the number may have been another entry's before.
 */
export class EntryExtras {
  private readonly workers = new Map<number, Float64Array>();
  private readonly base: Float64Array;
  private readonly comments = new Map<number, string>();

  constructor(
    private readonly capacity: number,
    hasCounters: boolean,
  ) {
    this.base = new Float64Array(hasCounters ? 2 * (capacity + 1) : 0);
  }

  countersFor(worker: number): SharedArrayBuffer {
    let counters = this.workers.get(worker);
    if (counters === undefined) {
      counters = new Float64Array(new SharedArrayBuffer(16 * (this.capacity + 1)));
      this.workers.set(worker, counters);
    }
    return counters.buffer as SharedArrayBuffer;
  }

  /** An entry begins, or begins again. */
  start(entry: number, { packets = 0, bytes = 0, comment }: AddFields): void {
    if (this.base.length > 0) {
      this.base[2 * entry] = this.sum(2 * entry) - packets;
      this.base[2 * entry + 1] = this.sum(2 * entry + 1) - bytes;
    }
    if (comment !== undefined && comment !== '') this.comments.set(entry, comment);
    else this.comments.delete(entry);
  }

  end(entry: number): void {
    this.comments.delete(entry);
  }

  clear(): void {
    this.comments.clear();
  }

  counted(entry: number): { packets: number; bytes: number } {
    return {
      packets: this.sum(2 * entry) - this.base[2 * entry],
      bytes: this.sum(2 * entry + 1) - this.base[2 * entry + 1],
    };
  }

  /** Adds to what is counted. */
  credit(entry: number, packets: number, bytes: number): void {
    if (this.base.length === 0) return;
    this.base[2 * entry] -= packets;
    this.base[2 * entry + 1] -= bytes;
  }

  commentOf(entry: number): string | null {
    return this.comments.get(entry) ?? null;
  }

  private sum(at: number): number {
    let sum = 0;
    for (const counters of this.workers.values()) sum += counters[at];
    return sum;
  }
}

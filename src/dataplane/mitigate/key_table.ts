import { TableBucket, TableEntry, TableHeader } from '../../shared/limits/key_table.js';
import { acquire, release } from '../../shared/limits/lock.js';
import { FlowHash } from '../balance/hash.js';

/** Longest chain that is walked: ten times what a keyed hash makes of a full table, so only a damaged chain has more. */
const MAX_CHAIN = 256;

/**
 * A worker's hands on a table that all workers share (layout: src/shared/limits/key_table.ts). Set the key's fields, `find()`, use the
 * entry, `unlock()`. Every bucket has its own lock; with one worker there is no locking at all.
 */
export class KeyTable {
  /** The key in hand: addresses in network byte order, unused words 0; family 4 or 6. */
  src0 = 0;
  src1 = 0;
  src2 = 0;
  src3 = 0;
  dst0 = 0;
  dst1 = 0;
  dst2 = 0;
  dst3 = 0;
  ports = 0;
  family = 0;

  readonly words: Int32Array;
  /** The same memory, for what an entry keeps as float64: at word / 2. */
  readonly floats: Float64Array;
  readonly capacity: number;
  readonly stride: number;
  readonly firstEntry: number;
  /** More than one worker uses the table. */
  readonly shared: boolean;
  private readonly owner: number;
  private readonly mask: number;
  private readonly hash: FlowHash;
  /** Word of the bucket that find() was in last. */
  private bucket = 0;

  /** `worker`: this worker's number, 0 to `workers` - 1. */
  constructor(buffer: SharedArrayBuffer, worker: number, workers: number) {
    const words = new Int32Array(buffer);
    this.words = words;
    this.floats = new Float64Array(buffer);
    this.capacity = words[TableHeader.capacity];
    this.stride = words[TableHeader.stride];
    this.firstEntry = words[TableHeader.entries];
    this.mask = words[TableHeader.buckets] - 1;
    this.hash = new FlowHash(Array.from(words.subarray(TableHeader.hashKey, TableHeader.hashKey + 4)));
    this.owner = worker + 1;
    this.shared = workers > 1;
  }

  /** Entries that were ever used: the sweep goes so far. */
  get used(): number {
    return this.shared ? Atomics.load(this.words, TableHeader.fresh) : this.words[TableHeader.fresh];
  }

  get count(): number {
    return Atomics.load(this.words, TableHeader.count);
  }

  /**
   * First word of the key's entry, 0 when there is none; its bucket stays locked until `unlock()`. -1: the bucket could not be locked
   * (see lock.ts), nothing is held.
   */
  find(): number {
    const { words } = this;
    const bucket = this.bucketOf();
    this.bucket = bucket;
    if (this.shared && !acquire(words, bucket + TableBucket.lock, this.owner)) return -1;
    let link = words[bucket + TableBucket.head];
    for (let steps = 0; link !== 0 && steps < MAX_CHAIN; steps++) {
      const entry = this.wordOf(link);
      if (this.matches(entry)) return entry;
      link = words[entry + TableEntry.next];
    }
    return 0;
  }

  unlock(): void {
    if (this.shared) release(this.words, this.bucket + TableBucket.lock);
  }

  /** Adds the key that `find()` did not find. First word of its entry, payload as its last owner left it; 0 when the table is full. */
  insert(): number {
    const { words, bucket } = this;
    const link = this.take();
    if (link === 0) return 0;
    const entry = this.wordOf(link);
    words[entry] = this.src0;
    words[entry + 1] = this.src1;
    words[entry + 2] = this.src2;
    words[entry + 3] = this.src3;
    words[entry + TableEntry.dst] = this.dst0;
    words[entry + TableEntry.dst + 1] = this.dst1;
    words[entry + TableEntry.dst + 2] = this.dst2;
    words[entry + TableEntry.dst + 3] = this.dst3;
    words[entry + TableEntry.ports] = this.ports;
    words[entry + TableEntry.family] = this.family;
    words[entry + TableEntry.next] = words[bucket + TableBucket.head];
    words[bucket + TableBucket.head] = link;
    return entry;
  }

  /** Takes the entry that `find()` returned out of the table. */
  remove(entry: number): void {
    const { words, bucket } = this;
    const link = this.linkOf(entry);
    let at = bucket + TableBucket.head;
    for (let steps = 0; words[at] !== link; steps++) {
      if (words[at] === 0 || steps >= MAX_CHAIN) return;
      at = this.wordOf(words[at]) + TableEntry.next;
    }
    words[at] = words[entry + TableEntry.next];
    words[entry + TableEntry.family] = 0;
    this.give(link);
  }

  /** Makes an entry's key the key in hand. False when the entry is free. */
  load(entry: number): boolean {
    const { words } = this;
    this.src0 = words[entry];
    this.src1 = words[entry + 1];
    this.src2 = words[entry + 2];
    this.src3 = words[entry + 3];
    this.dst0 = words[entry + TableEntry.dst];
    this.dst1 = words[entry + TableEntry.dst + 1];
    this.dst2 = words[entry + TableEntry.dst + 2];
    this.dst3 = words[entry + TableEntry.dst + 3];
    this.ports = words[entry + TableEntry.ports];
    this.family = words[entry + TableEntry.family];
    return this.family !== 0;
  }

  /** First word of entry number `index`. */
  entryAt(index: number): number {
    return (this.firstEntry + Math.imul(index, this.stride)) | 0;
  }

  private bucketOf(): number {
    const { hash } = this;
    // IPv4 keys have nothing in the other words, so the shorter hash sees all of them.
    const value =
      this.family === 4
        ? hash.ipv4(this.src0, this.dst0, this.ports, 4)
        : hash.ipv6(
            this.src0,
            this.src1,
            this.src2,
            this.src3,
            this.dst0,
            this.dst1,
            this.dst2,
            this.dst3,
            this.ports,
            6,
          );
    return TableHeader.SIZE + Math.imul(value & this.mask, TableBucket.STRIDE);
  }

  private matches(entry: number): boolean {
    const { words } = this;
    return (
      words[entry] === this.src0 &&
      words[entry + TableEntry.dst] === this.dst0 &&
      words[entry + TableEntry.ports] === this.ports &&
      words[entry + TableEntry.family] === this.family &&
      (this.family === 4 ||
        (words[entry + 1] === this.src1 &&
          words[entry + 2] === this.src2 &&
          words[entry + 3] === this.src3 &&
          words[entry + TableEntry.dst + 1] === this.dst1 &&
          words[entry + TableEntry.dst + 2] === this.dst2 &&
          words[entry + TableEntry.dst + 3] === this.dst3))
    );
  }

  private wordOf(link: number): number {
    return (this.firstEntry + Math.imul(link - 1, this.stride)) | 0;
  }

  private linkOf(entry: number): number {
    return (((entry - this.firstEntry) / this.stride) | 0) + 1;
  }

  /** Link of a free entry, 0 when there is none. */
  private take(): number {
    const { words } = this;
    // A flood of new keys meets a full table here, without the lock.
    if (Atomics.load(words, TableHeader.count) >= this.capacity) return 0;
    if (this.shared && !acquire(words, TableHeader.lock, this.owner)) return 0;
    let link = words[TableHeader.free];
    if (link !== 0) {
      words[TableHeader.free] = words[this.wordOf(link) + TableEntry.next];
    } else if (words[TableHeader.fresh] < this.capacity) {
      link = words[TableHeader.fresh] + 1;
      words[TableHeader.fresh] = link;
    }
    if (link !== 0) words[TableHeader.count]++;
    if (this.shared) release(words, TableHeader.lock);
    return link;
  }

  private give(link: number): void {
    const { words } = this;
    // Without the lock the entry is lost, which costs a place and nothing else.
    if (this.shared && !acquire(words, TableHeader.lock, this.owner)) return;
    words[this.wordOf(link) + TableEntry.next] = words[TableHeader.free];
    words[TableHeader.free] = link;
    words[TableHeader.count]--;
    if (this.shared) release(words, TableHeader.lock);
  }
}

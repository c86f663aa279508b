/**
 * Layout of the table from a key to a few words that hashlimit and connlimit have in common: chains in one SharedArrayBuffer, shared by
 * all workers (src/dataplane/mitigate/key_table.ts runs it).
 *
 *   header | buckets [lock, entry] | entries of `stride` words
 *
 * Entries are numbered from 0; links hold the number plus one, 0 ends. A table has room for exactly `capacity` entries, as in the kernel,
 * and refuses none before. Memory is not touched before it is used: an empty table costs its header.
 */
import { releaseLocks } from './lock.js';

/** Most entries of a table: with 64 bytes each, 256 MiB. */
export const MAX_TABLE_ENTRIES = 1 << 22;

export const enum TableHeader {
  SIZE = 32,
  /** Number of buckets, a power of two. */
  buckets = 0,
  capacity = 1,
  /** Words an entry. */
  stride = 2,
  /** Int32 index of the first entry. */
  entries = 3,
  /** Secret key of the hash, four words. */
  hashKey = 4,
  // What follows changes while it runs; on a cache line of its own.
  /** Lock of `free` and `fresh`. */
  lock = 16,
  /** First entry of the list of free ones, plus one. */
  free = 17,
  /** Entries from here on were never used. */
  fresh = 18,
  /** Entries in use. */
  count = 19,
  /** 0: no clock yet, 1: somebody is setting it, 2: `epochMs` holds. */
  clock = 20,
  /** Last multiple of the collection interval that has passed, ms of the workers' clock. */
  epochMs = 21,
  /** Where the sweep is. */
  cursor = 22,
}

export const enum TableEntry {
  /** Key: source and destination address (IPv4 in the first word), ports; unused parts 0. */
  src = 0,
  dst = 4,
  ports = 8,
  /** 4 or 6; 0: the entry is free. */
  family = 9,
  /** Next entry of the bucket, or of the list of free ones, plus one. */
  next = 10,
  /** From here on it is the owner's. */
  payload = 11,
}

export const enum TableBucket {
  STRIDE = 2,
  lock = 0,
  head = 1,
}

/** Makes an empty table. `stride`: a multiple of 8, at least 16. */
export function allocateTable(capacity: number, stride: number): SharedArrayBuffer {
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_TABLE_ENTRIES) {
    throw new RangeError(`a table has 1 to ${MAX_TABLE_ENTRIES} entries, not ${capacity}`);
  }
  let buckets = 8;
  while (buckets < capacity) buckets *= 2;
  const entries = TableHeader.SIZE + buckets * TableBucket.STRIDE;
  const buffer = new SharedArrayBuffer((entries + capacity * stride) * Int32Array.BYTES_PER_ELEMENT);
  const words = new Int32Array(buffer);
  words[TableHeader.buckets] = buckets;
  words[TableHeader.capacity] = capacity;
  words[TableHeader.stride] = stride;
  words[TableHeader.entries] = entries;
  crypto.getRandomValues(new Uint32Array(4)).forEach((word, i) => (words[TableHeader.hashKey + i] = word));
  return buffer;
}

/** Entries in use now. */
export function tableCount(buffer: SharedArrayBuffer): number {
  return Atomics.load(new Int32Array(buffer), TableHeader.count);
}

/** Frees what a worker that is gone had locked. Returns the number of locks. */
export function releaseTable(buffer: SharedArrayBuffer, worker: number): number {
  const words = new Int32Array(buffer);
  const { lock, buckets } = { lock: TableHeader.lock, buckets: words[TableHeader.buckets] };
  return (
    releaseLocks(words, worker + 1, lock, 1, 1) +
    releaseLocks(words, worker + 1, TableHeader.SIZE + TableBucket.lock, TableBucket.STRIDE, buckets)
  );
}

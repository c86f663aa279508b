/**
 * Sets of addresses, networks and ports as ipset has them (ipset(8); net/netfilter/ipset/ of Linux), in shared memory: one writer, the
 * control plane (src/control/sets/), changes them while any number of workers look up without a lock.
 *
 * A set has up to two *tables*, one a family. A table is these Int32Arrays, each over a SharedArrayBuffer of its own:
 *
 *   records   one record an entry, by entry number: what was added, and when it ends. Entry 0 is none: its record holds the lengths in use.
 *   slots     open addressing over all entries by (address, length, protocol, port): tag << 25 | CHECK | entry number. 0: empty, TOMBSTONE: was used.
 *   roots     hash:net: word 1 is the trie of all networks. hash:net,port: open addressing from protocol and port to a trie each.
 *   arena     the nodes and buckets of the tries; see net_lookup.ts.
 *
 * **How the writer does not disturb the readers.** Every change becomes visible by the store of one aligned word (a slot, a trie's value or child),
 * made with Atomics.store after everything that it leads to; readers follow the words by dependent loads. What a word led to before stays as it
 * was until every reader has been seen between two look-ups (quiescent-state-based reclamation: McKenney and Slingwine, "Read-Copy
 * Update", PDCS 1998), and only then its place is used again. Entries never move. So an entry that is there all along is found by every look-up, one
 * that never was by none, and a number that a look-up returned means the same entry until the burst ends.
 *
 * **When a part must grow** the writer makes a larger copy, works in that from then on, and counts `SetBuffers.version` up; workers that have the old
 * one see the set as it was then, until they get the new one. Records and counters are reserved for the most entries at once and never grow: pages
 * that were never touched cost nothing.
 */

export type SetType = 'hash:ip' | 'hash:net' | 'hash:ip,port' | 'hash:net,port';

/** What a worker needs of one family; see above. `arena` and `roots` are there for networks only. */
export interface TableBuffers {
  records: SharedArrayBuffer;
  slots: SharedArrayBuffer;
  arena: SharedArrayBuffer | null;
  roots: SharedArrayBuffer | null;
  /** Host bits are cleared by this mask before the look-up (hash:ip, hash:ip,port); four words, word 0 for IPv4. */
  mask: number[];
  /** Start value of the hash, random for each set: which addresses collide cannot be worked out from outside. */
  seed: number;
}

/** A set as it is handed to a worker. Another `version` says that some buffer is another than before. */
export interface SetBuffers {
  version: number;
  type: SetType;
  ipv4: TableBuffers | null;
  ipv6: TableBuffers | null;
}

/** A worker's own counters of a set: Float64 pairs (packets, bytes) by entry number. */
export interface SetCounters {
  ipv4: SharedArrayBuffer | null;
  ipv6: SharedArrayBuffer | null;
}

/** A record: the address (1 or 4 words), then these. */
export const enum RecordField {
  STRIDE4 = 4,
  STRIDE6 = 8,
  STRIDE4_SHIFT = 2,
  STRIDE6_SHIFT = 3,
  scope4 = 1,
  state4 = 2,
  scope6 = 4,
  state6 = 5,
}

/**
 * Scope: prefix length << 24 | protocol << 16 | port. Never 0. Hosts of hash:ip have their family's length. ICMP has type << 8 | code for a port.
 *
 * State: 0 for an entry that matches and never ends; else (second in which it ends) << 1 | nomatch, with second 0 for never.
 */
export const enum RecordState {
  plain = 0,
  nomatch = 1,
}

export const enum SlotWord {
  ENTRY_MASK = 0xffffff,
  /** The entry's state may not be plain. Without it a host that is found need not have its state read. */
  CHECK = 0x1000000,
  TAG_SHIFT = 25,
  /** Of entry 0, whose scope is none. */
  TOMBSTONE = 0x3000000,
}

/** Entry numbers are 1 to this. */
export const ENTRY_MOST = 0xfffffe;

/**
 * Sets as the kernel has them: a map for each family, which holds what the entries' records say (shared/sets/layout.ts), and what a program has to know
 * of it.
 *
 * | type          | map      | key                                              |
 * |---------------|----------|--------------------------------------------------|
 * | hash:ip       | HASH     | address                                          |
 * | hash:ip,port  | HASH     | port key, address                                |
 * | hash:net      | LPM_TRIE | bits of prefix, address                          |
 * | hash:net,port | LPM_TRIE | bits of prefix and port key, port key, address   |
 *
 * Bits and port key (protocol << 16 | port, as portKeyOf has it) are 32 bits in host order; of the port key all 32 bits count always, so it may
 * stand in front of the prefix. Addresses are as in packets. A value is the state of a record (RecordState), 32 bits, 4 bytes of 0, and in sets with
 * counters two uint64: packets and bytes that the kernel has counted since the value was written.
 */
import type { SetSides, SetType } from '../../../shared/sets/index.js';

/** Of a value. */
export const enum SetValue {
  state = 0,
  SIZE = 8,
  packets = 8,
  bytes = 16,
  COUNTED_SIZE = 24,
}

/** Value of set_counters (BPF_MAP_TYPE_PERCPU_ARRAY), one a set's name: packets that were in the set, and their bytes. */
export const SET_COUNTER_BYTES = 16;

export interface KernelTable {
  /** Descriptor of the map. */
  readonly fd: number;
  /** Host bits are cleared by this mask before the look-up; four words in host order, word 0 for IPv4. */
  readonly mask: readonly number[];
}

export interface KernelSet {
  /** Never comes back for other maps. */
  readonly id: number;
  readonly type: SetType;
  /** Entries may have a timeout. */
  readonly ends: boolean;
  /** Entries have counters. */
  readonly counts: boolean;
  /** Its entry of set_counters; -1: what is found in it is not counted. */
  readonly slot: number;
  readonly ipv4: KernelTable | null;
  readonly ipv6: KernelTable | null;
}

/** A set, and by what it is asked. */
export interface SetLookup {
  readonly set: KernelSet;
  readonly sides: SetSides;
}

/** The sets around some rules. */
export interface KernelSets {
  /** By position in Tables.sets: the set, or why it is not in the kernel, said of it: "is too large". */
  readonly sets: readonly (KernelSet | string)[];
  /** Packets in one of them are left to user space before anything else. */
  readonly allow: readonly SetLookup[];
  /** Packets in one of them are dropped before the rules; in this order. */
  readonly drops: readonly SetLookup[];
  /** Descriptor of set_counters. */
  readonly counters: number;
  /** CLOCK_MONOTONIC at second 0 of the sets' clock, ns. */
  readonly zeroNs: bigint;
}

export function isNetType(type: SetType): boolean {
  return type === 'hash:net' || type === 'hash:net,port';
}

export function hasPortType(type: SetType): boolean {
  return type === 'hash:ip,port' || type === 'hash:net,port';
}

/** Bytes of a key. */
export function keyBytes(type: SetType, family: 4 | 6): number {
  return (isNetType(type) ? 4 : 0) + (hasPortType(type) ? 4 : 0) + (family === 4 ? 4 : 16);
}

export function valueBytes(counts: boolean): number {
  return counts ? SetValue.COUNTED_SIZE : SetValue.SIZE;
}

/** Writes the key of an entry at byte `at`. `scope` as in a record. */
export function writeKey(
  view: DataView,
  at: number,
  type: SetType,
  family: 4 | 6,
  words: ArrayLike<number>,
  scope: number,
): void {
  const port = hasPortType(type);
  // Little-endian by definition: the addon builds on nothing else (native/bpf_rodata.cc).
  if (isNetType(type)) {
    view.setUint32(at, (scope >>> 24) + (port ? 32 : 0), true);
    at += 4;
  }
  if (port) {
    view.setUint32(at, scope & 0xffffff, true);
    at += 4;
  }
  for (let i = 0; i < (family === 4 ? 1 : 4); i++) view.setInt32(at + 4 * i, words[i]);
}

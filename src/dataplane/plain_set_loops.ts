/** Loops of PlainSets over a burst's IPv4 packets; why they are closures, PlainHeaders says. A set's own arrays change, so they are parameters. */
import { hashEntry4, RecordField, SlotWord } from '../shared/sets/index.js';
import type { PlainHosts } from './filter/plain_stages.js';
import { Home } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';
import { Verdict } from './verdict.js';

/** Scope of IPv4 hosts without ports: the prefix length's place in it. */
const HOST4 = 32 << 24;

/** Of one set and a burst, by position in the burst. */
export interface SetFinding {
  /** The address, as the set's entries have it, and its hash. */
  keys: Int32Array;
  hashes: Int32Array;
  /** Word of the slot that was looked at last: the one that the hash names, or one behind it. */
  slots: Int32Array;
  /** Positions of packets for which the next slot is to be looked at. */
  next: Int32Array;
  /** Positions of packets that an entry decides whose state must be looked at. */
  others: Int32Array;
  /** Positions of packets that were dropped. */
  dropped: Int32Array;
  /** By SetSum: what came of it. */
  sums: Int32Array;
}

export const enum SetSum {
  others = 0,
  packets = 1,
  bytes = 2,
  SIZE = 3,
}

/** Hashes sources or destinations, and reads the slot that each hash names. */
export type Hasher = (count: number, byDestination: boolean, hosts: PlainHosts) => void;

export function hasher4({ src0, dst0 }: PlainHeaders, { keys, hashes, slots }: SetFinding): Hasher {
  // What is imported is looked up each time; what is captured is known.
  const hashOf = hashEntry4;
  return (count, byDestination, hosts) => {
    const { seed, mask0, slotMask } = hosts;
    const table = hosts.slots;
    // Of packets that are not plain it is whatever was there: they are told apart later.
    for (let i = 0; i < count; i++) {
      const key = (byDestination ? dst0[i] : src0[i]) & mask0;
      const hash = hashOf(seed, key, HOST4);
      keys[i] = key;
      hashes[i] = hash;
      slots[i] = table[hash & slotMask];
    }
  };
}

/** Reads the entries that the slots name, so that their cache misses overlap. What it returns only keeps the reads from being optimised away. */
export type Toucher = (count: number, records: Int32Array) => number;

export function toucher({ slots }: SetFinding): Toucher {
  return (count, records) => {
    let seen = 0;
    for (let i = 0; i < count; i++) seen |= records[(slots[i] & SlotWord.ENTRY_MASK) << RecordField.STRIDE4_SHIFT];
    return seen;
  };
}

/** Drops what its first slot names. Returns how many are in `next`. */
export type HostDropper = (count: number, records: Int32Array, verdict: Int32Array) => number;

export function hostDropper4({ home, heading }: PlainHeaders, finding: SetFinding): HostDropper {
  const { keys, hashes, slots, next, others, dropped, sums } = finding;
  return (count, records, verdict) => {
    let still = 0;
    let left = 0;
    let packets = 0;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const head = heading[i];
      if (home[i] < 0 || head < 0) continue;
      const slot = slots[i];
      if (slot === 0) continue;
      if (
        (slot ^ hashes[i]) >>> SlotWord.TAG_SHIFT !== 0 ||
        records[(slot & SlotWord.ENTRY_MASK) << RecordField.STRIDE4_SHIFT] !== keys[i]
      ) {
        next[still++] = i;
      } else if ((slot & SlotWord.CHECK) !== 0) {
        others[left++] = i;
      } else {
        home[i] = Home.judged;
        verdict[i] = Verdict.Drop;
        dropped[packets++] = i;
        bytes = (bytes + (head & 0xffff)) | 0;
      }
    }
    sums[SetSum.others] = left;
    sums[SetSum.packets] = packets;
    sums[SetSum.bytes] = bytes;
    return still;
  };
}

/** The same by the slot so far behind the first, for the first `entries` of `next`. Returns how many are in it then. */
export type NextDropper = (entries: number, distance: number, hosts: PlainHosts, verdict: Int32Array) => number;

export function nextDropper4({ home, heading }: PlainHeaders, finding: SetFinding): NextDropper {
  const { keys, hashes, slots, next, others, dropped, sums } = finding;
  return (entries, distance, hosts, verdict) => {
    const { slotMask, records } = hosts;
    const table = hosts.slots;
    let still = 0;
    let left = sums[SetSum.others];
    let packets = sums[SetSum.packets];
    let bytes = sums[SetSum.bytes];
    for (let entry = 0; entry < entries; entry++) {
      const i = next[entry];
      const hash = hashes[i];
      const slot = table[(hash + distance) & slotMask];
      if (slot === 0) continue;
      if (
        (slot ^ hash) >>> SlotWord.TAG_SHIFT !== 0 ||
        records[(slot & SlotWord.ENTRY_MASK) << RecordField.STRIDE4_SHIFT] !== keys[i]
      ) {
        next[still++] = i;
      } else if ((slot & SlotWord.CHECK) !== 0) {
        others[left++] = i;
      } else {
        slots[i] = slot;
        home[i] = Home.judged;
        verdict[i] = Verdict.Drop;
        dropped[packets++] = i;
        bytes = (bytes + (heading[i] & 0xffff)) | 0;
      }
    }
    sums[SetSum.others] = left;
    sums[SetSum.packets] = packets;
    sums[SetSum.bytes] = bytes;
    return still;
  };
}

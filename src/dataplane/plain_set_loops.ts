/** Loops of PlainSets over a burst's IPv4 packets; why they are closures, PlainHeaders says. A set's own arrays change, so what reads them is in HostView4. */
import { hashEntry4, SlotWord } from '../shared/sets/index.js';
import { Home, type PlainHeaders } from './plain_headers.js';
import { Verdict } from './verdict.js';

/** Scope of IPv4 hosts without ports: the prefix length's place in it. */
const HOST4 = 32 << 24;

/** Of one set and a burst, by position in the burst. */
export interface SetFinding {
  /** The address, as the set's entries have it, and its hash. */
  keys: Int32Array;
  hashes: Int32Array;
  /** Word of the slot that the hash names, and the address of the entry that this names. */
  slots: Int32Array;
  addresses: Int32Array;
  /** Positions of packets whose first slot does not tell whether they are in the set. */
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

/** Hashes sources or destinations. `seed` and `mask`: the set's. */
export type Hasher = (count: number, byDestination: boolean, seed: number, mask: number) => void;

export function hasher4({ src0, dst0 }: PlainHeaders, { keys, hashes }: SetFinding): Hasher {
  // What is imported is looked up each time; what is captured is known.
  const hash = hashEntry4;
  return (count, byDestination, seed, mask) => {
    // Of packets that are not plain it is whatever was there: they are told apart later.
    for (let i = 0; i < count; i++) {
      const key = (byDestination ? dst0[i] : src0[i]) & mask;
      keys[i] = key;
      hashes[i] = hash(seed, key, HOST4);
    }
  };
}

/** Drops what its first slot names, in a set whose entries do not ask for ports. */
export type HostDropper = (count: number, verdict: Int32Array) => void;

export function hostDropper4({ home, heading }: PlainHeaders, finding: SetFinding): HostDropper {
  const { keys, hashes, slots, addresses, others, dropped, sums } = finding;
  return (count, verdict) => {
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
        (slot & SlotWord.CHECK) !== 0 ||
        addresses[i] !== keys[i]
      ) {
        others[left++] = i;
        continue;
      }
      home[i] = Home.judged;
      verdict[i] = Verdict.Drop;
      dropped[packets++] = i;
      bytes = (bytes + (head & 0xffff)) | 0;
    }
    sums[SetSum.others] = left;
    sums[SetSum.packets] = packets;
    sums[SetSum.bytes] = bytes;
  };
}

/**
 * Longest-prefix match, read only, for any number of prefixes from one to millions, in one Int32Array over a SharedArrayBuffer.
 * `lpm_build.ts` builds it; the look-ups here are hot: int32 arithmetic only, nothing allocated.
 *
 * The prefixes are turned into the *intervals* of addresses that have one longest match, sorted by their first address, and the intervals into a
 * radix index that ends as soon as few are left (DXR: Zec, Rizzo, Mikuc, "DXR: Towards a Billion Routing Lookups per Second in
 * Software", CCR 2012; path compression as in LC-tries). N prefixes make at most 2 N + 1 intervals whatever their lengths and however
 * they are nested, so memory goes by their number and not by where they lie, unlike DIR-24-8, whose every /25-/32 costs a block of 1 KiB.
 *
 *   header      width, root bits, where the intervals are, how many, 0 …            HEADER words
 *   root        2^(root bits) entries, by the first bits of the address
 *   nodes       each NODE words, then 2^bits entries, by the bits from a position on
 *   intervals   first address (width words, bit 31 flipped so that a signed comparison orders them), value; the first is address 0
 *
 * An entry is
 *   1 xxxxxxx …                    a node at that word
 *   01 xxxxxx …                    a value + 1 for the whole bucket; 0: none
 *   00 nnnnn sssss …               interval s covers the bucket's start, the n after it start in the bucket (n is 1 to RUN_MOST)
 *
 * A node may skip bits that are the same in all of its intervals. It then names their first and last: an address before the one or not before the
 * other is decided, and any other has the same bits too.
 *
 * Nanoseconds a look-up and memory, Node 20, one of two shared vCPUs that others used too (AMD EPYC, 32 MiB of L3). "Again": among 1024 addresses
 * that come round; "any": a million addresses in random prefixes, which is the price of cache and TLB misses, three or more each (one random
 * read from 64 MiB costs 10 to 35 ns there); "miss": random addresses. Building takes 0.3 to 1 s.
 *
 *   prefixes                             MiB    again    any   miss
 *   10 IPv4                              0.0        5      8      7
 *   1,000,000 IPv4, /8 to /32             17        6     45     45
 *   1,000,000 IPv4, /32                   23        9    105     65
 *   1,000,000 IPv6, /16 to /64            30       12    140     80
 *   1,000,000 IPv6, /48 in 2000::/3       38       20    200     35
 *   1,000,000 IPv6, /64 in one /32        35       27    260      7
 *   1,000,000 IPv6, /128 in 62,500 /64    69       68    520      8
 */

/** No prefix matches. */
export const NO_MATCH = -1;
/** Values are 0 to this. */
export const LPM_VALUE_MOST = 0x3ffffffe;

/** How the words are laid out; see above. */
export const enum Lpm {
  HEADER = 8,
  /** Words of a node in front of its entries. */
  NODE = 4,
  /** Most intervals that are searched one by one; the format has room for 31. */
  RUN_MOST = 8,
  RUN_SHIFT = 25,
  RUN_START_MASK = 0x1ffffff,
  VALUE_BIT = 0x40000000,
  NODE_BIT = -0x80000000,
  PAYLOAD_MASK = 0x3fffffff,
  NODE_MASK = 0x7fffffff,
  SIGN = -0x80000000,

  // Header
  width = 0,
  rootBits = 1,
  intervals = 2,
  count = 3,

  // Node
  /** First bit of the address that the node looks at. */
  position = 0,
  bits = 1,
  /** First and last interval that start in the node, when it skips bits; else −1. */
  first = 2,
  last = 3,
}

/** Value of the longest prefix that holds the IPv4 address, or NO_MATCH. */
export function lookupLpm4(words: Int32Array, a0: number): number {
  let entry = words[Lpm.HEADER + (a0 >>> (32 - words[Lpm.rootBits]))];
  while (entry < 0) {
    const node = entry & Lpm.NODE_MASK;
    const first = words[node + Lpm.first];
    if (first >= 0) {
      const intervals = words[Lpm.intervals];
      const last = words[node + Lpm.last];
      if (words[intervals + (first << 1)] > (a0 ^ Lpm.SIGN)) return words[intervals + (first << 1) - 1];
      if (words[intervals + (last << 1)] <= (a0 ^ Lpm.SIGN)) return words[intervals + (last << 1) + 1];
    }
    entry = words[node + Lpm.NODE + ((a0 << words[node + Lpm.position]) >>> (32 - words[node + Lpm.bits]))];
  }
  if (entry >= Lpm.VALUE_BIT) return (entry & Lpm.PAYLOAD_MASK) - 1;
  // The last of the run that does not start behind the address.
  let at = (words[Lpm.intervals] + ((entry & Lpm.RUN_START_MASK) << 1)) | 0;
  for (let left = entry >>> Lpm.RUN_SHIFT; left > 0 && words[at + 2] <= (a0 ^ Lpm.SIGN); left--) at = (at + 2) | 0;
  return words[at + 1];
}

/** Value of the longest prefix that holds the IPv6 address, or NO_MATCH. */
export function lookupLpm6(words: Int32Array, a0: number, a1: number, a2: number, a3: number): number {
  const width = words[Lpm.width];
  const stride = (width + 1) | 0;
  const intervals = words[Lpm.intervals];
  let entry = words[Lpm.HEADER + (a0 >>> (32 - words[Lpm.rootBits]))];
  while (entry < 0) {
    const node = entry & Lpm.NODE_MASK;
    const first = words[node + Lpm.first];
    if (first >= 0) {
      const firstAt = (intervals + Math.imul(first, stride)) | 0;
      const lastAt = (intervals + Math.imul(words[node + Lpm.last], stride)) | 0;
      if (!startsBy(words, firstAt, width, a0, a1, a2, a3)) return words[firstAt - 1];
      if (startsBy(words, lastAt, width, a0, a1, a2, a3)) return words[lastAt + width];
    }
    const bucket = bitsOf(words[node + Lpm.position], words[node + Lpm.bits], a0, a1, a2, a3);
    entry = words[node + Lpm.NODE + bucket];
  }
  if (entry >= Lpm.VALUE_BIT) return (entry & Lpm.PAYLOAD_MASK) - 1;
  let at = (intervals + Math.imul(entry & Lpm.RUN_START_MASK, stride)) | 0;
  for (let left = entry >>> Lpm.RUN_SHIFT; left > 0; left--) {
    if (!startsBy(words, (at + stride) | 0, width, a0, a1, a2, a3)) break;
    at = (at + stride) | 0;
  }
  return words[at + width];
}

/** Whether the interval at this word starts at the address or before it. */
function startsBy(
  words: Int32Array,
  at: number,
  width: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
): boolean {
  const w0 = words[at];
  if (w0 !== (a0 ^ Lpm.SIGN)) return w0 < (a0 ^ Lpm.SIGN);
  if (width === 1) return true;
  const w1 = words[at + 1];
  if (w1 !== (a1 ^ Lpm.SIGN)) return w1 < (a1 ^ Lpm.SIGN);
  if (width === 2) return true;
  const w2 = words[at + 2];
  if (w2 !== (a2 ^ Lpm.SIGN)) return w2 < (a2 ^ Lpm.SIGN);
  return width === 3 || words[at + 3] <= (a3 ^ Lpm.SIGN);
}

/** `bits` (1-31) bits of an address from `position` on. Words behind the address's last count as 0. */
export function bitsOf(position: number, bits: number, a0: number, a1: number, a2: number, a3: number): number {
  return windowAt(position, a0, a1, a2, a3) >>> (32 - bits);
}

/** The 32 bits of an address from `position` (0-127) on, filled up with zeros behind its end. */
export function windowAt(position: number, a0: number, a1: number, a2: number, a3: number): number {
  const shift = position & 31;
  let high = a3;
  let low = 0;
  if (position < 32) {
    high = a0;
    low = a1;
  } else if (position < 64) {
    high = a1;
    low = a2;
  } else if (position < 96) {
    high = a2;
    low = a3;
  }
  // low >>> 32 would be low: two steps.
  return (high << shift) | ((low >>> 1) >>> (31 - shift));
}

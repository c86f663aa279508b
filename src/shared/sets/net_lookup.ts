/**
 * Longest-prefix match in tries that change while they are read.
 *
 * A level-compressed trie (Nilsson and Karlsson, "IP-Address Lookup Using LC-Tries", JSAC 1999; the kernel's routing table is one) that ends in
 * small buckets. The interval index of shared/lpm.ts is denser, but built in one go; here each change touches one path.
 *
 *   child    0: nothing. Bit 31: a node. Else n << 27 | where: a bucket of n items. `where` counts units of UNIT words.
 *   node     NODE header words, then 2^bits pairs (value, child) by the `bits` bits of the address from `position` on.
 *            `value` is the longest prefix that ends in this node's bits and holds the whole pair; what is longer is below `child`.
 *   bucket   pairs (32 bits of the prefix, item), longest prefix first.
 *
 * A node may skip bits that all below it have in common; it then compares them. Value and item say CHECK when the entry's state is not plain, so that
 * a match of a plain entry need not read its record.
 */
import { bitsOf, windowAt } from '../lpm_lookup.js';
import { RecordField } from './layout.js';

export const enum NetWord {
  UNIT_SHIFT = 2,
  UNIT = 4,
  NODE_BIT = -0x80000000,
  WHERE_MASK = 0x7ffffff,
  COUNT_SHIFT = 27,
  /** Most items of a bucket; the format has room for 15. */
  BUCKET_MOST = 8,

  /** In values and items. */
  CHECK = -0x80000000,
  ENTRY_MASK = 0xffffff,
  RESULT_MASK = -0x7f000001,
  /** In items: length behind the bits that the way to the bucket has decided (IPv4: behind bit 0), less one. */
  LENGTH_SHIFT = 24,
  LENGTH_MASK = 127,
}

export const enum NetNode {
  HEADER = 8,
  /** IPv4: shift of the index. */
  shift = 0,
  /** IPv4: entries less one. */
  indexMask = 1,
  /** IPv4: the bits before `position`, and which they are. IPv6: `prefix` to `prefix` + 3. */
  prefix = 4,
  mask = 5,
  /** IPv6: 1 when bits are skipped in front of `position`. */
  skips = 0,
  /** For IPv6 look-ups and the writer: log2 of the prefixes that it was built for << 16 | position << 8 | bits. */
  place6 = 1,
  place4 = 6,
  // For the writer only.
  /** Prefixes in this node and below. */
  count = 2,
  /** First entry of the list of those that end in this node. */
  first = 3,
}

/** Value or item without its length (entry number, perhaps CHECK) of the longest prefix that holds the address, 0: none. */
export function lookupNet4(arena: Int32Array, root: number, a0: number): number {
  let best = 0;
  let child = root;
  while (child < 0) {
    const node = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
    if (((a0 ^ arena[node + NetNode.prefix]) & arena[node + NetNode.mask]) !== 0) return best;
    const pair =
      (node + NetNode.HEADER + (((a0 >>> arena[node + NetNode.shift]) & arena[node + NetNode.indexMask]) << 1)) | 0;
    const value = arena[pair];
    if (value !== 0) best = value;
    child = arena[pair + 1];
  }
  let at = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
  for (let left = child >>> NetWord.COUNT_SHIFT; left > 0; left--) {
    const item = arena[at + 1];
    if ((a0 ^ arena[at]) >>> (31 - ((item >>> NetWord.LENGTH_SHIFT) & NetWord.LENGTH_MASK)) === 0) {
      return item & NetWord.RESULT_MASK;
    }
    at = (at + 2) | 0;
  }
  return best;
}

/** The same for IPv6. `records` decides where a bucket's 32 bits are too few. */
export function lookupNet6(
  arena: Int32Array,
  records: Int32Array,
  root: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
): number {
  let best = 0;
  let child = root;
  let end = 0;
  while (child < 0) {
    const node = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
    const place = arena[node + NetNode.place6];
    const position = (place >>> 8) & 255;
    if (arena[node + NetNode.skips] !== 0 && !startsWith(arena, node + NetNode.prefix, position, a0, a1, a2, a3)) {
      return best;
    }
    const bits = place & 255;
    const pair = (node + NetNode.HEADER + (bitsOf(position, bits, a0, a1, a2, a3) << 1)) | 0;
    end = (position + bits) | 0;
    const value = arena[pair];
    if (value !== 0) best = value;
    child = arena[pair + 1];
  }
  if (child === 0) return best;
  const window = windowAt(end, a0, a1, a2, a3);
  let at = (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
  for (let left = child >>> NetWord.COUNT_SHIFT; left > 0; left--) {
    const item = arena[at + 1];
    const behind = (item >>> NetWord.LENGTH_SHIFT) & NetWord.LENGTH_MASK;
    if (behind < 32) {
      if ((window ^ arena[at]) >>> (31 - behind) === 0) return item & NetWord.RESULT_MASK;
    } else if (window === arena[at]) {
      const record = (item & NetWord.ENTRY_MASK) << RecordField.STRIDE6_SHIFT;
      if (startsWith(records, record, (end + behind + 1) | 0, a0, a1, a2, a3)) return item & NetWord.RESULT_MASK;
    }
    at = (at + 2) | 0;
  }
  return best;
}

/** Whether the first `length` (1-128) bits of the address are those of the four words at `at`. */
function startsWith(
  words: Int32Array,
  at: number,
  length: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
): boolean {
  if (length <= 32) return (a0 ^ words[at]) >>> (32 - length) === 0;
  if (a0 !== words[at]) return false;
  if (length <= 64) return (a1 ^ words[at + 1]) >>> (64 - length) === 0;
  if (a1 !== words[at + 1]) return false;
  if (length <= 96) return (a2 ^ words[at + 2]) >>> (96 - length) === 0;
  return a2 === words[at + 2] && (a3 ^ words[at + 3]) >>> (128 - length) === 0;
}

/** Where the child word of the trie for protocol << 16 | port (not 0) lies in `roots`: pairs (key, child), open addressing; −1: nowhere. */
export function findRoot(roots: Int32Array, key: number): number {
  const at = slotOfRoot(roots, key);
  return roots[at] === key ? (at + 1) | 0 : -1;
}

/** The pair that has the key, or the free one where it would go. */
export function slotOfRoot(roots: Int32Array, key: number): number {
  const mask = ((roots.length >>> 1) - 1) | 0;
  const hash = Math.imul(key, 0x9e3779b1);
  let at = (hash ^ (hash >>> 15)) & mask;
  for (;;) {
    const found = roots[at << 1];
    if (found === key || found === 0) return at << 1;
    at = (at + 1) & mask;
  }
}

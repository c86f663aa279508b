/**
 * Longest-prefix match in tries that change while they are read: their words. net_view4.ts and net_view6.ts look up.
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
  /** IPv6: SHORT + shift of a node whose bits all are in the address's first word, else 1 when bits are skipped in front of `position`, or 0. */
  kind = 0,
  SHORT = 256,
  /** IPv6, short nodes: as `indexMask` of IPv4. Their `prefix` is one word, before `mask`. */
  indexMask6 = 6,
  /** For IPv6 look-ups and the writer: log2 of the prefixes that it was built for << 16 | position << 8 | bits. */
  place6 = 1,
  place4 = 6,
  // For the writer only.
  /** Prefixes in this node and below. */
  count = 2,
  /** First entry of the list of those that end in this node. */
  first = 3,
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

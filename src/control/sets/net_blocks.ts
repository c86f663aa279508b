/** Nodes and buckets of the tries: how their words are read and written. The layout is in shared/sets/net_lookup.ts. */
import { bitsOf, windowAt } from '../../shared/lpm_lookup.js';
import { NetNode, NetWord } from '../../shared/sets/net_lookup.js';
import type { Arena } from './arena.js';
import type { EntryTable } from './entry_table.js';

export interface Prefix {
  /** Four words, host bits 0. */
  words: readonly [number, number, number, number];
  length: number;
}

/** Bits that two addresses have in common from the first on, 0-128. */
export function commonBits(a: Prefix['words'], b: Prefix['words']): number {
  for (let w = 0; w < 4; w++) {
    const difference = a[w] ^ b[w];
    if (difference !== 0) return 32 * w + Math.clz32(difference);
  }
  return 128;
}

export class NetBlocks {
  /** Neighbours in the lists of entries that end in one node, 0: none. The readers do not need them. */
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  private readonly isIpv4: boolean;
  private readonly placeAt: number;

  constructor(
    private readonly arena: Arena,
    readonly table: EntryTable,
  ) {
    this.next = new Int32Array(table.capacity + 1);
    this.previous = new Int32Array(table.capacity + 1);
    this.isIpv4 = table.family === 4;
    this.placeAt = this.isIpv4 ? NetNode.place4 : NetNode.place6;
  }

  prefixOf(entry: number): Prefix {
    return { words: this.table.addressOf(entry), length: this.table.lengthOf(entry) };
  }

  /** How values and items name an entry. */
  wordOf(entry: number): number {
    return this.table.stateOf(entry) === 0 ? entry : NetWord.CHECK | entry;
  }

  // Nodes, by the index of their first word

  nodeAt(child: number): number {
    return (child & NetWord.WHERE_MASK) << NetWord.UNIT_SHIFT;
  }

  position(node: number): number {
    return (this.arena.words[node + this.placeAt] >>> 8) & 255;
  }

  bits(node: number): number {
    return this.arena.words[node + this.placeAt] & 255;
  }

  end(node: number): number {
    return this.position(node) + this.bits(node);
  }

  builtLog(node: number): number {
    return this.arena.words[node + this.placeAt] >>> 16;
  }

  /** An address below the node; only its bits before `position` mean anything. */
  addressOfNode(node: number): Prefix['words'] {
    const { words } = this.arena;
    const at = node + NetNode.prefix;
    const isOneWord = this.isIpv4 || words[node + NetNode.kind] >= NetNode.SHORT;
    return isOneWord ? [words[at], 0, 0, 0] : [words[at], words[at + 1], words[at + 2], words[at + 3]];
  }

  /** Where the pair of an address is. */
  pairOf(node: number, [a0, a1, a2, a3]: Prefix['words']): number {
    const index = bitsOf(this.position(node), this.bits(node), a0, a1, a2, a3);
    return node + NetNode.HEADER + 2 * index;
  }

  /** Makes an empty node that nothing leads to yet, for `count` prefixes; returns its child word. */
  node(position: number, bits: number, base: number, address: Prefix['words'], count: number): number {
    const units = unitsOfNode(bits);
    const place = this.arena.allocate(units);
    const { words } = this.arena;
    const node = place * NetWord.UNIT;
    words.fill(0, node, node + units * NetWord.UNIT);
    words[node + this.placeAt] = ((31 - Math.clz32(count)) << 16) | (position << 8) | bits;
    words[node + NetNode.count] = count;
    const isShort = position + bits <= 32;
    if (isShort) {
      const shift = 32 - position - bits;
      words[node + NetNode.prefix] = address[0];
      words[node + NetNode.mask] = position === 0 ? 0 : -1 << (32 - position);
      words[node + (this.isIpv4 ? NetNode.shift : NetNode.kind)] = this.isIpv4 ? shift : NetNode.SHORT + shift;
      words[node + (this.isIpv4 ? NetNode.indexMask : NetNode.indexMask6)] = (1 << bits) - 1;
    } else {
      words.set(address, node + NetNode.prefix);
      words[node + NetNode.kind] = position > base ? 1 : 0;
    }
    return NetWord.NODE_BIT | place;
  }

  /** Says that the bits before the node are decided up to `base`, which is less than before. */
  skipBehind(node: number, base: number): void {
    // Nodes of one word compare all bits before them in any case.
    if (this.end(node) > 32 && this.position(node) > base) this.arena.words[node + NetNode.kind] = 1;
  }

  /** Enters an entry whose prefix ends in the node: its pairs get its word, but those of longer ones. */
  own(node: number, entry: number): void {
    const { words } = this.arena;
    const { next, previous, table } = this;
    const head = words[node + NetNode.first];
    next[entry] = head;
    previous[entry] = 0;
    if (head !== 0) previous[head] = entry;
    words[node + NetNode.first] = entry;
    const length = table.lengthOf(entry);
    const word = this.wordOf(entry);
    const { from, to } = this.span(node, entry);
    for (let pair = from; pair < to; pair += 2) {
      const value = words[pair] & NetWord.ENTRY_MASK;
      if (value === 0 || table.lengthOf(value) < length) Atomics.store(words, pair, word);
    }
  }

  /** The opposite: its pairs fall back to the next shorter prefix that ends here. `base`: the bits decided before the node. */
  disown(node: number, entry: number, base: number): void {
    const { next, previous } = this;
    const after = next[entry];
    const before = previous[entry];
    if (after !== 0) previous[after] = before;
    if (before !== 0) next[before] = after;
    else this.arena.words[node + NetNode.first] = after;
    this.replace(node, entry, this.shorter(entry, base));
  }

  /** Gives an entry's pairs another word. */
  replace(node: number, entry: number, word: number): void {
    const { words } = this.arena;
    const { from, to } = this.span(node, entry);
    for (let pair = from; pair < to; pair += 2) {
      if ((words[pair] & NetWord.ENTRY_MASK) === entry) Atomics.store(words, pair, word);
    }
  }

  // Buckets

  /** Makes a bucket of at most BUCKET_MOST entries whose prefixes go on behind bit `base`; returns its child word, 0 for none. */
  bucket(entries: number[], base: number): number {
    if (entries.length === 0) return 0;
    const { table } = this;
    const decided = this.isIpv4 ? 0 : base;
    const place = this.arena.allocate(unitsOfBucket(entries.length));
    const { words } = this.arena;
    entries.sort((a, b) => table.lengthOf(b) - table.lengthOf(a));
    let at = place * NetWord.UNIT;
    for (const entry of entries) {
      const [a0, a1, a2, a3] = table.addressOf(entry);
      words[at] = windowAt(decided, a0, a1, a2, a3);
      words[at + 1] = this.wordOf(entry) | ((table.lengthOf(entry) - decided - 1) << NetWord.LENGTH_SHIFT);
      at += 2;
    }
    return (entries.length << NetWord.COUNT_SHIFT) | place;
  }

  itemsOf(child: number): number[] {
    const at = this.nodeAt(child);
    return Array.from(
      { length: child >>> NetWord.COUNT_SHIFT },
      (_, i) => this.arena.words[at + 2 * i + 1] & NetWord.ENTRY_MASK,
    );
  }

  // Both

  /** Sets the child of a pair in a node that nothing leads to yet. */
  setChild(pair: number, child: number): void {
    this.arena.words[pair + 1] = child;
  }

  /** All entries at and below a child; `count` at most. */
  collect(child: number, count: number): Int32Array {
    const found = new Int32Array(count);
    let filled = 0;
    const walk = (from: number): void => {
      if (from >= 0) {
        for (const entry of this.itemsOf(from)) found[filled++] = entry;
        return;
      }
      const { words } = this.arena;
      const node = this.nodeAt(from);
      for (let entry = words[node + NetNode.first]; entry !== 0; entry = this.next[entry]) found[filled++] = entry;
      const end = this.lastPair(node);
      for (let pair = node + NetNode.HEADER; pair < end; pair += 2) if (words[pair + 1] !== 0) walk(words[pair + 1]);
    };
    walk(child);
    return found.subarray(0, filled);
  }

  retireBucket(child: number): void {
    if (child !== 0) this.arena.retire(child & NetWord.WHERE_MASK, unitsOfBucket(child >>> NetWord.COUNT_SHIFT));
  }

  retireAll(child: number): void {
    if (child >= 0) {
      this.retireBucket(child);
      return;
    }
    const { words } = this.arena;
    const node = this.nodeAt(child);
    const end = this.lastPair(node);
    for (let pair = node + NetNode.HEADER; pair < end; pair += 2)
      if (words[pair + 1] !== 0) this.retireAll(words[pair + 1]);
    this.arena.retire(child & NetWord.WHERE_MASK, unitsOfNode(this.bits(node)));
  }

  /** The pairs of an entry that ends in the node: its prefix is longer than the node's position, so that it stays here when a node comes above. */
  private span(node: number, entry: number): { from: number; to: number } {
    const from = this.pairOf(node, this.table.addressOf(entry));
    return { from, to: from + 2 * (1 << (this.end(node) - this.table.lengthOf(entry))) };
  }

  private lastPair(node: number): number {
    return node + NetNode.HEADER + 2 * (1 << this.bits(node));
  }

  /** The word of the longest prefix around an entry's that is longer than `base`; 0: none. */
  private shorter(entry: number, base: number): number {
    const { table } = this;
    const rest = table.scopeOf(entry) & 0xffffff;
    const words = table.addressOf(entry);
    for (let length = table.lengthOf(entry) - 1; length > base; length--) {
      // Clears the bit that the prefix no longer has.
      words[length >> 5] &= ~(1 << (31 - (length & 31)));
      const found = table.find(words, (length << 24) | rest);
      if (found !== 0) return this.wordOf(found);
    }
    return 0;
  }
}

function unitsOfNode(bits: number): number {
  return (NetNode.HEADER + (2 << bits)) / NetWord.UNIT;
}

function unitsOfBucket(items: number): number {
  return Math.ceil((2 * items) / NetWord.UNIT);
}

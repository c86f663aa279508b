/** Puts networks into tries and takes them out, while workers look up. The layout is in shared/sets/net_lookup.ts. */
import { NetNode, NetWord } from '../../shared/sets/net_lookup.js';
import type { Arena } from './arena.js';
import type { EntryTable } from './entry_table.js';
import { commonBits, NetBlocks, type Prefix } from './net_blocks.js';
import { buildTrie } from './net_build.js';

/** A node of more prefixes a pair than this is built again, with more bits, if it has at least doubled since it was built. */
const CROWDED = 4;
/** A node of less than one prefix in so many pairs is built again, with fewer bits, if half of what it had is gone. */
const SPARSE = 16;
/** A node of this many prefixes becomes a bucket. */
const FEW = 3;

/** Where a child word is: a root, or the second word of a pair in the arena. */
interface Place {
  root: Int32Array | null;
  at: number;
}

/**
 * The tries of one table. A trie has no memory of its own but the word of its root. Each change costs one path; now and then a node that has become
 * crowded or empty is built again with all below it, which is paid for by the changes that made it so.
 */
export class NetTrie {
  private readonly blocks: NetBlocks;
  /** Nodes on the way that the change in hand took: where their child words are, and the bits decided before them. */
  private readonly path: { place: Place; base: number }[] = [];

  constructor(
    private readonly arena: Arena,
    table: EntryTable,
  ) {
    this.blocks = new NetBlocks(arena, table);
  }

  /** Adds an entry whose prefix is not in the trie. `root`, `at`: the word of the trie's root. */
  insert(entry: number, root: Int32Array, at: number): void {
    const { blocks } = this;
    const prefix = blocks.prefixOf(entry);
    const { place, base, child } = this.descend(prefix, root, at);
    if (child >= 0) {
      this.write(place, this.bucketWith(child, entry, base));
      blocks.retireBucket(child);
    } else {
      const node = blocks.nodeAt(child);
      const reach = this.reach(node, prefix);
      if (reach < blocks.position(node) || prefix.length === reach) {
        this.write(place, this.split(child, node, prefix, entry, reach, base));
      } else {
        this.path.push({ place, base });
        blocks.own(node, entry);
      }
    }
    this.tally(1);
    this.rebuildOne((count, pairs, log) => count > CROWDED * pairs && count >= 4 << log);
  }

  /** Takes an entry out. */
  remove(entry: number, root: Int32Array, at: number): void {
    const { blocks } = this;
    const { place, base, child } = this.descend(blocks.prefixOf(entry), root, at);
    if (child >= 0) {
      const items = blocks.itemsOf(child).filter((item) => item !== entry);
      this.write(place, blocks.bucket(items, base));
      blocks.retireBucket(child);
    } else {
      this.path.push({ place, base });
      blocks.disown(blocks.nodeAt(child), entry, base);
    }
    this.tally(-1);
    this.rebuildOne((count, pairs, log) => count <= FEW || (SPARSE * count < pairs && 2 * count < 1 << log));
  }

  /** Writes an entry's word anew where it stands, after its state became plain or ceased to be. */
  refresh(entry: number, root: Int32Array, at: number): void {
    const { blocks } = this;
    const { place, base, child } = this.descend(blocks.prefixOf(entry), root, at);
    if (child >= 0) {
      this.write(place, blocks.bucket(blocks.itemsOf(child), base));
      blocks.retireBucket(child);
    } else {
      blocks.replace(blocks.nodeAt(child), entry, blocks.wordOf(entry));
    }
  }

  /** A trie of these entries at once; for an empty root. */
  fill(entries: Int32Array, root: Int32Array, at: number): void {
    Atomics.store(root, at, buildTrie(this.blocks, entries, 0));
  }

  /** Empties a trie. */
  clear(root: Int32Array, at: number): void {
    const child = root[at];
    Atomics.store(root, at, 0);
    this.blocks.retireAll(child);
  }

  /**
   * Goes down to where a prefix belongs: a bucket, no child, or the node that it ends in or that it does not reach. `path` then has the nodes that it went
   * through; `base` is the number of bits that they decided.
   */
  private descend(prefix: Prefix, root: Int32Array, at: number): { place: Place; base: number; child: number } {
    const { blocks, path } = this;
    this.arena.collect();
    path.length = 0;
    let place: Place = { root, at };
    let base = 0;
    for (;;) {
      const child = this.read(place);
      if (child >= 0) return { place, base, child };
      const node = blocks.nodeAt(child);
      const end = blocks.end(node);
      if (prefix.length <= end || this.reach(node, prefix) < blocks.position(node)) return { place, base, child };
      path.push({ place, base });
      place = { root: null, at: blocks.pairOf(node, prefix.words) + 1 };
      base = end;
    }
  }

  /** Bits that a prefix shares with the way to a node's own bits. */
  private reach(node: number, { words, length }: Prefix): number {
    return Math.min(commonBits(words, this.blocks.addressOfNode(node)), length, this.blocks.position(node));
  }

  /** Counts prefixes in and below the nodes on the path. */
  private tally(step: 1 | -1): void {
    for (const { place } of this.path) this.arena.words[this.blocks.nodeAt(this.read(place)) + NetNode.count] += step;
  }

  private bucketWith(child: number, entry: number, base: number): number {
    const items = this.blocks.itemsOf(child);
    items.push(entry);
    if (items.length <= NetWord.BUCKET_MOST) return this.blocks.bucket(items, base);
    return buildTrie(this.blocks, Int32Array.from(items), base);
  }

  /**
   * A node of one bit above `node`, for a prefix that leaves its way in the bits that it skips (`reach` bits are in common), or ends there. Returns
   * the new child word.
   */
  private split(child: number, node: number, prefix: Prefix, entry: number, reach: number, base: number): number {
    const { blocks, arena } = this;
    const ends = prefix.length === reach;
    const position = ends ? reach - 1 : reach;
    const address = blocks.addressOfNode(node);
    const above = blocks.node(position, 1, base, address, arena.words[node + NetNode.count] + 1);
    const whole = blocks.nodeAt(above);
    if (ends || prefix.length === position + 1) blocks.own(whole, entry);
    else {
      const bucket = blocks.bucket([entry], position + 1);
      arena.words[blocks.pairOf(whole, prefix.words) + 1] = bucket;
    }
    arena.words[blocks.pairOf(whole, address) + 1] = child;
    blocks.skipBehind(node, position + 1);
    return above;
  }

  /** Builds the topmost node on the path again that is in the way: by its prefixes, its pairs, and the log2 of how many prefixes it was built for. */
  private rebuildOne(isWrong: (count: number, pairs: number, builtLog: number) => boolean): void {
    const { blocks } = this;
    for (const { place, base } of this.path) {
      const child = this.read(place);
      const node = blocks.nodeAt(child);
      const count = this.arena.words[node + NetNode.count];
      if (!isWrong(count, 1 << blocks.bits(node), blocks.builtLog(node))) continue;
      this.write(place, buildTrie(blocks, blocks.collect(child, count), base));
      blocks.retireAll(child);
      return;
    }
  }

  private read({ root, at }: Place): number {
    return root === null ? this.arena.words[at] : root[at];
  }

  private write({ root, at }: Place, child: number): void {
    Atomics.store(root ?? this.arena.words, at, child);
  }
}

/** Builds a trie, or a part of one, of many prefixes at once. */
import { sortedOrder } from '../../shared/lpm_intervals.js';
import { NetWord } from '../../shared/sets/net_lookup.js';
import { PrefixColumns } from '../../shared/prefix_columns.js';
import { commonBits, type NetBlocks } from './net_blocks.js';

/** Bits of one node at most: 8 MiB. */
const BITS_MOST = 20;
/** A node has as many bits as leave at least one of so many pairs with something below it. */
const FILL = 4;
/** Fewer are sorted by comparison. */
const MANY = 512;

/** The child word of a trie of these entries, whose prefixes agree in the first `base` bits and are longer. Nothing leads to it yet. */
export function buildTrie(blocks: NetBlocks, entries: Int32Array, base: number): number {
  const order = sorted(blocks, entries);
  return build(blocks, order, 0, order.length, base);
}

function build(blocks: NetBlocks, order: Int32Array, from: number, to: number, base: number): number {
  const count = to - from;
  if (count <= NetWord.BUCKET_MOST) return blocks.bucket(Array.from(order.subarray(from, to)), base);
  const { table } = blocks;
  const address = table.addressOf(order[from]);
  let position = commonBits(address, table.addressOf(order[to - 1]));
  for (let i = from; i < to; i++) position = Math.min(position, table.lengthOf(order[i]) - 1);
  const bits = bitsFor(blocks, order, from, to, position);
  const end = position + bits;
  const child = blocks.node(position, bits, base, address, count);
  const node = blocks.nodeAt(child);
  for (let i = from; i < to;) {
    const entry = order[i];
    if (table.lengthOf(entry) <= end) {
      blocks.own(node, entry);
      i++;
      continue;
    }
    // What ends in the node comes before what goes on below it: the rest of this pair is in one piece.
    const pair = blocks.pairOf(node, table.addressOf(entry));
    let behind = i + 1;
    while (behind < to && blocks.pairOf(node, table.addressOf(order[behind])) === pair) behind++;
    blocks.setChild(pair, build(blocks, order, i, behind, end));
    i = behind;
  }
  return child;
}

/** Index bits of a node over these entries. */
function bitsFor(blocks: NetBlocks, order: Int32Array, from: number, to: number, position: number): number {
  const { table } = blocks;
  const most = Math.min(BITS_MOST, Math.ceil(Math.log2(to - from)), (table.family === 4 ? 32 : 128) - position);
  /** How many entries have the first bit that tells them from the one before at `position` + i. */
  const differ = new Int32Array(most + 1);
  let before = table.addressOf(order[from]);
  for (let i = from + 1; i < to; i++) {
    const address = table.addressOf(order[i]);
    differ[Math.min(most, commonBits(before, address) - position)]++;
    before = address;
  }
  let bits = 1;
  let occupied = 1;
  for (let b = 1; b <= most; b++) {
    occupied += differ[b - 1];
    if (FILL * occupied >= 1 << b) bits = b;
  }
  return bits;
}

/** By address, then by length, shorter first. */
function sorted({ table }: NetBlocks, entries: Int32Array): Int32Array {
  if (entries.length < MANY) {
    return entries.sort((x, y) => {
      const a = table.addressOf(x);
      const b = table.addressOf(y);
      for (let w = 0; w < 4; w++) if (a[w] !== b[w]) return (a[w] >>> 0) - (b[w] >>> 0);
      return table.lengthOf(x) - table.lengthOf(y);
    });
  }
  const columns = new PrefixColumns(table.family);
  let longest = 1;
  for (const entry of entries) {
    const length = table.lengthOf(entry);
    longest = Math.max(longest, length);
    columns.add(table.addressOf(entry), length, entry);
  }
  const order = new Int32Array(entries.length);
  const numbers = sortedOrder(columns, (longest + 31) >> 5);
  for (let i = 0; i < order.length; i++) order[i] = columns.values[numbers[i]];
  return order;
}

/** One family of a set, for its writer: entries, and for networks the tries that find the longest. */
import type { TableBuffers } from '../../shared/sets/layout.js';
import { Arena } from './arena.js';
import { EntryTable } from './entry_table.js';
import { NetTrie } from './net_trie.js';
import type { Readers } from './reclaim.js';
import { Roots } from './roots.js';

/** Units of 16 bytes that are reserved for each entry of a set of networks. */
const UNITS_AN_ENTRY = 4;
const UNITS_LEAST = 1 << 16;

export interface TableOptions {
  family: 4 | 6;
  isNet: boolean;
  hasPort: boolean;
  /** Entries at a time. */
  most: number;
  /** Entries that are expected at first. */
  expected: number;
  mask: readonly [number, number, number, number];
  seed: number;
  readers: Readers;
}

export class SetTable {
  readonly entries: EntryTable;
  private readonly net: { arena: Arena; trie: NetTrie; roots: Roots } | null = null;
  private readonly mask: number[];
  private readonly seed: number;
  /** Entries that have no place in a trie yet; null when each gets it at once. */
  private pending: number[] | null = null;

  constructor({ family, isNet, hasPort, most, expected, mask, seed, readers }: TableOptions) {
    this.entries = new EntryTable(family, most, expected, seed, readers);
    this.mask = [...mask];
    this.seed = seed;
    if (isNet) {
      const arena = new Arena(Math.max(UNITS_LEAST, UNITS_AN_ENTRY * most), readers);
      this.net = { arena, trie: new NetTrie(arena, this.entries), roots: new Roots(hasPort) };
    }
  }

  get version(): number {
    const { entries, net } = this;
    return entries.version + (net === null ? 0 : net.arena.version + net.roots.version);
  }

  get buffers(): TableBuffers {
    const { entries, net, mask, seed } = this;
    return {
      records: bufferOf(entries.records),
      slots: bufferOf(entries.slots),
      arena: net && bufferOf(net.arena.words),
      roots: net && bufferOf(net.roots.words),
      mask,
      seed,
    };
  }

  /** Bytes that hold something, the untouched rest of what is reserved left out. */
  get bytes(): number {
    const { entries, net } = this;
    const nets = net === null ? 0 : 16 * net.arena.used + net.roots.words.byteLength + 8 * entries.top;
    return 4 * entries.stride * entries.top + entries.slots.byteLength + nets;
  }

  /** Adds an entry that is not there; returns its number. `prepare` runs before anybody can find it. */
  add(words: ArrayLike<number>, scope: number, state: number, prepare?: (entry: number) => void): number {
    const entry = this.entries.create(words, scope, state);
    prepare?.(entry);
    this.entries.publish(entry);
    if (this.net !== null) {
      if (this.pending !== null) this.pending.push(entry);
      else this.net.trie.insert(entry, ...this.rootOf(entry));
    }
    return entry;
  }

  remove(entry: number): void {
    this.settle();
    this.net?.trie.remove(entry, ...this.rootOf(entry));
    this.entries.remove(entry);
  }

  /** An entry's state becomes another; see RecordState. */
  setState(entry: number, state: number): void {
    const before = this.entries.stateOf(entry);
    this.entries.setState(entry, state);
    if ((before === 0) === (state === 0)) return;
    this.settle();
    this.net?.trie.refresh(entry, ...this.rootOf(entry));
  }

  clear(): void {
    this.settle();
    if (this.net !== null) {
      for (const at of this.net.roots.places()) this.net.trie.clear(this.net.roots.words, at);
    }
    for (const entry of this.entries.entries()) this.entries.remove(entry);
  }

  /** From here to `settle` tries may lag behind, if there are none yet: many entries at once cost a third. */
  postpone(): void {
    if (this.net !== null && this.entries.count === 0) this.pending ??= [];
  }

  settle(): void {
    if (this.pending === null || this.net === null) return;
    const { roots, trie } = this.net;
    const byRoot = new Map<number, number[]>();
    for (const entry of this.pending) {
      const key = this.entries.scopeOf(entry) & 0xffffff;
      const list = byRoot.get(key);
      if (list === undefined) byRoot.set(key, [entry]);
      else list.push(entry);
    }
    for (const [key, list] of byRoot) {
      const at = roots.place(key);
      trie.fill(Int32Array.from(list), roots.words, at);
    }
    this.pending = null;
  }

  private rootOf(entry: number): [Int32Array, number] {
    const { roots } = this.net!;
    const at = roots.place(this.entries.scopeOf(entry) & 0xffffff);
    return [roots.words, at];
  }
}

function bufferOf(words: Int32Array): SharedArrayBuffer {
  return words.buffer as SharedArrayBuffer;
}

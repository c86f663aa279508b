/** Where the tries of a table begin: one for all networks, or one for each protocol and port. The writer's side of `findRoot`. */
import { findRoot, slotOfRoot } from '../../shared/sets/net_lookup.js';

const PAIRS_LEAST = 64;

export class Roots {
  words: Int32Array;
  /** Counts up when `words` is another one. */
  version = 0;
  private keys = 0;

  constructor(private readonly byPort: boolean) {
    this.words = newRoots(byPort ? PAIRS_LEAST : 1);
  }

  /** Index of the child word of the trie for protocol << 16 | port; makes the place when there is none. */
  place(key: number): number {
    if (!this.byPort) return 1;
    const found = findRoot(this.words, key);
    if (found >= 0) return found;
    if (4 * (this.keys + 1) > this.words.length) this.grow();
    this.keys++;
    return enter(this.words, key);
  }

  /** The index of each trie's child word. */
  *places(): Generator<number> {
    for (let at = 1; at < this.words.length; at += 2) if (this.words[at] !== 0) yield at;
  }

  /** Leaves out the places whose tries are empty. */
  private grow(): void {
    const old = this.words;
    const places = Array.from(this.places());
    this.words = newRoots(Math.max(PAIRS_LEAST, 4 * places.length));
    for (const at of places) this.words[enter(this.words, old[at - 1])] = old[at];
    this.keys = places.length;
    this.version++;
  }
}

function enter(words: Int32Array, key: number): number {
  const at = slotOfRoot(words, key);
  // The child word is still 0: a reader that finds the key finds an empty trie.
  Atomics.store(words, at, key);
  return at + 1;
}

function newRoots(pairs: number): Int32Array {
  let length = 2;
  while (length < 2 * pairs) length *= 2;
  return new Int32Array(new SharedArrayBuffer(4 * length));
}

import { FlowField, Lodgers } from './flow_entry.js';

/**
 * Which slots of a flow table are taken, and by whose flows. A flow may lie in one of two windows of 24 slots, whose starts its hash
 * gives: its home, and, when that window is full, its second home. When both are full, a flow that lies in one of them goes to its other
 * window, if that has room: so nothing is lost until the table is nearly full (99 %), and no search looks at more than two windows.
 *
 * A look-up does not walk: the word `lodgers` of the home slot has a bit for each slot of the window that holds a flow of this home,
 * and counts those that had to go to their second. So a look-up for a flow that is not there reads one cache line, and one more
 * for each flow of the same home: at most one on average, also in a full table.
 *
 * Places are word indexes into `words`, a multiple of FlowField.STRIDE.
 */
export class FlowSlots {
  private readonly mask: number;
  /** One bit a slot: 1/512 of the table, and small enough to stay in the cache. */
  readonly occupied: Int32Array;
  private readonly occupiedMask: number;
  /** A word for each slot that somebody else keeps, and that goes with its flow when that moves; null: nobody does. */
  marks: Int32Array | null = null;

  /** `words`: FlowField.STRIDE int32 a slot, all zero; a power of two of slots, at least 32. */
  constructor(readonly words: Int32Array) {
    const slots = words.length >> FlowField.STRIDE_SHIFT;
    if (slots < 32 || (slots & (slots - 1)) !== 0) {
      throw new RangeError(`a flow table has a power of two of slots, at least 32, not ${slots}`);
    }
    this.mask = (words.length - 1) | 0;
    this.occupied = new Int32Array(slots >> 5);
    this.occupiedMask = (this.occupied.length - 1) | 0;
  }

  home(hash: number): number {
    return (hash << FlowField.STRIDE_SHIFT) & this.mask;
  }

  /** Flows with the same home have many second homes: it depends on the bits that the first does not use. */
  secondHome(hash: number): number {
    const mixed = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    return ((mixed ^ (mixed >>> 13)) << FlowField.STRIDE_SHIFT) & this.mask;
  }

  /** The first empty slot of the window that starts at `home`, or −1. */
  emptyIn(home: number): number {
    const slot = home >> FlowField.STRIDE_SHIFT;
    const word = slot >> 5;
    const bit = slot & 31;
    // A number without a sign would be one of 64 bits to V8, and a float where ways meet.
    let taken = (this.occupied[word] >>> bit) | 0;
    // A window is shorter than a word, so it lies in two at most.
    if (bit > 32 - Lodgers.WINDOW) taken |= this.occupied[((word + 1) | 0) & this.occupiedMask] << (32 - bit);
    const empty = ~taken & Lodgers.HERE;
    return empty === 0 ? -1 : this.slotOf(home, empty);
  }

  /** An empty slot for a flow with this hash, taken for it; −1 when both its windows are full. */
  take(hash: number): number {
    const home = this.home(hash);
    const at = this.emptyIn(home);
    if (at >= 0) {
      this.lodge(at, home, hash);
      return at;
    }
    if (!this.mayGoAway(home)) return -1;
    const second = this.secondHome(hash);
    const away = this.emptyIn(second);
    if (away >= 0) this.lodgeAway(away, home, second, hash);
    return away;
  }

  /** Gives the flow with this hash a slot that is empty and within the window that starts at its `window`. */
  takeAt(at: number, window: number, hash: number): void {
    const home = this.home(hash);
    if (window === home) this.lodge(at, home, hash);
    else this.lodgeAway(at, home, window, hash);
  }

  /** Takes a slot from its flow and gives it to the one with this hash, one of whose windows starts at `window`. It was taken, and stays so. */
  replace(at: number, window: number, hash: number): void {
    const words = this.words;
    this.unlodge(at);
    words[(window + FlowField.lodgers) | 0] |= this.bitOf(at, window);
    words[(at + FlowField.hash) | 0] = hash;
    const home = this.home(hash);
    if (window !== home) words[(home + FlowField.lodgers) | 0] += 1 << Lodgers.AWAY_SHIFT;
  }

  /** Makes a slot in the window that starts at `window` empty by moving its flow to that flow's other window; −1: none can move. */
  makeRoom(window: number): number {
    let at = window;
    for (let i = 0; i < Lodgers.WINDOW; i++) {
      if (this.move(at)) return at;
      at = (at + FlowField.STRIDE) & this.mask;
    }
    return -1;
  }

  private move(from: number): boolean {
    const words = this.words;
    const hash = words[from + FlowField.hash];
    const home = this.home(hash);
    const isAway = !this.isHere(from, home);
    const to = this.emptyIn(isAway ? home : this.secondHome(hash));
    if (to < 0 || (!isAway && !this.mayGoAway(home))) return false;
    this.release(from);
    // All but the last two words, which `takeAt` and `release` keep.
    words.copyWithin(to, from, from + FlowField.lodgers);
    if (this.marks !== null) this.moveMark(this.marks, from, to);
    this.takeAt(to, isAway ? home : this.secondHome(hash), hash);
    return true;
  }

  private moveMark(marks: Int32Array, from: number, to: number): void {
    marks[to >> FlowField.STRIDE_SHIFT] = marks[from >> FlowField.STRIDE_SHIFT];
    marks[from >> FlowField.STRIDE_SHIFT] = 0;
  }

  /** Takes a flow's slot away from it; the words of the flow stay for the caller to clear or overwrite. */
  release(at: number): void {
    this.unlodge(at);
    this.flip(at);
  }

  /** Takes the flow at `at` out of the words that look-ups go by. */
  private unlodge(at: number): void {
    const words = this.words;
    const hash = words[(at + FlowField.hash) | 0];
    const home = this.home(hash);
    const bit = this.bitOf(at, home);
    // Most that are away are also far away, and then the home's cache line need not be read.
    if (bit !== 0 && (words[(home + FlowField.lodgers) | 0] & bit) !== 0) {
      words[(home + FlowField.lodgers) | 0] ^= bit;
      return;
    }
    const second = this.secondHome(hash);
    words[(second + FlowField.lodgers) | 0] ^= this.bitOf(at, second);
    words[(home + FlowField.lodgers) | 0] -= 1 << Lodgers.AWAY_SHIFT;
  }

  private lodge(at: number, home: number, hash: number): void {
    this.words[home + FlowField.lodgers] |= this.bitOf(at, home);
    this.words[at + FlowField.hash] = hash;
    this.flip(at);
  }

  private lodgeAway(at: number, home: number, second: number, hash: number): void {
    this.lodge(at, second, hash);
    this.words[home + FlowField.lodgers] += 1 << Lodgers.AWAY_SHIFT;
  }

  /** True when the flow at `at` belongs to the window of its home. A slot's bit is set in one window at most. */
  private isHere(at: number, home: number): boolean {
    // Most that are away are also far away, and then the home's cache line need not be read.
    const bit = this.bitOf(at, home);
    return bit !== 0 && (this.words[home + FlowField.lodgers] & bit) !== 0;
  }

  /** Whether one more flow of this home may lie in its second window. */
  mayGoAway(home: number): boolean {
    return this.words[home + FlowField.lodgers] >>> Lodgers.AWAY_SHIFT !== Lodgers.MOST_AWAY;
  }

  /** The bit for slot `at` in the window that starts at `home`; 0 when it is not within. */
  private bitOf(at: number, home: number): number {
    const distance = (((at - home) | 0) & this.mask) >> FlowField.STRIDE_SHIFT;
    return distance < Lodgers.WINDOW ? 1 << distance : 0;
  }

  private flip(at: number): void {
    const slot = at >> FlowField.STRIDE_SHIFT;
    this.occupied[slot >> 5] ^= 1 << (slot & 31);
  }

  /** The slot of the lowest bit that is set. */
  private slotOf(home: number, bits: number): number {
    return ((home + ((31 - Math.clz32(bits & -bits)) << FlowField.STRIDE_SHIFT)) | 0) & this.mask;
  }
}

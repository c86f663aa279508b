/** The entries of one family of a set: their records, and the open addressing that finds them. The writer's side of shared/sets/layout.ts. */
import { SluiceError } from '../../errors.js';
import { findEntry4, findEntry6 } from '../../shared/sets/exact_lookup.js';
import { hashEntry4, hashEntry6 } from '../../shared/sets/host_view.js';
import { ENTRY_MOST, RecordField, SlotWord } from '../../shared/sets/layout.js';
import { Reclaimer, type Readers } from './reclaim.js';

const SLOTS_LEAST = 1024;

export class EntryTable {
  readonly records: Int32Array;
  slots: Int32Array;
  /** Counts up when `slots` is another one. */
  version = 0;
  /** Entries. */
  count = 0;
  /** Entry numbers are below this. */
  top = 1;
  /** Most entries at a time, those included that readers may still see. */
  readonly capacity: number;
  readonly stride: number;
  readonly scopeAt: number;
  readonly stateAt: number;

  private tombstones = 0;
  private readonly free: number[] = [];
  private readonly reclaimer: Reclaimer;
  /** Entries of each prefix length. */
  private readonly lengthCounts = new Int32Array(129);

  /** `most`: entries at a time; twice as many are reserved for those that wait for the readers. `expected`: for how many slots are made at first. */
  constructor(
    readonly family: 4 | 6,
    most: number,
    expected: number,
    readonly seed: number,
    readers: Readers,
  ) {
    this.stride = family === 4 ? RecordField.STRIDE4 : RecordField.STRIDE6;
    this.scopeAt = family === 4 ? RecordField.scope4 : RecordField.scope6;
    this.stateAt = family === 4 ? RecordField.state4 : RecordField.state6;
    this.capacity = Math.min(2 * most + 1024, ENTRY_MOST);
    this.records = new Int32Array(new SharedArrayBuffer(4 * this.stride * (this.capacity + 1)));
    this.slots = newSlots(expected);
    this.reclaimer = new Reclaimer(readers, (entry) => this.free.push(entry));
  }

  /** Entry number, 0: none. */
  find(words: ArrayLike<number>, scope: number): number {
    const { slots, records, seed } = this;
    return this.family === 4
      ? findEntry4(slots, records, seed, words[0], scope)
      : findEntry6(slots, records, seed, words[0], words[1], words[2], words[3], scope);
  }

  /** Makes an entry that is not there. Its record is whole before `publish` makes it known. */
  create(words: ArrayLike<number>, scope: number, state: number): number {
    this.reclaimer.collect();
    const entry = this.free.pop() ?? this.fresh();
    const at = entry * this.stride;
    for (let w = 0; w < this.scopeAt; w++) this.records[at + w] = words[w];
    this.records[at + this.scopeAt] = scope;
    this.records[at + this.stateAt] = state;
    return entry;
  }

  publish(entry: number): void {
    if (2 * (this.count + this.tombstones + 1) > this.slots.length) this.rehash();
    this.countLength(this.scopeOf(entry) >>> 24, 1);
    const hash = this.hashOf(entry);
    const mask = this.slots.length - 1;
    let at = hash & mask;
    while ((this.slots[at] & SlotWord.ENTRY_MASK) !== 0) at = (at + 1) & mask;
    if (this.slots[at] === SlotWord.TOMBSTONE) this.tombstones--;
    Atomics.store(this.slots, at, this.slotOf(hash, entry));
    this.count++;
  }

  /** Takes an entry out. Its number and record stay as they are until no reader can have it in hand. */
  remove(entry: number): void {
    const { slots } = this;
    const mask = slots.length - 1;
    let at = this.slotIndexOf(entry);
    if (slots[(at + 1) & mask] !== 0) {
      Atomics.store(slots, at, SlotWord.TOMBSTONE);
      this.tombstones++;
    } else {
      // The chain ends here: so do the tombstones in front.
      Atomics.store(slots, at, 0);
      for (at = (at - 1) & mask; slots[at] === SlotWord.TOMBSTONE; at = (at - 1) & mask) {
        Atomics.store(slots, at, 0);
        this.tombstones--;
      }
    }
    this.countLength(this.scopeOf(entry) >>> 24, -1);
    this.count--;
    this.reclaimer.retire(entry, 0);
  }

  scopeOf(entry: number): number {
    return this.records[entry * this.stride + this.scopeAt];
  }

  lengthOf(entry: number): number {
    return this.records[entry * this.stride + this.scopeAt] >>> 24;
  }

  stateOf(entry: number): number {
    return this.records[entry * this.stride + this.stateAt];
  }

  setState(entry: number, state: number): void {
    const before = this.stateOf(entry);
    Atomics.store(this.records, entry * this.stride + this.stateAt, state);
    if ((before === 0) === (state === 0)) return;
    // Behind the state: who still has the slot as it was takes the entry for what it was.
    const at = this.slotIndexOf(entry);
    Atomics.store(this.slots, at, this.slotOf(this.slots[at], entry));
  }

  /** The four words of an entry's address; 1-3 are 0 for IPv4. */
  addressOf(entry: number): [number, number, number, number] {
    const { records } = this;
    const at = entry * this.stride;
    return this.family === 4
      ? [records[at], 0, 0, 0]
      : [records[at], records[at + 1], records[at + 2], records[at + 3]];
  }

  /** The entries, in the order of their numbers; removing while walking is allowed. */
  *entries(): Generator<number> {
    const there = new Uint8Array(this.top);
    for (const slot of this.slots) there[slot & SlotWord.ENTRY_MASK] = 1;
    for (let entry = 1; entry < there.length; entry++) if (there[entry] === 1) yield entry;
  }

  /** The entry in a slot, 0: none; for walks in pieces. */
  entryAt(slot: number): number {
    return this.slots[slot] & SlotWord.ENTRY_MASK;
  }

  private fresh(): number {
    if (this.top > this.capacity) {
      throw new SluiceError(
        'SLUICE_STATE',
        'the set has changed faster than the workers look',
        'Wait a second, then change it again.',
      );
    }
    return this.top++;
  }

  private rehash(): void {
    const slots = newSlots(Math.ceil(1.5 * this.count) + 1);
    const mask = slots.length - 1;
    for (const slot of this.slots) {
      const entry = slot & SlotWord.ENTRY_MASK;
      if (entry === 0) continue;
      const hash = this.hashOf(entry);
      let at = hash & mask;
      while (slots[at] !== 0) at = (at + 1) & mask;
      slots[at] = this.slotOf(hash, entry);
    }
    this.slots = slots;
    this.tombstones = 0;
    this.version++;
  }

  private slotIndexOf(entry: number): number {
    const { slots } = this;
    const mask = slots.length - 1;
    let at = this.hashOf(entry) & mask;
    while ((slots[at] & SlotWord.ENTRY_MASK) !== entry) at = (at + 1) & mask;
    return at;
  }

  /** `hash`: its highest bits are the tag. */
  private slotOf(hash: number, entry: number): number {
    const check = this.stateOf(entry) === 0 ? 0 : SlotWord.CHECK;
    return (hash & (-1 << SlotWord.TAG_SHIFT)) | check | entry;
  }

  private hashOf(entry: number): number {
    const { records, seed } = this;
    const at = entry * this.stride;
    const scope = records[at + this.scopeAt];
    if (this.family === 4) return hashEntry4(seed, records[at], scope);
    return hashEntry6(seed, records[at], records[at + 1], records[at + 2], records[at + 3], scope);
  }

  /** Keeps the bit map of lengths in use, which is entry 0's address. */
  private countLength(length: number, step: 1 | -1): void {
    this.lengthCounts[length] += step;
    const at = (length - 1) >> 5;
    const bit = 1 << ((length - 1) & 31);
    if (step === 1) this.records[at] |= bit;
    else if (this.lengthCounts[length] === 0) this.records[at] &= ~bit;
  }
}

/** Half full at most when the expected entries are there. */
function newSlots(expected: number): Int32Array {
  let length = SLOTS_LEAST;
  while (length < 2 * expected) length *= 2;
  return new Int32Array(new SharedArrayBuffer(4 * length));
}

/**
 * One family of a set of hosts (hash:ip, hash:ip,port), as a worker looks it up: open addressing, see layout.ts. Hot: each look-up is one method that
 * V8 inlines (at most 460 bytes of bytecode), without imported or exported names, which cost a check each.
 */
import { RecordField, SlotWord, type TableBuffers } from './layout.js';

/** Multipliers of MurmurHash3's finalizer. */
const M1 = 0x85ebca6b | 0;
const M2 = 0xc2b2ae35 | 0;

function hash4(seed: number, a0: number, scope: number): number {
  let h = Math.imul(a0 ^ seed, M1);
  h = Math.imul(h ^ (h >>> 15) ^ scope, M2);
  return h ^ (h >>> 15);
}

/** Two words at a time side by side: the processor multiplies one while it waits for the other. */
function hash6(seed: number, a0: number, a1: number, a2: number, a3: number, scope: number): number {
  let g = Math.imul(a0 ^ seed, M1);
  let h = Math.imul(a2 ^ seed, M2);
  g = Math.imul(g ^ (g >>> 15) ^ a1, M2);
  h = Math.imul(h ^ (h >>> 13) ^ a3, M1);
  h = Math.imul(h ^ (h >>> 16) ^ g ^ scope, M1);
  return h ^ (h >>> 15);
}

export function hashEntry4(seed: number, a0: number, scope: number): number {
  return hash4(seed, a0, scope);
}

export function hashEntry6(seed: number, a0: number, a1: number, a2: number, a3: number, scope: number): number {
  return hash6(seed, a0, a1, a2, a3, scope);
}

const HOST4 = 32 << 24;
const HOST6 = 128 << 24;

/** Slots of a table that is far larger than the first-level cache: 256 KiB. */
const LARGE = 65_536;

/** What every set of hosts has. Scope and state are read where they may decide: see `telling`. */
class HostTable {
  readonly records: Int32Array;
  readonly slots: Int32Array;
  readonly slotMask: number;
  readonly seed: number;
  /** Most look-ups find their words in no cache that is near. */
  readonly isLarge: boolean;
  /** Bits of a slot that say that the address does not tell all: an entry that is not plain; with ports, any. */
  protected readonly telling: number;

  constructor({ records, slots, seed }: TableBuffers, hasPort: boolean) {
    this.records = new Int32Array(records);
    this.slots = new Int32Array(slots);
    this.slotMask = (this.slots.length - 1) | 0;
    this.seed = seed;
    this.isLarge = this.slots.length > LARGE;
    this.telling = hasPort ? SlotWord.CHECK | SlotWord.ENTRY_MASK : SlotWord.CHECK;
  }
}

export class HostView4 extends HostTable {
  readonly mask0: number;

  constructor(buffers: TableBuffers, hasPort: boolean) {
    super(buffers, hasPort);
    this.mask0 = buffers.mask[0];
  }

  /** As SetView.touch4. */
  touch4(address: number, port: number): number {
    const slot = this.slots[hash4(this.seed, address & this.mask0, HOST4 | port) & this.slotMask];
    return this.records[(slot & SlotWord.ENTRY_MASK) << RecordField.STRIDE4_SHIFT];
  }

  /** As SetView.lookup4. */
  lookup4(address: number, port: number, now: number): number {
    const { slots, records, slotMask } = this;
    const a0 = address & this.mask0;
    const scope = HOST4 | port;
    const hash = hash4(this.seed, a0, scope);
    for (let at = hash & slotMask; ; at = (at + 1) & slotMask) {
      const slot = slots[at];
      if (slot === 0) return -1;
      if ((slot ^ hash) >>> SlotWord.TAG_SHIFT !== 0) continue;
      const record = (slot & SlotWord.ENTRY_MASK) << RecordField.STRIDE4_SHIFT;
      if (records[record] !== a0) continue;
      if ((slot & this.telling) !== 0) {
        if (records[record + RecordField.scope4] !== scope) continue;
        const state = records[record + RecordField.state4];
        if (state !== 0 && state >>> 1 <= now) return -1;
      }
      return slot & SlotWord.ENTRY_MASK;
    }
  }
}

export class HostView6 extends HostTable {
  private readonly masks: boolean;
  private readonly mask0: number;
  private readonly mask1: number;
  private readonly mask2: number;
  private readonly mask3: number;

  constructor(buffers: TableBuffers, hasPort: boolean) {
    super(buffers, hasPort);
    this.masks = buffers.mask.some((word) => word !== -1);
    [this.mask0, this.mask1, this.mask2, this.mask3] = buffers.mask;
  }

  /** As SetView.lookup6. */
  lookup6(a0: number, a1: number, a2: number, a3: number, port: number, now: number): number {
    const { slots, records, slotMask } = this;
    // A strict comparison: whether something is truthy is asked in seven steps.
    if (this.masks === true) {
      a0 &= this.mask0;
      a1 &= this.mask1;
      a2 &= this.mask2;
      a3 &= this.mask3;
    }
    const scope = HOST6 | port;
    const hash = hash6(this.seed, a0, a1, a2, a3, scope);
    for (let at = hash & slotMask; ; at = (at + 1) & slotMask) {
      const slot = slots[at];
      if (slot === 0) return -1;
      if ((slot ^ hash) >>> SlotWord.TAG_SHIFT !== 0) continue;
      const record = (slot & SlotWord.ENTRY_MASK) << RecordField.STRIDE6_SHIFT;
      if (
        records[record] !== a0 ||
        records[record + 1] !== a1 ||
        records[record + 2] !== a2 ||
        records[record + 3] !== a3
      ) {
        continue;
      }
      if ((slot & this.telling) !== 0) {
        if (records[record + RecordField.scope6] !== scope) continue;
        const state = records[record + RecordField.state6];
        if (state !== 0 && state >>> 1 <= now) return -1;
      }
      return slot & SlotWord.ENTRY_MASK;
    }
  }
}

/** Finds the entry of an exact (address, scope) by open addressing. Hot: int32 arithmetic only, nothing allocated. */
import { RecordField, SlotWord } from './layout.js';

/** Multipliers of MurmurHash3's finalizer. */
const M1 = 0x85ebca6b | 0;
const M2 = 0xc2b2ae35 | 0;

export function hashEntry4(seed: number, a0: number, scope: number): number {
  let h = Math.imul(a0 ^ seed, M1);
  h = Math.imul(h ^ (h >>> 13) ^ scope, M2);
  h = Math.imul(h ^ (h >>> 16), M1);
  return h ^ (h >>> 15);
}

export function hashEntry6(seed: number, a0: number, a1: number, a2: number, a3: number, scope: number): number {
  let h = Math.imul(a0 ^ seed, M1);
  h = Math.imul(h ^ (h >>> 13) ^ a1, M2);
  h = Math.imul(h ^ (h >>> 16) ^ a2, M1);
  h = Math.imul(h ^ (h >>> 13) ^ a3, M2);
  h = Math.imul(h ^ (h >>> 16) ^ scope, M1);
  return h ^ (h >>> 15);
}

/** Entry number, 0: none. `slots` has a power of two of words, never all in use. */
export function findEntry4(slots: Int32Array, records: Int32Array, seed: number, a0: number, scope: number): number {
  const mask = (slots.length - 1) | 0;
  const hash = hashEntry4(seed, a0, scope);
  for (let at = hash & mask; ; at = (at + 1) & mask) {
    const slot = slots[at];
    if (slot === 0) return 0;
    if ((slot ^ hash) >>> SlotWord.TAG_SHIFT !== 0) continue;
    const entry = slot & SlotWord.ENTRY_MASK;
    const record = entry << RecordField.STRIDE4_SHIFT;
    if (records[record] === a0 && records[record + RecordField.scope4] === scope) return entry;
  }
}

/** Entry number, 0: none. */
export function findEntry6(
  slots: Int32Array,
  records: Int32Array,
  seed: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  scope: number,
): number {
  const mask = (slots.length - 1) | 0;
  const hash = hashEntry6(seed, a0, a1, a2, a3, scope);
  for (let at = hash & mask; ; at = (at + 1) & mask) {
    const slot = slots[at];
    if (slot === 0) return 0;
    if ((slot ^ hash) >>> SlotWord.TAG_SHIFT !== 0) continue;
    const entry = slot & SlotWord.ENTRY_MASK;
    const record = entry << RecordField.STRIDE6_SHIFT;
    if (
      records[record + 3] === a3 &&
      records[record + 2] === a2 &&
      records[record + 1] === a1 &&
      records[record] === a0 &&
      records[record + RecordField.scope6] === scope
    ) {
      return entry;
    }
  }
}

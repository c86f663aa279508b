/** Finds the entry of an exact (address, scope) by open addressing: for the writer, and for what is rare in look-ups. */
import { hashEntry4, hashEntry6 } from './host_view.js';
import { RecordField, SlotWord } from './layout.js';

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

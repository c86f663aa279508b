import { LITTLE_ENDIAN } from '../packet/encap.js';

/**
 * Copies `length` bytes at byte offset `from` of packet memory to word index `to`: whole words, so up to three bytes more, which nobody reads. Frames lie on
 * a multiple of four in all but odd cases. `view` and `memory` are the same packet memory.
 */
export function copyFrame(
  view: DataView,
  memory: Int32Array,
  from: number,
  length: number,
  target: Int32Array,
  to: number,
): void {
  if ((from & 3) === 0) {
    copyWords(memory, from >> 2, target, to, length);
    return;
  }
  const whole = length & -4;
  for (let i = 0; i < whole; i += 4) target[to + (i >> 2)] = view.getInt32(from + i, LITTLE_ENDIAN);
  let last = 0;
  for (let i = whole; i < length; i++) {
    const shift = (i & 3) << 3;
    last |= view.getUint8(from + i) << (LITTLE_ENDIAN ? shift : 24 - shift);
  }
  if (whole < length) target[to + (whole >> 2)] = last;
}

/** Copies the words that `length` bytes lie in. A loop: to make a view of the part, for `set`, would be an object a packet. */
export function copyWords(source: Int32Array, from: number, target: Int32Array, to: number, length: number): void {
  const words = (length + 3) >> 2;
  for (let i = 0; i < words; i++) target[to + i] = source[from + i];
}

/** Words of a prefix mask: `length` of 128 bits, or of 32 in the first word and nothing behind it. */
export function maskWords(length: number, family: 4 | 6): Int32Array {
  const words = new Int32Array(4);
  for (let i = 0; i < (family === 4 ? 1 : 4); i++) {
    const bits = Math.min(Math.max(length - 32 * i, 0), 32);
    words[i] = bits === 0 ? 0 : -1 << (32 - bits);
  }
  return words;
}

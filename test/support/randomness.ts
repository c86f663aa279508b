/** Deterministic: a failure names its seed, and the seed makes the text again. */
export function randomness(seed: number): (limit: number) => number {
  let state = seed | 1;
  return (limit) => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d);
    state = (Math.imul(state ^ (state >>> 12), 0x297a2d39) + 0x9e3779b9) | 0;
    return ((state ^ (state >>> 15)) >>> 0) % limit;
  };
}

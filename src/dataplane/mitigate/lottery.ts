/** Draws for drops by chance: xorshift32 (Marsaglia, "Xorshift RNGs", 2003). Good enough that nobody outside can tell; not a secret. */
export class Lottery {
  private state: number;

  /** `seed`: any int32; runs with equal seeds draw the same. */
  constructor(seed: number) {
    // 0 is the one state that it never leaves.
    this.state = (seed | 0) === 0 ? 0x9e3779b9 | 0 : seed | 0;
  }

  /** The next 32 bits, never all 0. */
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x;
  }
}

/** Draws for rules with a probability: xorshift32 (Marsaglia, "Xorshift RNGs", 2003). One a worker. Not a secret. */
export class Chance {
  private state: number;

  /** `seed`: any int32; runs with equal seeds draw the same. */
  constructor(seed: number) {
    // 0 is the one state that it never leaves.
    this.state = (seed | 0) === 0 ? 0x2545f491 : seed | 0;
  }

  /** Whether the next uint32 is below `threshold`, a uint32 as its int32 bit pattern. */
  below(threshold: number): boolean {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return (x ^ SIGN) < (threshold ^ SIGN);
  }
}

/** Makes a signed comparison order uint32. */
const SIGN = -0x80000000;

import { Lottery } from '../mitigate/lottery.js';

/** Makes a signed comparison order uint32. */
const SIGN = -0x80000000;

/** Draws for rules with a probability. One a worker. */
export class Chance extends Lottery {
  /** Whether the next uint32 is below `threshold`, a uint32 as its int32 bit pattern. */
  below(threshold: number): boolean {
    return (this.next() ^ SIGN) < (threshold ^ SIGN);
  }
}

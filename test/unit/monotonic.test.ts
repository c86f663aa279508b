import { expect, it } from 'vitest';
import { zeroNsOf } from '../../src/control/manager/monotonic.js';
import { SetClockWord } from '../../src/shared/sets/index.js';

it('finds second 0 of a clock again, however often its milliseconds have wrapped', () => {
  const day = 86_400_000n;
  for (const zeroMs of [0n, 12_345n, 2n ** 31n - 1n, 2n ** 31n, 24n * day, 50n * day + 7n, 1000n * day]) {
    for (const passedMs of [0n, 999n, 30n * day, 60n * day + 3n, 4000n * day]) {
      const words = new Int32Array(new SharedArrayBuffer(4 * SetClockWord.SIZE));
      words[SetClockWord.zeroMs] = Number(BigInt.asIntN(32, zeroMs));
      // The word may be a second or two behind.
      for (const behind of [0n, 2n]) {
        const seconds = passedMs / 1000n - behind;
        words[SetClockWord.seconds] = Number(seconds < 0n ? 0n : seconds);
        const now = (zeroMs + passedMs) * 1_000_000n + 999_999n;
        expect(zeroNsOf(words.buffer as SharedArrayBuffer, now)).toBe(zeroMs * 1_000_000n);
      }
    }
  }
});

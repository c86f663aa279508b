import { SetClockWord } from '../../shared/sets/index.js';

/**
 * CLOCK_MONOTONIC, which the kernel's programs read, at second 0 of a clock that has wrapping milliseconds of it (Tables.setClock), ns. The clock's seconds,
 * good to some seconds, say how often the milliseconds have wrapped.
 *
 * @param nowNs CLOCK_MONOTONIC, which is what Node's hrtime is on Linux
 */
export function zeroNsOf(setClock: SharedArrayBuffer, nowNs: bigint = process.hrtime.bigint()): bigint {
  const words = new Int32Array(setClock);
  const roughMs = nowNs / 1_000_000n - BigInt(words[SetClockWord.seconds]) * 1000n;
  return (roughMs + BigInt.asIntN(32, BigInt(words[SetClockWord.zeroMs]) - roughMs)) * 1_000_000n;
}

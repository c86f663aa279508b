/**
 * What every micro bench has in common. A file in this folder is a program: `node parse.js SECONDS [NAME]` prints one JSON line a
 * case, with a NAME only for the case of that name.
 * A body does a burst, and returns a number that depends on everything it did; each call's number is compared with what
 * it must be, so that nothing is optimised away and nothing wrong is timed.
 */
import Benchmark from 'benchmark';

/** Packets that one call of a body does. */
export const BURST = 64;

const seconds = Number(process.argv[2] ?? 1);
if (!(seconds > 0)) throw new RangeError(`"${process.argv[2]}" is not a number of seconds`);

/** A quick or a smoke run: leave out what takes long to set up, or to do once. */
export const SMOKE = seconds < 0.1;

export interface MicroCase {
  name: string;
  /** Does it all once and returns a number made of the results. Runs again and again on the same input. */
  body: () => number;
  /** What `body` has to return, worked out another way. */
  expected: number;
  /** What the figure is for: a packet (the default: body does BURST of them) or a call (body does `calls`). */
  calls?: number;
}

export interface MicroResult {
  name: string;
  ns: number;
  /** Relative margin of error of the mean, percent, 95 % confidence (benchmark's `stats.rme`). */
  rme: number;
  samples: number;
  per: 'packet' | 'call';
}

export type MicroLine = MicroResult | { skipped: string };

function print(line: MicroLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Prints why something cannot be measured here. */
export function skip(reason: string): void {
  print({ skipped: reason });
}

/** A body that returns a wrong number makes this the number. */
interface Check {
  wrong: number | null;
}

/** Measures one case after the other, each for at most the seconds of the command line. Throws when a body returns something else. */
export function measure(cases: readonly MicroCase[]): void {
  const only = process.argv.at(3);
  for (const { name, body, expected, calls } of cases) {
    if (only !== undefined && name !== only) continue;
    const check: Check = { wrong: null };
    const timed = (): void => {
      const result = body();
      if (result !== expected) check.wrong = result;
    };
    warm(timed);
    const bench = new Benchmark(name, timed, { maxTime: seconds, minTime: Math.min(0.05, seconds / 10) }).run();
    if (bench.error !== undefined) throw new Error(`${name}: ${String(bench.error)}`);
    if (check.wrong !== null) throw new Error(`${name}: a body returned ${check.wrong}, expected ${expected}`);
    print({
      name,
      ns: (bench.stats.mean * 1e9) / (calls ?? BURST),
      rme: bench.stats.rme,
      samples: bench.stats.sample.length,
      per: calls === undefined ? 'packet' : 'call',
    });
  }
}

/** Least and most CPU time to warm up for, ms; a body that takes long has not been called often by the least. Where numbers say nothing, little. */
const WARM_MS = seconds < 0.05 ? 10 : 40;
const WARM_MOST_MS = 500;
const WARM_CALLS = 100;

/**
 * Runs it until all its loops are compiled. V8 compiles beside us, on the same CPU when we are pinned to one; CPU time, as on a busy machine little happens in 40 ms by the
 * clock.
 */
function warm(timed: () => void): void {
  const start = process.cpuUsage();
  for (let calls = 1; ; calls++) {
    timed();
    const { user, system } = process.cpuUsage(start);
    const ms = (user + system) / 1000;
    if (ms >= WARM_MOST_MS || (ms >= WARM_MS && calls >= WARM_CALLS)) return;
  }
}

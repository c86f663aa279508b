import { performance } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';
import { GcWatch, type GcPauses } from './gc.js';
import type { BenchCounts, Job } from './modes.js';

/** How long the event loop waits for the job, ms: it has signals to notice. Its turn takes some 90 µs, in which no packet moves. */
const TURN_MS = 100;
/** Longest sleep for want of packets, ms. */
const SLEEP_MS = 20;

/** Rounds between two looks at the clock, unless one was slept through. A look costs as much as three packets that are dropped. */
const ROUNDS = 8;
/** Rounds at most, before a turn of the event loop, until one has no packets: what was judged leaves with the next round, and not behind that turn. */
const LAST_ROUNDS = 4;
/** What a round without packets takes, as a part of one with. */
const EMPTY_ROUND = 1 / 16;

export interface BenchReport extends BenchCounts {
  /** Since the start. */
  seconds: number;
  /** CPU time of the process, all threads, in that time. */
  cpuSeconds: number;
  /** Of this thread's garbage collector; absent where there is none. */
  gc?: GcPauses;
  /** The last one. */
  final: boolean;
}

export interface RunOptions {
  /** Sleep while there is nothing. */
  poll: boolean;
  /** Between two reports. */
  intervalMs: number;
  /** 0: until the signal. */
  durationMs: number;
  signal: AbortSignal;
}

/**
 * Runs a job until the time is up, the signal is aborted or the job has done all; reports each interval, and once at the end, when the job is closed.
 *
 * @throws what the job throws (an interface is gone); it is closed then too
 */
export async function runJob(job: Job, options: RunOptions, report: (report: BenchReport) => void): Promise<void> {
  const { poll, intervalMs, durationMs, signal } = options;
  const sleepMs = poll ? SLEEP_MS : 0;
  const started = performance.now();
  const cpuStarted = process.cpuUsage();
  const watch = new GcWatch();
  const tell = (now: number, final: boolean): void => {
    const { user, system } = process.cpuUsage(cpuStarted);
    const seconds = (now - started) / 1000;
    report({ seconds, ...job.counts(), cpuSeconds: (user + system) / 1e6, gc: watch.pauses(), final });
  };
  const end = durationMs > 0 ? started + durationMs : Infinity;
  let next = started + intervalMs;
  let now = started;
  try {
    while (now < end && !signal.aborted && !job.done) {
      spend(job, Math.ceil(Math.min(now + TURN_MS, next, end) - now), sleepMs);
      now = performance.now();
      if (now >= next && now < end) {
        tell(now, false);
        // Reports that were missed are not made up for.
        next = next + intervalMs > now ? next + intervalMs : now + intervalMs;
      }
      await turn();
    }
  } finally {
    job.close();
    watch.stop();
  }
  tell(performance.now(), true);
}

/** Rounds for so long. A function of its own, so that it is compiled as one and not while it runs. It allocates nothing. */
function spend(job: Job, ms: number, sleepMs: number): void {
  const started = job.nowMs();
  do {
    for (let spent = 0; spent < ROUNDS && !job.done;) {
      const packets = job.round(sleepMs);
      if (packets === 0 && sleepMs > 0) break;
      spent += packets > 0 ? 1 : EMPTY_ROUND;
    }
  } while (!job.done && ((job.nowMs() - started) | 0) < ms);
  for (let i = 0; i < LAST_ROUNDS && !job.done && job.round(0) > 0; i++);
}

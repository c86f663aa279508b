/** Entry of the thread that sends a load from an AF_XDP socket: the load's count, time and rate. */
import { spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { SluiceError } from '../errors.js';
import { native } from '../native.js';
import type { LoadLimits } from './load.js';
import { XskSender } from './xsk_sender.js';
import { XskWord, type XskThreadData, type XskThreadEnd } from './xsk_words.js';

/** What it was held up for longer is not made up for, ms. */
const MADE_UP_MS = 20;
/** How often it looks whether its socket is well, ms. */
const HEALTH_MS = 100;
/** Shorter pauses between two packets it spins through, ms. */
const LEAST_SLEEP_MS = 0.2;

const { load, queue, mode, batch, control, progress } = workerData as XskThreadData;
const stop = new Int32Array(control);
const words = new Float64Array(progress);

/** Binds this thread to a CPU; its softirqs go there too. */
function pin(cpu: number): void {
  // "PID/task/TID" of the thread that reads it.
  const thread = readlinkSync('/proc/thread-self').split('/').pop()!;
  const { status, stderr } = spawnSync('taskset', ['-p', '-c', String(cpu), thread], { encoding: 'utf8' });
  if (status !== 0) throw new SluiceError('SLUICE_USAGE', `cannot send from CPU ${cpu}: ${stderr?.trim() ?? ''}`);
}

/** Packets that may be sent by now, as the rate allows. */
class Pace {
  private sentBefore = 0;
  private since = 0;

  constructor(private readonly perMs: number) {}

  due(elapsedMs: number, sent: number): number {
    if (this.perMs === 0) return Infinity;
    const owed = (elapsedMs - this.since) * this.perMs - (sent - this.sentBefore);
    if (owed > this.perMs * MADE_UP_MS + 1) {
      this.since = elapsedMs - MADE_UP_MS;
      this.sentBefore = sent;
      return this.perMs * MADE_UP_MS;
    }
    return owed;
  }

  /** Time until a whole packet is due, ms. */
  wait(owed: number): number {
    return (1 - owed) / this.perMs;
  }
}

/** Sends until the end. Returns why that came. */
function run({ packets, durationMs, packetsPerSecond }: LoadLimits, sender: XskSender): XskThreadEnd['ended'] {
  const started = performance.now();
  const pace = new Pace(packetsPerSecond / 1000);
  let lookedMs = 0;
  let sent = 0;
  for (;;) {
    const elapsedMs = performance.now() - started;
    words[XskWord.elapsedMs] = elapsedMs;
    words.set(sender.bySize, XskWord.bySize);
    if (packets > 0 && sent >= packets) return 'count';
    if (elapsedMs >= durationMs) return 'time';
    if (Atomics.load(stop, 0) !== 0) return 'stopped';
    if (elapsedMs - lookedMs >= HEALTH_MS) {
      lookedMs = elapsedMs;
      if (sender.error() !== 0) throw new SluiceError('SLUICE_DEVICE', `interface ${load.interface} is gone`);
    }
    const owed = pace.due(elapsedMs, sent);
    const most = Math.min(batch, Math.floor(owed), packets > 0 ? packets - sent : batch);
    if (most < 1) {
      // What was queued last goes out before it rests.
      sender.send(0);
      const wait = Math.min(pace.wait(owed), durationMs - elapsedMs, MADE_UP_MS);
      if (wait >= LEAST_SLEEP_MS) Atomics.wait(stop, 0, 0, wait);
      continue;
    }
    sent += sender.send(most);
  }
}

if (load.cpu !== null) pin(load.cpu);
const sender = new XskSender(load, { queue, mode, batch });
try {
  const cpuStarted = native().threadCpuNs();
  const ended = run(load, sender);
  words[XskWord.cpuMs] = (native().threadCpuNs() - cpuStarted) / 1e6;
  parentPort!.postMessage({ ended } satisfies XskThreadEnd);
} finally {
  sender.close();
}

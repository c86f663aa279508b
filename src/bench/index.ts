/** `sluice bench`: opens the job that the settings name. */
import { setFlagsFromString } from 'node:v8';
import { collectGarbage } from '../shared/collect_garbage.js';
import { EngineJob } from './engine_job.js';
import type { BenchSettings, Job } from './modes.js';
import { PortJob } from './port_job.js';
import { TxJob } from './tx_job.js';

/** Set up, and what setting up left behind collected. @throws SluiceError, KernelError; nothing is left attached or open then */
export async function openJob(settings: BenchSettings): Promise<Job> {
  const job = await open(settings);
  await collectGarbage();
  leaveHeapAlone();
  return job;
}

/**
 * For 8 s and more after a full collection V8 collects again to give memory back (its memory reducer), in turns of the event loop: 5 to 10 ms each at full load, ten of them in
 * a minute. It does that only where it may mark incrementally. And the threads that help with a small collection are on this thread's CPU where the process is pinned to one:
 * it would wait until the scheduler lets them run. A worker of `sluice run` gives the event loop no turn and has next to nothing to collect, so it needs neither flag.
 */
function leaveHeapAlone(): void {
  setFlagsFromString('--no-incremental-marking');
  setFlagsFromString('--no-parallel-scavenge');
}

async function open(settings: BenchSettings): Promise<Job> {
  const { mode } = settings;
  switch (mode) {
    case 'txonly':
      return TxJob.open(settings);
    case 'lb':
    case 'filter':
      return EngineJob.open({ ...settings, mode });
    case 'rxdrop':
    case 'l2fwd':
    case 'forward':
      return PortJob.open({ ...settings, mode });
  }
}

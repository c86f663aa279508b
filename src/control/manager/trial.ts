import { Worker } from 'node:worker_threads';
import { SluiceError } from '../../errors.js';
import type { FilterSpec } from '../../shared/layout.js';

const trialFile = new URL('../../dataplane/filter/trial.js', import.meta.url);

/** How long a filter chain may take to be made. Importing modules, TypeScript perhaps, is part of it. */
const TRIAL_MS = 6000;

/**
 * Makes a filter chain in a thread of its own and throws it away: a module that does not load, throws in create() or never
 * returns from it is found out before a worker that carries traffic meets it. Throws SLUICE_CONFIG with its words.
 */
export async function trialOfFilters(filters: readonly FilterSpec[]): Promise<void> {
  if (!filters.some((filter) => filter.kind === 'module')) return;
  const worker = new Worker(trialFile, { workerData: filters, name: 'sluice-trial' });
  let timer: NodeJS.Timeout | undefined;
  try {
    const problem = await new Promise<string>((resolve) => {
      worker.once('message', resolve);
      worker.once('error', (error) => resolve(error.message));
      worker.once('exit', () => resolve('a filter module ended its thread while it was loaded'));
      const message = `a filter module does not come back from its import or its create() within ${TRIAL_MS / 1000} s`;
      timer = setTimeout(() => resolve(message), TRIAL_MS);
    });
    if (problem !== '') throw new SluiceError('SLUICE_CONFIG', problem);
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}

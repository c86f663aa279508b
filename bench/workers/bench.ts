import type { Bench, EffortName } from '../bench.js';
import { runWorkers, type WorkersEffort, type WorkersResult } from './run.js';
import { workersRows } from './show.js';

const EFFORTS: Readonly<Record<EffortName, WorkersEffort>> = {
  full: { rounds: 7, ms: 300 },
  quick: { rounds: 5, ms: 120 },
  smoke: { rounds: 1, ms: 40 },
};

export const workersBench: Bench<WorkersResult[]> = {
  name: 'workers',
  about: 'packets a second of two queues with a thread each, beside one',
  needsRoot: true,
  byDefault: false,
  seconds: { full: 420, quick: 240, smoke: 60 },
  run: ({ effort, say }) => runWorkers(EFFORTS[effort], say),
  tables: (results) => [workersRows(results)],
};

import type { Bench, EffortName } from '../bench.js';
import { runIdle, type IdleEffort, type IdleResult } from './run.js';
import { idleRows } from './show.js';

const EFFORTS: Readonly<Record<EffortName, IdleEffort>> = {
  full: { rounds: 5, settleMs: 3000, ms: 4000, all: true },
  quick: { rounds: 5, settleMs: 1500, ms: 1000, all: false },
  smoke: { rounds: 1, settleMs: 300, ms: 300, all: false },
};

export const idleBench: Bench<IdleResult[]> = {
  name: 'idle',
  about: 'CPU time, context switches and memory of a daemon without packets',
  needsRoot: true,
  byDefault: false,
  seconds: { full: 420, quick: 60, smoke: 8 },
  run: ({ effort, say }) => runIdle(EFFORTS[effort], say),
  tables: (results) => [idleRows(results)],
};

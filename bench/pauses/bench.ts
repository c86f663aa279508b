import type { Bench, EffortName } from '../bench.js';
import { runPauses, type PausesEffort, type PausesResult } from './run.js';

const EFFORTS: Readonly<Record<EffortName, PausesEffort>> = {
  full: { warmMs: 2000, ms: 60_000 },
  quick: { warmMs: 1000, ms: 5000 },
  smoke: { warmMs: 100, ms: 300 },
};

export const pausesBench: Bench<PausesResult[]> = {
  name: 'pauses',
  about: 'garbage collection of `sluice bench` under full load for a minute each',
  needsRoot: true,
  byDefault: false,
  seconds: { full: 320, quick: 40, smoke: 8 },
  run: ({ effort, say }) => runPauses(EFFORTS[effort], say),
  tables: (results) => [
    [
      ['garbage collection under full load', 's', 'received, Mpps', 'runs', 'together, ms', 'longest, ms', 'B a burst'],
      ...results.map(({ name, seconds, received, count, totalMs, maxMs, bytesPerBurst }) => [
        name,
        seconds.toFixed(1),
        (received / 1e6).toFixed(2),
        String(count),
        totalMs.toFixed(2),
        maxMs.toFixed(2),
        bytesPerBurst.toFixed(1),
      ]),
    ],
  ],
};

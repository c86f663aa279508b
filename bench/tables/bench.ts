import type { Bench, EffortName } from '../bench.js';
import { formatSpread } from '../statistics.js';
import { runTables, type BuildResult } from './run.js';

/** Times that each table is built. */
const BUILDS: Readonly<Record<EffortName, number>> = { full: 5, quick: 3, smoke: 1 };

export const tablesBench: Bench<BuildResult[]> = {
  name: 'tables',
  about: "how long the control plane's tables take to build, ms",
  needsRoot: false,
  byDefault: false,
  seconds: { full: 60, quick: 40, smoke: 10 },
  run: ({ effort, say }) => runTables(BUILDS[effort], effort === 'smoke', say),
  tables: (results) => [
    [
      ['build, ms of CPU time, median [min..max]', 'warm', 'first'],
      ...results.map(({ name, firstMs, spread: ms }) => [name, formatSpread(ms, 1), firstMs.toFixed(1)]),
    ],
  ],
};

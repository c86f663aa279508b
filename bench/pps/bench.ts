import { MODES } from '../../src/bench/modes.js';
import type { Bench, EffortName } from '../bench.js';
import { runPps, type PpsEffort, type PpsResult } from './run.js';
import { ppsChart, ppsRows } from './show.js';

const EFFORTS: Readonly<Record<EffortName, PpsEffort>> = {
  full: { name: 'full', rounds: 7, ms: 700 },
  quick: { name: 'quick', rounds: 5, ms: 250 },
  smoke: { name: 'smoke', rounds: 1, ms: 60 },
};

export const ppsBench: Bench<PpsResult[]> = {
  name: 'pps',
  about: 'packets a second of `sluice bench`, of the same jobs in C and in XDP',
  needsRoot: true,
  byDefault: true,
  seconds: { full: 600, quick: 60, smoke: 45 },
  words: MODES,
  run: ({ effort, words, say }) => runPps(EFFORTS[effort], new Set(MODES.filter((mode) => words.has(mode))), say),
  tables: (results) => [ppsRows(results)],
  charts: (results) => [ppsChart(results)],
};

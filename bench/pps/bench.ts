import { MODES, type Mode } from '../../src/bench/modes.js';
import type { Bench, EffortName } from '../bench.js';
import { runPps, type PpsEffort, type PpsResult } from './run.js';
import { ppsChart, ppsRows } from './show.js';

const EFFORTS: Readonly<Record<EffortName, PpsEffort>> = {
  full: { name: 'full', rounds: 7, ms: 700 },
  quick: { name: 'quick', rounds: 5, ms: 200 },
  smoke: { name: 'smoke', rounds: 1, ms: 60 },
};

/** Jobs of a quick run that names none: receiving, sending, and the two that are more than that. */
const QUICK_MODES: readonly Mode[] = ['rxdrop', 'forward', 'lb', 'filter'];

function modesOf(effort: EffortName, words: ReadonlySet<string>): ReadonlySet<Mode> {
  const named = MODES.filter((mode) => words.has(mode));
  return new Set(effort === 'quick' && named.length === MODES.length ? QUICK_MODES : named);
}

export const ppsBench: Bench<PpsResult[]> = {
  name: 'pps',
  about: 'packets a second of `sluice bench`, of the same jobs in C and in XDP',
  needsRoot: true,
  byDefault: true,
  seconds: { full: 600, quick: 45, smoke: 30 },
  words: MODES,
  run: ({ effort, words, say }) => runPps(EFFORTS[effort], modesOf(effort, words), say),
  tables: (results) => [ppsRows(results)],
  charts: (results) => [ppsChart(results)],
};

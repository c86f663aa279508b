/** The bench of filters: what each effort has, and how its results are shown. */
import type { Bench, EffortName } from '../bench.js';
import { charts, tables } from './bench.js';
import { filterCases } from './filter_cases.js';
import { runFilters, type FilterEffort, type FilterResult } from './filter_run.js';
import { aboveGate } from './run.js';

export const FILTER_EFFORTS: Readonly<Record<EffortName, FilterEffort>> = {
  full: { cases: filterCases('full'), rounds: 5, trialMs: 300 },
  quick: { cases: filterCases('quick'), rounds: 3, trialMs: 100 },
  smoke: { cases: filterCases('smoke'), rounds: 1, trialMs: 20 },
};

export const filtersBench: Bench<FilterResult[]> = {
  name: 'filters',
  about:
    'the parser, rules by their number, sets by their size, and all of it with known flows, against the same in C++; g++',
  needsRoot: false,
  byDefault: false,
  seconds: { full: 200, quick: 35, smoke: 8 },
  run: ({ effort, say }) => runFilters(FILTER_EFFORTS[effort], say),
  tables,
  charts: (results) => charts('Filters', results),
  aboveGate,
};

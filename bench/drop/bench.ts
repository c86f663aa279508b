import type { Bench, EffortName } from '../bench.js';
import { runDrop, type DropEffort, type DropResult } from './run.js';
import { dropChart, dropRows } from './show.js';

const EFFORTS: Readonly<Record<EffortName, DropEffort>> = {
  full: { rounds: 9, ms: 1000, warmMs: 200, large: true },
  quick: { rounds: 5, ms: 250, warmMs: 200, large: true },
  smoke: { rounds: 1, ms: 60, warmMs: 60, large: false },
};

export const dropBench: Bench<DropResult[]> = {
  name: 'drop',
  about: 'packets a second dropped over a veth pair: XDP_DROP, rules in the kernel, rules in TypeScript',
  needsRoot: true,
  byDefault: false,
  seconds: { full: 260, quick: 75, smoke: 12 },
  run: ({ effort, say }) => runDrop(EFFORTS[effort], say),
  tables: (results) => [dropRows(results)],
  charts: (results) => [dropChart(results)],
};

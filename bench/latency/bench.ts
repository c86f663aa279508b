import type { Bench, EffortName } from '../bench.js';
import { latencyCharts } from './chart.js';
import { runLatency, type LatencyEffort, type LatencyResult } from './run.js';
import { latencyRows } from './show.js';

const EFFORTS: Readonly<Record<EffortName, LatencyEffort>> = {
  full: { rounds: 7, seconds: 1.5, fullMs: 300 },
  quick: { rounds: 5, seconds: 0.4, fullMs: 200 },
  smoke: { rounds: 1, seconds: 0.05, fullMs: 60 },
};

export const latencyBench: Bench<LatencyResult[]> = {
  name: 'latency',
  about: 'round trips by way of kernel forwarding, XDP, C and `sluice bench forward`, idle and under load',
  needsRoot: true,
  byDefault: false,
  seconds: { full: 400, quick: 110, smoke: 12 },
  run: ({ effort, say }) => runLatency(EFFORTS[effort], say),
  tables: latencyRows,
  charts: latencyCharts,
};

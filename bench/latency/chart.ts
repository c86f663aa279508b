/** The latency bench's results as charts: UDP, idle and under load. TCP is in the tables. */
import type { Chart, Tone } from '../chart/chart.js';
import { LATENCY_CASES, type LatencyCase, type LoadLevel } from './cases.js';
import type { LatencyResult } from './run.js';

const PERCENTILES = [
  ['p50', 'p50'],
  ['p99', 'p99'],
  ['p999', 'p99.9'],
  ['max', 'max'],
] as const;

function tone({ way, sleeping }: LatencyCase): Tone {
  switch (way) {
    case 'direct':
      return 'limit';
    case 'kernel':
      return 'other';
    case 'xdp':
      return 'other2';
    case 'c':
      return sleeping ? 'reference2' : 'reference';
    case 'typescript':
      return sleeping ? 'ours2' : 'ours';
  }
}

function chartOf(results: readonly LatencyResult[], level: LoadLevel): Chart | null {
  const shown = results.filter(({ protocol, load }) => protocol === 'udp' && load === level);
  // Nothing stands between the two ends without a hop, so it has no load of its own.
  const cases = LATENCY_CASES.filter(({ name }) => shown.some((one) => one.name === name));
  if (cases.length === 0) return null;
  const series = (name: string): number => cases.findIndex((each) => each.name === name);
  return {
    key: level === 'idle' ? '' : 'load',
    title:
      level === 'idle'
        ? 'Round trips, nothing else on the way'
        : 'Round trips, beside half of the load that each carries',
    subtitle: 'UDP ping-pong between two namespaces over veth, one hop between; less is better; logarithmic',
    axis: 'µs from question to answer',
    digits: 1,
    scale: 'log',
    series: cases.map((each) => ({ name: each.name, tone: tone(each) })),
    groups: PERCENTILES.map(([field, label]) => ({
      label,
      bars: shown.map((one) => ({ series: series(one.name), value: one[field] })).filter((bar) => bar.series >= 0),
    })),
  };
}

export function latencyCharts(results: readonly LatencyResult[]): Chart[] {
  return (['idle', 'half'] as const).map((level) => chartOf(results, level)).filter((chart) => chart !== null);
}

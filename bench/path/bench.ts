/** The path bench and the bench of ways: what each effort has, and how their results are shown. */
import type { Bench, EffortName, Rows } from '../bench.js';
import type { Chart } from '../chart/chart.js';
import { formatSpread } from '../statistics.js';
import { pathCases, wayCases } from './cases.js';
import { aboveGate, runCases, type PathEffort, type PathResult } from './run.js';

/** Ratios to C++ that the project holds itself to: equal, in the median of all cases, and in any one. */
const AIMS = [1, 1.1, 1.25];

export const PATH_EFFORTS: Readonly<Record<EffortName, PathEffort>> = {
  full: { cases: pathCases('full'), rounds: 10, trialMs: 1000 },
  quick: { cases: pathCases('quick'), rounds: 5, trialMs: 300 },
  smoke: { cases: pathCases('smoke'), rounds: 1, trialMs: 100 },
};

export const WAY_EFFORTS: Readonly<Record<EffortName, PathEffort>> = {
  full: { cases: wayCases(false), rounds: 7, trialMs: 400 },
  quick: { cases: wayCases(false), rounds: 5, trialMs: 150 },
  smoke: { cases: wayCases(true), rounds: 1, trialMs: 20 },
};

/** What is shown of a case. */
export type Compared = Pick<PathResult, 'name' | 'typescriptNs' | 'cppNs' | 'ratio'>;

export function tables(results: readonly Compared[]): Rows[] {
  const rows = results.map(({ name, typescriptNs, cppNs, ratio }) => [
    name,
    formatSpread(typescriptNs, 1),
    formatSpread(cppNs, 1),
    formatSpread(ratio, 2),
  ]);
  return [[['ns a packet, median [min..max]', 'TypeScript', 'C++', 'ratio a round'], ...rows]];
}

export function charts(what: string, results: readonly Compared[]): Chart[] {
  const ns: Chart = {
    key: '',
    title: `${what}: TypeScript and C++`,
    subtitle: 'CPU time a packet over memory ports, the same work; less is better',
    axis: 'ns a packet',
    digits: 0,
    series: [
      { name: 'C++, g++ -O2', tone: 'reference' },
      { name: 'TypeScript', tone: 'ours' },
    ],
    groups: results.map(({ name, typescriptNs, cppNs, ratio }) => ({
      label: name,
      bars: [
        { series: 0, value: cppNs },
        { series: 1, value: typescriptNs, note: `${ratio.median.toFixed(2)} × C++` },
      ],
    })),
  };
  const ratios: Chart = {
    key: 'ratio',
    title: `${what}: TypeScript as a ratio to C++`,
    subtitle: 'Time a packet, each round against the C++ of the same round; less is better',
    axis: 'times the C++',
    digits: 2,
    series: [{ name: 'TypeScript / C++', tone: 'ours' }],
    groups: results.map(({ name, ratio }) => ({ label: name, bars: [{ series: 0, value: ratio }] })),
    marks: AIMS.map((at) => ({ at, label: at.toFixed(2) })),
  };
  return [ns, ratios];
}

export const pathBench: Bench<PathResult[]> = {
  name: 'path',
  about: 'the whole path in TypeScript against the same work in C++; g++',
  needsRoot: false,
  byDefault: true,
  seconds: { full: 300, quick: 20, smoke: 7 },
  run: ({ effort, say }) => runCases(PATH_EFFORTS[effort], say),
  tables,
  charts: (results) => charts('A packet’s path', results),
  aboveGate,
};

export const waysBench: Bench<PathResult[]> = {
  name: 'ways',
  about: 'the same by family, encapsulation, and whether the flow is known; g++',
  needsRoot: false,
  byDefault: false,
  seconds: { full: 420, quick: 200, smoke: 17 },
  run: ({ effort, say }) => runCases(WAY_EFFORTS[effort], say),
  tables,
  charts: (results) => charts('All ways', results),
  aboveGate,
};

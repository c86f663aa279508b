import type { Bench, EffortName, Rows } from '../bench.js';
import { runMicro, type MicroRow } from './run.js';

/** Longest time of one row, seconds. Below a tenth, rows that take long to set up are left out (harness.ts). */
export const MICRO_SECONDS: Readonly<Record<EffortName, number>> = { full: 1.5, quick: 0.09, smoke: 0.03 };

function tables(results: readonly MicroRow[]): Rows[] {
  const cells = results.map(({ file, name, ns, rme, per }) => [
    `${file}: ${name}`,
    ns.toFixed(2),
    `±${rme.toFixed(1)} %`,
    per,
  ]);
  return [[['micro', 'ns', 'RME', 'per'], ...cells]];
}

export const microBench: Bench<MicroRow[]> = {
  name: 'micro',
  about: 'steps of the path one by one, ns a packet',
  needsRoot: false,
  byDefault: true,
  seconds: { full: 420, quick: 22, smoke: 14 },
  run: ({ effort, say }) => runMicro(MICRO_SECONDS[effort], say),
  tables,
};

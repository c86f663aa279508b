/** The workers bench's results as a table. */
import type { Rows } from '../bench.js';
import { formatSpread, scaled } from '../statistics.js';
import type { WorkersResult } from './run.js';

export function workersRows(results: readonly WorkersResult[]): Rows {
  const rows = results.map(({ name, carried, toOne, cpuNs, cpuToOne }) => [
    name,
    formatSpread(scaled(carried, 1e-6), 2),
    toOne ? formatSpread(toOne, 2) : '',
    formatSpread(cpuNs, 0),
    cpuToOne ? formatSpread(cpuToOne, 2) : '',
  ]);
  const generator = results.some(({ apart }) => !apart) ? ', generator on the same CPUs' : '';
  return [[`workers${generator}, median [min..max]`, 'carried, Mpps', 'of one', 'CPU a packet, ns', 'of one'], ...rows];
}

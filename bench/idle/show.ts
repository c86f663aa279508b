/** The idle bench's results as a table. */
import type { Rows } from '../bench.js';
import { formatSpread, scaled } from '../statistics.js';
import type { IdleResult } from './run.js';

/** A second of CPU time, in ns, as percent of a core. */
const PERCENT = 100 / 1e9;
const MIB = 1 / (1 << 20);

export function idleRows(results: readonly IdleResult[]): Rows {
  const rows = results.map(({ name, cpuNs, slept, preempted, rss, pss, checks }) => [
    name,
    formatSpread(scaled(cpuNs, 1e-3), 0),
    formatSpread(scaled(cpuNs, PERCENT), 2),
    formatSpread(slept, 0),
    formatSpread(preempted, 0),
    formatSpread(scaled(rss, MIB), 0),
    formatSpread(scaled(pss, MIB), 0),
    checks.max > 0 ? formatSpread(checks, 0) : '',
  ]);
  const titles = ['CPU, µs/s', '% of a core', 'sleeps/s', 'preempted/s', 'RSS, MiB', 'PSS, MiB', 'checks/s'];
  return [['idle, median [min..max]', ...titles], ...rows];
}

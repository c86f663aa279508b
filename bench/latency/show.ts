/** The latency bench's results as tables. */
import type { Rows } from '../bench.js';
import { formatSpread, scaled } from '../statistics.js';
import { LOADS } from './cases.js';
import type { LatencyResult } from './run.js';

const TITLES = ['p50, µs', 'p99', 'p99.9', 'max', 'added (p50)', 'p99.9 above C'];

/** One of what was measured idle, one of what was measured under load. */
export function latencyRows(results: readonly LatencyResult[]): Rows[] {
  return LOADS.map((level) => {
    const rows = results
      .filter(({ load }) => load === level)
      .map(({ name, protocol, p50, p99, p999, max, added, aboveC, offered, lost }) => [
        `${protocol.toUpperCase()} ${name}`,
        ...[p50, p99, p999, max].map((value) => formatSpread(value, 1)),
        added ? formatSpread(added, 1) : '',
        aboveC ? formatSpread(aboveC, 1) : '',
        ...(level === 'idle' ? [] : [formatSpread(scaled(offered, 1e-6), 2), formatSpread(scaled(lost, 100), 2)]),
      ]);
    const title = level === 'idle' ? 'round trip, idle' : 'round trip, half of what it carries';
    return [[title, ...TITLES, ...(level === 'idle' ? [] : ['load, Mpps', 'lost, %'])], ...rows];
  });
}

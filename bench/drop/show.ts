/** The drop bench's results as a table and as a chart. */
import type { Rows } from '../bench.js';
import type { Bar, Chart } from '../chart/chart.js';
import { formatSpread, scaled } from '../statistics.js';
import type { DropResult } from './run.js';

export function dropRows(results: readonly DropResult[]): Rows {
  const rows = results.map(({ name, rate, runs, offered, dropped, ratio, senderNs, aboveNs, daemonNs }) => [
    name,
    runs,
    formatSpread(scaled(offered, 1e-6), 2),
    formatSpread(scaled(dropped, 1e-6), 2),
    rate === 0 ? formatSpread(ratio, 2) : '',
    formatSpread(senderNs, 0),
    rate === 0 ? formatSpread(aboveNs, 0) : '',
    daemonNs.median > 0 ? formatSpread(daemonNs, 0) : '',
  ]);
  const titles = [
    'offered, Mpps',
    'dropped, Mpps',
    'of XDP_DROP',
    "sender's CPU, ns",
    'above XDP_DROP',
    "daemon's CPU a drop, ns",
  ];
  return [['drop, median [min..max]', 'runs in', ...titles], ...rows];
}

/** A group for each kind of rule, with a bar for each place where it may run: "auto: one rule" and "off: one rule" are one group. */
export function dropChart(results: readonly DropResult[]): Chart {
  const groups = new Map<string, Bar[]>();
  for (const { name, rate, dropped, ratio } of results) {
    // At a rate of its own all ways drop the same.
    if (rate !== 0) continue;
    const [, where, rule] = /^(auto|off): (.*)$/.exec(name) ?? [];
    const series = where === undefined ? 0 : where === 'auto' ? 1 : 2;
    const note = ratio.median === 1 && ratio.min === ratio.max ? '' : `${ratio.median.toFixed(2)} of XDP_DROP`;
    const label = rule ?? name;
    groups.set(label, [...(groups.get(label) ?? []), { series, value: scaled(dropped, 1e-6), note }]);
  }
  return {
    key: '',
    title: 'Dropping a flood: rules in the kernel and in TypeScript',
    subtitle: '64-byte UDP over a veth pair, as fast as it can be sent, one core for each side; more is better',
    axis: 'million packets a second dropped',
    digits: 1,
    series: [
      { name: 'XDP programs without sluice', tone: 'limit' },
      { name: 'sluice, offload: auto (rule in XDP)', tone: 'ours' },
      { name: 'sluice, offload: off (rule in TypeScript)', tone: 'ours2' },
    ],
    groups: [...groups].map(([label, bars]) => ({ label, bars })),
  };
}

/** The offload bench's results as tables and as a chart. */
import type { Rows } from '../bench.js';
import type { Bar, Chart } from '../chart/chart.js';
import { formatSpread, scaled, type Spread } from '../statistics.js';
import type { By } from './cases.js';
import type { FloodResult } from './flood.js';
import type { Installed } from './install.js';
import type { OffloadResult } from './run.js';

const maybe = (spread: Spread | null, digits: number): string => (spread ? formatSpread(spread, digits) : '');

export function installedRows(results: readonly Installed[]): Rows {
  const rows = results.map((one) => [
    one.way,
    String(one.flows),
    one.perSecond.toFixed(0),
    (one.daemonNs / 1000).toFixed(1),
  ]);
  return [['flows put into the kernel', 'flows', 'a second', "daemon's CPU for each, µs"], ...rows];
}

export function offloadRows(results: readonly OffloadResult[]): Rows {
  const rows = results.map((one) => [
    one.name,
    formatSpread(scaled(one.offered, 1e-6), 2),
    formatSpread(scaled(one.done, 1e-6), 2),
    maybe(one.toLimit, 2),
    maybe(one.toLimitByCpu, 2),
    maybe(one.toAfXdp, 1),
    maybe(one.toNat, 1),
    maybe(one.toNatByCpu, 1),
    formatSpread(one.senderNs, 0),
    maybe(one.aboveNs, 0),
    one.daemonNs.median > 0 ? formatSpread(one.daemonNs, 0) : '',
  ]);
  const titles = [
    'offered, Mpps',
    'done, Mpps',
    'of XDP',
    'of XDP by CPU',
    '× AF_XDP',
    '× nftables',
    '× it by CPU',
    "sender's CPU, ns",
    'above XDP',
    "daemon's CPU, ns",
  ];
  return [['offload, median [min..max]', ...titles], ...rows];
}

export function floodRows(results: readonly FloodResult[]): Rows {
  const rows = results.map((one) => [
    one.name,
    formatSpread(scaled(one.offered, 1e-6), 2),
    formatSpread(scaled(one.done, 1e-6), 2),
    maybe(one.toOff, 2),
    formatSpread(one.senderNs, 0),
    maybe(one.aboveOffNs, 0),
    formatSpread(one.daemonNs, 0),
    formatSpread(one.daemonCpus, 2),
    formatSpread(one.installed, 0),
    formatSpread(one.refused, 0),
    formatSpread(scaled(one.inKernel, 100), 1),
    one.goodLost === null ? '' : formatSpread(scaled(one.goodLost, 100), 1),
  ]);
  const titles = [
    'offered, Mpps',
    'done, Mpps',
    'of off',
    "sender's CPU, ns",
    'above off',
    "daemon's CPU, ns",
    'its CPUs',
    'installed a second',
    'refused',
    'in the kernel, %',
    'good lost, %',
  ];
  return [['flood, median [min..max]', ...titles], ...rows];
}

const SERIES: readonly By[] = ['xdp', 'auto', 'off', 'c', 'nat', 'nat-stateless'];

/** A group for each way and number of flows; the limit, which knows no flows, in each. */
export function offloadChart(results: readonly OffloadResult[]): Chart {
  const keys = [...new Set(results.filter(({ flows }) => flows > 0).map(({ way, flows }) => `${way} ${flows}`))];
  const bar = ({ by, done, toLimit }: OffloadResult): Bar => ({
    series: SERIES.indexOf(by),
    value: scaled(done, 1e-6),
    note: toLimit ? `${toLimit.median.toFixed(2)} of XDP` : '',
  });
  return {
    key: '',
    title: 'Balancing known flows: in the kernel, in TypeScript, in C, in nftables',
    subtitle:
      '64-byte UDP over veth, IP in IP, as fast as it can be sent, one core for the kernel and one for user space; more is better',
    axis: 'million packets a second',
    digits: 2,
    series: [
      { name: 'XDP program that only sends on (the limit)', tone: 'limit' },
      { name: 'sluice, flow_offload: auto', tone: 'ours' },
      { name: 'sluice, flow_offload: off', tone: 'ours2' },
      { name: 'minimal C balancer on AF_XDP', tone: 'reference' },
      { name: 'nftables DNAT, conntrack', tone: 'other' },
      { name: 'nftables, stateless', tone: 'other2' },
    ],
    groups: keys.map((key) => {
      const [way, flows] = key.split(' ');
      const inside = results.filter((one) => one.way === way && (one.by === 'xdp' || one.flows === Number(flows)));
      const label = `${way === 'back' ? 'out of the same interface' : 'out of another'}, ${Number(flows).toLocaleString('en')} flows`;
      return { label, bars: inside.map(bar) };
    }),
  };
}

/** The pps bench's results as a table and as a chart. */
import type { Mode } from '../../src/bench/modes.js';
import type { Rows } from '../bench.js';
import type { Bar, Chart } from '../chart/chart.js';
import { formatSpread, scaled } from '../statistics.js';
import { PACED, RULES, type Doer } from './cases.js';
import type { PpsResult } from './run.js';

export function ppsRows(results: readonly PpsResult[]): Rows {
  const rows = results.map(({ name, missing, offered, done, toC, toKernel, carried, cpuNs }) => [
    missing ? `${name}: ${missing}` : name,
    offered.max > 0 ? formatSpread(scaled(offered, 1e-6), 2) : '',
    missing ? '' : formatSpread(scaled(done, 1e-6), 2),
    toC ? formatSpread(toC, 2) : '',
    toKernel ? formatSpread(toKernel, 2) : '',
    carried ? formatSpread(scaled(carried, 100), 1) : '',
    cpuNs ? formatSpread(cpuNs, 0) : '',
  ]);
  const paced = `of ${PACED / 1000} k/s`;
  const titles = ['offered, Mpps', 'done, Mpps', 'of C', 'of XDP', `${paced}, %`, 'CPU a packet, ns'];
  return [['pps, median [min..max]', ...titles], ...rows];
}

const SERIES: readonly Doer[] = ['kernel', 'c', 'typescript', 'peer'];

/** What the modes are to those who do not know xdpsock. */
const JOBS: Readonly<Record<Mode, string>> = {
  rxdrop: 'receive and drop',
  txonly: 'send',
  l2fwd: 'send back',
  forward: 'out of another port',
  lb: 'balance load',
  filter: `${RULES} rules, the last drops`,
};

/** A group for each mode, of those that spin; the sleeping ones are in the table. */
export function ppsChart(results: readonly PpsResult[]): Chart {
  const spinning = results.filter(({ poll, missing }) => !poll && !missing);
  const bar = ({ name, mode, by, done, toC }: PpsResult): Bar => {
    const share = toC ? `${toC.median.toFixed(2)} of C` : '';
    const note = by === 'peer' ? `${name.slice(mode.length + 2)}: ${share}` : share;
    return { series: SERIES.indexOf(by), value: scaled(done, 1e-6), note };
  };
  return {
    key: '',
    title: 'One thread over AF_XDP: TypeScript, C, and what the kernel can do',
    subtitle: '64-byte UDP over veth in copy mode, one core, spinning; more is better',
    axis: 'million packets a second',
    digits: 2,
    series: [
      { name: 'XDP program in the kernel (the limit)', tone: 'limit' },
      { name: 'minimal C program on AF_XDP', tone: 'reference' },
      { name: 'sluice (TypeScript)', tone: 'ours' },
      { name: 'others', tone: 'other' },
    ],
    groups: [...new Set(spinning.map(({ mode }) => mode))].map((mode) => ({
      label: `${mode}: ${JOBS[mode]}`,
      bars: spinning.filter((one) => one.mode === mode).map(bar),
    })),
  };
}

import type { Bench, EffortName } from '../bench.js';
import { PARTS, runOffload, type OffloadEffort, type OffloadResults } from './run.js';
import { floodRows, installedRows, offloadChart, offloadRows } from './show.js';

const EFFORTS: Readonly<Record<EffortName, OffloadEffort>> = {
  full: {
    rounds: 5,
    ms: 500,
    warmMs: 200,
    flows: [64, 4096, 65_536],
    floodRounds: 5,
    floodMs: 700,
    large: true,
    slots: 2 ** 21,
  },
  quick: {
    rounds: 3,
    ms: 150,
    warmMs: 60,
    flows: [64],
    floodRounds: 3,
    floodMs: 200,
    large: false,
    slots: 2 ** 20,
  },
  smoke: {
    rounds: 1,
    ms: 60,
    warmMs: 60,
    flows: [64],
    floodRounds: 1,
    floodMs: 60,
    large: false,
    slots: 2 ** 16,
  },
};

export const offloadBench: Bench<OffloadResults> = {
  name: 'offload',
  about: 'packets a second of known flows in the kernel, beside XDP, AF_XDP in C and nftables; floods of new ones',
  needsRoot: true,
  byDefault: false,
  seconds: { full: 290, quick: 45, smoke: 15 },
  words: PARTS,
  run: ({ effort, words, say }) => runOffload(EFFORTS[effort], words, say),
  tables: ({ installed, cases, floods }) =>
    [installedRows(installed), offloadRows(cases), floodRows(floods)].filter((rows) => rows.length > 1),
  charts: ({ cases }) => (cases.length > 0 ? [offloadChart(cases)] : []),
};

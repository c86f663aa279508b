/**
 * The offload bench: packets a second of the load balancer with its flows in the kernel, beside what the kernel does at most, the balancer without, the same on AF_XDP in C, and
 * nftables; then what a flood of new flows does to it. Rounds of all cases in turn, there and back.
 */
import type { Say } from '../bench.js';
import { spread, type Spread } from '../statistics.js';
import { offloadCases, WAYS, type By, type OffloadCase } from './cases.js';
import { floods, type FloodResult } from './flood.js';
import { install, type Installed } from './install.js';
import { OffloadRig } from './rig.js';
import { trial, type OffloadTrial } from './trial.js';
import { verify } from './verify.js';

export interface OffloadEffort {
  rounds: number;
  ms: number;
  warmMs: number;
  flows: readonly number[];
  /** Of the floods. */
  floodRounds: number;
  floodMs: number;
  /** With a million flows, more than there is room for. */
  large: boolean;
  /** Of a worker's flow table. */
  slots: number;
}

export interface OffloadResult extends OffloadCase {
  rounds: OffloadTrial[];
  offered: Spread;
  done: Spread;
  senderNs: Spread;
  daemonNs: Spread;
  inKernel: Spread;
  /** Of each round: packets done as a part of those that the XDP program of the same way did, and the sender's CPU time above that, ns a packet. null for itself. */
  toLimit: Spread | null;
  aboveNs: Spread | null;
  /** The first by the sender's CPU time, where that is all there is: what it would be if nobody else had that CPU. null for what works on another CPU too. */
  toLimitByCpu: Spread | null;
  /** Of `auto`, each round: times the better of the two on AF_XDP with as many flows, and the better of nftables. null for others, and where there is none. */
  toAfXdp: Spread | null;
  toNat: Spread | null;
  toNatByCpu: Spread | null;
}

/** Parts of the bench: rates of known flows, and floods of new ones. */
export const PARTS = ['known', 'floods'] as const;
export type Part = (typeof PARTS)[number];

export interface OffloadResults {
  /** Before the rounds. */
  installed: Installed[];
  cases: OffloadResult[];
  floods: FloodResult[];
  /** Packets that were compared byte by byte. */
  compared: number;
}

/** Flows that are in the kernel where no rates are wanted: those that verify() looks at. */
const FEW = 64;

/** @throws ChildError, with nothing measured, where it cannot run, bytes differ, or packets are missing from the account */
export async function runOffload(effort: OffloadEffort, parts: ReadonlySet<string>, say: Say): Promise<OffloadResults> {
  const rig = await OffloadRig.start(effort.slots);
  try {
    const has = (part: Part): boolean => parts.has(part);
    const installed: Installed[] = [];
    let compared = 0;
    for (const way of WAYS) {
      const one = await install(rig, way, has('known') ? Math.max(...effort.flows) : FEW);
      installed.push(one);
      compared += await verify(rig, way);
      say(
        `  ${way}: ${one.flows} flows in the kernel, ${Math.round(one.perSecond)} a second, ${compared} packets the same byte by byte as without`,
      );
    }
    const cases = has('known') ? offloadCases(effort.flows) : [];
    const trials = cases.map((): OffloadTrial[] => []);
    for (let round = 0; round < effort.rounds && cases.length > 0; round++) {
      // There and back: a slow drift meets all alike.
      const order = [...cases.keys()];
      if (round % 2 === 1) order.reverse();
      for (const i of order) trials[i].push(await trial(rig, cases[i], effort.warmMs, effort.ms));
      say(`  round ${round + 1} of ${effort.rounds}: all packets accounted for`, (0.7 * (round + 1)) / effort.rounds);
    }
    const flooded = has('floods') ? await floods(rig, effort, say) : [];
    return { installed, cases: summaries(cases, trials), floods: flooded, compared };
  } finally {
    await rig.close();
  }
}

/** Of all rounds, each compared within itself. */
export function summaries(cases: readonly OffloadCase[], trials: readonly OffloadTrial[][]): OffloadResult[] {
  return cases.map((wanted, i) => {
    const rounds = trials[i];
    const of = (value: (one: OffloadTrial, round: number) => number): Spread => spread(rounds.map(value));
    const limit = cases.findIndex(({ by, way }) => by === 'xdp' && way === wanted.way);
    /** Of each round, `value` of the best of those. */
    const timesBest = (names: readonly By[], value: (one: OffloadTrial) => number): Spread | null => {
      const peers = [...cases.keys()].filter(
        (at) => names.includes(cases[at].by) && cases[at].way === wanted.way && cases[at].flows === wanted.flows,
      );
      if (wanted.by !== 'auto' || peers.length === 0) return null;
      return of((one, round) => value(one) / Math.max(...peers.map((at) => value(trials[at][round]))));
    };
    return {
      ...wanted,
      rounds,
      offered: of(({ offered }) => offered),
      done: of(({ done }) => done),
      senderNs: of(({ senderNs }) => senderNs),
      daemonNs: of(({ daemonNs }) => daemonNs),
      inKernel: of(({ inKernel }) => inKernel),
      toLimit: limit === i ? null : of(({ done }, round) => done / trials[limit][round].done),
      aboveNs: limit === i ? null : of(({ senderNs }, round) => senderNs - trials[limit][round].senderNs),
      toLimitByCpu:
        limit === i || !IN_SOFTIRQ.has(wanted.by) ? null : of((one, round) => byCpu(one) / byCpu(trials[limit][round])),
      toAfXdp: timesBest(['off', 'c'], ({ done }) => done),
      toNat: timesBest(NAT, ({ done }) => done),
      toNatByCpu: timesBest(NAT, byCpu),
    };
  });
}

const NAT: readonly By[] = ['nat', 'nat-stateless'];
/** All of their work is done on the sender's CPU. */
const IN_SOFTIRQ: ReadonlySet<By> = new Set<By>(['xdp', 'auto', ...NAT]);

/** Packets done for a second of the sender's CPU time. */
function byCpu({ done, offered, senderNs }: OffloadTrial): number {
  return ((done / offered) * 1e9) / senderNs;
}

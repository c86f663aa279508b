/**
 * The drop bench: packets a second that are dropped, by XDP_DROP, by the redirect program, by rules in the kernel and in the workers. Rounds of all cases in
 * turn; each round gives each case's ratio to XDP_DROP of the same round. After each trial all packets must be accounted for.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { LoadResult } from '../../src/generator/engine.js';
import type { Say } from '../bench.js';
import { ChildError } from '../process.js';
import { spread, type Spread } from '../statistics.js';
import { dropCases, type DropCase } from './cases.js';
import { DropRig, type ReceiverCounts } from './rig.js';

export interface DropEffort {
  rounds: number;
  /** How long each case sends in a round, ms. */
  ms: number;
  /** Workers' code is new after each change of rules: it runs this long before it is timed, ms. */
  warmMs: number;
  /** With lists and sets that take long to load. */
  large: boolean;
}

export interface DropTrial {
  /** Packets a second: made by the sender, and dropped as the case means it. */
  offered: number;
  dropped: number;
  /** CPU time of the sending thread a packet that it made, ns. The receiver's XDP runs in it. */
  senderNs: number;
  /** CPU time of the daemon a packet dropped, ns. */
  daemonNs: number;
}

export interface DropResult {
  name: string;
  /** Packets a second that were asked for; 0: as many as the sender could. */
  rate: number;
  /** Where the rule ran. */
  runs: string;
  rounds: DropTrial[];
  offered: Spread;
  dropped: Spread;
  senderNs: Spread;
  daemonNs: Spread;
  /**
   * Of each round: packets dropped as a part of those that XDP_DROP did, and the sender's time above that, ns. With a rate of its own, neither says anything.
   */
  ratio: Spread;
  aboveNs: Spread;
}

/** @throws ChildError, with nothing measured, where it cannot run or packets are missing from the account */
export async function runDrop(effort: DropEffort, say: Say): Promise<DropResult[]> {
  const rig = await DropRig.start();
  try {
    const cases = dropCases(effort.large);
    const trials = cases.map((): DropTrial[] => []);
    const runs = cases.map(() => '');
    for (let round = 0; round < effort.rounds; round++) {
      // There and back: a slow drift meets all alike.
      const order = [...cases.keys()];
      if (round % 2 === 1) order.reverse();
      for (const i of order) {
        runs[i] = await rig.apply(cases[i]);
        if (runs[i] !== 'kernel') await rig.send(cases[i], effort.warmMs);
        trials[i].push(await trial(rig, cases[i], effort.ms));
      }
      say(`round ${round + 1} of ${effort.rounds}: all packets accounted for`, (round + 1) / effort.rounds);
    }
    return cases.map(({ name, rate }, i) => ({ name, rate, runs: runs[i], ...summary(trials[i], trials[0]) }));
  } finally {
    await rig.close();
  }
}

async function trial(rig: DropRig, wanted: DropCase, durationMs: number): Promise<DropTrial> {
  const before = await rig.settled(wanted);
  const cpuBefore = rig.daemonCpuMs();
  const load = await rig.send(wanted, durationMs);
  // For what is still in the ring.
  await pause(20);
  const daemonMs = wanted.by === 'daemon' ? rig.daemonCpuMs() - cpuBefore : 0;
  const after = await rig.settled(wanted);
  const counted = difference(before, after);
  const wrong = account(wanted, load, counted);
  if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify({ load, counted })}`);
  const seconds = load.elapsedMs / 1000;
  return {
    offered: load.packets / seconds,
    dropped: counted.dropped / seconds,
    senderNs: (load.cpuMs * 1e6) / load.packets,
    daemonNs: (daemonMs * 1e6) / counted.dropped,
  };
}

function difference(before: ReceiverCounts, after: ReceiverCounts): ReceiverCounts {
  const names = Object.keys(after) as (keyof ReceiverCounts)[];
  return Object.fromEntries(names.map((name) => [name, after[name] - before[name]])) as unknown as ReceiverCounts;
}

/** What of a trial's packets is unaccounted for, or was dropped elsewhere than meant; '' when all is well. */
export function account(
  { by, offload, spare }: Pick<DropCase, 'by' | 'offload' | 'spare'>,
  load: Pick<LoadResult, 'packets' | 'sent' | 'dropped'>,
  counted: ReceiverCounts,
): string {
  if (counted.dropped === 0) return 'nothing was dropped';
  if (load.sent + load.dropped !== load.packets) return 'the interface did not get all packets that were made';
  if (counted.seen !== load.sent) return 'the receiver did not meet all packets that were sent';
  const passed = counted.seen - counted.dropped - counted.lost;
  if (passed < 0 || passed > spare) return 'packets were neither dropped by the rule nor lost on the way to it';
  if (by === 'daemon' && offload === 'off' && counted.inKernel !== 0)
    return 'rules ran in the kernel, which were meant not to';
  return '';
}

type Summary = Omit<DropResult, 'name' | 'rate' | 'runs'>;

function summary(rounds: DropTrial[], limit: readonly DropTrial[]): Summary {
  const of = (value: (trial: DropTrial, round: number) => number): Spread => spread(rounds.map(value));
  return {
    rounds,
    offered: of(({ offered }) => offered),
    dropped: of(({ dropped }) => dropped),
    senderNs: of(({ senderNs }) => senderNs),
    daemonNs: of(({ daemonNs }) => daemonNs),
    ratio: of(({ dropped }, round) => dropped / limit[round].dropped),
    aboveNs: of(({ senderNs }, round) => senderNs - limit[round].senderNs),
  };
}

/**
 * The pps bench: packets a second of `sluice bench`, of the same jobs in C, and of XDP programs, over veth pairs, all of a mode in turn. Each trial is a program of its own. After each
 * load all packets must be accounted for.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Mode } from '../../src/bench/modes.js';
import type { BenchReport } from '../../src/bench/run.js';
import type { LoadResult } from '../../src/generator/engine.js';
import type { EffortName, Say } from '../bench.js';
import { peerTrial } from '../peers/run.js';
import { ChildError } from '../process.js';
import { spread, type Spread } from '../statistics.js';
import { account, accountKernel, since } from './account.js';
import { leavesBy, PACED, ppsCases, type PpsCase } from './cases.js';
import { PpsRig, type LinkCounts, type Subject } from './rig.js';

/** Code is new in each trial: it runs this long before it is timed. */
const WARM_MS: Readonly<Record<EffortName, number>> = { full: 300, quick: 200, smoke: 60 };
/** Nothing was measured. */
const NOTHING: Spread = { median: 0, min: 0, max: 0 };

export interface PpsEffort {
  name: EffortName;
  rounds: number;
  /** How long each case is under full load in a round, ms. */
  ms: number;
}

export interface PpsTrial {
  /** Packets a second that the generator made; 0 with txonly. */
  offered: number;
  /** Packets a second of the job: dropped by it, or arrived at the peer. */
  done: number;
  /** At a rate that all carry: part of the packets for which the job was done, and CPU time of the program for each, ns. null where that was not tried. */
  paced: { carried: number; cpuNs: number } | null;
}

/** One that is `missing` has no rounds, and 0 for what it offered and did. */
export interface PpsResult extends PpsCase {
  rounds: PpsTrial[];
  offered: Spread;
  done: Spread;
  /** Of each round: packets of the job as a part of those of the C program, spinning or sleeping as this case does. null for C itself. */
  toC: Spread | null;
  /** The same to the XDP program; null where there is none. */
  toKernel: Spread | null;
  carried: Spread | null;
  cpuNs: Spread | null;
}

/** @throws ChildError, with nothing measured, where it cannot run or packets are missing from the account */
export async function runPps(effort: PpsEffort, modes: ReadonlySet<Mode>, say: Say): Promise<PpsResult[]> {
  const rig = await PpsRig.start();
  try {
    // A brief run has no time for peers.
    const cases = ppsCases(modes, effort.name !== 'full', effort.name !== 'quick');
    const trials = cases.map((): PpsTrial[] => []);
    for (let round = 0; round < effort.rounds; round++) {
      // There and back: a slow drift meets all alike.
      const order = [...cases.keys()].filter((i) => !cases[i].missing);
      if (round % 2 === 1) order.reverse();
      for (const i of order) trials[i].push(await trial(rig, cases[i], effort));
      say(`round ${round + 1} of ${effort.rounds}: all packets accounted for`, (round + 1) / effort.rounds);
    }
    return summaries(cases, trials);
  } finally {
    await rig.close();
  }
}

async function trial(rig: PpsRig, wanted: PpsCase, { ms, name }: PpsEffort): Promise<PpsTrial> {
  if (wanted.by === 'kernel') return kernelTrial(rig, wanted, ms);
  const warmMs = WARM_MS[name];
  if (wanted.peer) return peerTrial(rig, wanted, wanted.peer, { warmMs, ms, pacedMs: ms / 2 });
  if (wanted.mode === 'txonly') return sendingTrial(rig, wanted, warmMs, ms);
  const subject = await rig.subject(wanted);
  try {
    await measure(rig, wanted, subject, warmMs, 0);
    const { load, peer, did } = await measure(rig, wanted, subject, ms, 0);
    const seconds = load.elapsedMs / 1000;
    const amount = leavesBy(wanted.mode) === null ? did.dropped : peer.packets;
    // A brief run has no time for it.
    if (name === 'quick') return { offered: load.packets / seconds, done: amount / seconds, paced: null };
    const slow = await measure(rig, wanted, subject, ms / 2, PACED);
    const carried = leavesBy(wanted.mode) === null ? slow.did.dropped : slow.peer.packets;
    const paced = { carried: carried / slow.load.packets, cpuNs: (slow.did.cpuSeconds * 1e9) / carried };
    return { offered: load.packets / seconds, done: amount / seconds, paced };
  } finally {
    await subject.end();
  }
}

interface Measured {
  load: LoadResult;
  did: BenchReport;
  peer: LinkCounts;
}

/** One load, from rest to rest. @throws ChildError when a packet is missing */
async function measure(rig: PpsRig, wanted: PpsCase, subject: Subject, ms: number, rate: number): Promise<Measured> {
  // Between two loads nothing happens.
  const before = { did: subject.rest ?? (await subject.settled()), peer: rig.peer(wanted) };
  // CPU time of the load only: from one report to another that are close to its two ends.
  const first = await subject.next();
  const load = await rig.send(wanted, ms, rate);
  const last = await subject.next();
  const did = { ...since(before.did, await subject.settled()), cpuSeconds: last.cpuSeconds - first.cpuSeconds };
  const peer = since(before.peer, await rig.settledPeer(wanted));
  const wrong = account(wanted, load, did, peer);
  if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify({ load, did, peer })}`);
  return { load, did, peer };
}

async function kernelTrial(rig: PpsRig, wanted: PpsCase, ms: number): Promise<PpsTrial> {
  await rig.inKernel(wanted);
  try {
    const before = await rig.settledPeer(wanted);
    const load = await rig.send(wanted, ms, 0);
    const peer = since(before, await rig.settledPeer(wanted));
    const wrong = accountKernel(wanted, load, peer);
    if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify({ load, peer })}`);
    const seconds = load.elapsedMs / 1000;
    return { offered: load.packets / seconds, done: peer.packets / seconds, paced: null };
  } finally {
    await rig.inKernel(null);
  }
}

/** Nobody sends to it: its rate is between two of its reports, what is verified are all packets of its life. */
async function sendingTrial(rig: PpsRig, wanted: PpsCase, warmMs: number, ms: number): Promise<PpsTrial> {
  const before = await rig.settledPeer(wanted);
  const subject = await rig.subject(wanted);
  let all: BenchReport;
  let rate: number;
  try {
    await pause(warmMs);
    const from = await subject.next();
    await pause(ms);
    const to = await subject.next();
    rate = (to.tx - from.tx) / (to.seconds - from.seconds);
  } finally {
    all = await subject.end();
  }
  const peer = since(before, await rig.settledPeer(wanted));
  const wrong = account(wanted, null, all, peer);
  if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify({ all, peer })}`);
  // The interface drops what the other end has no room for.
  return { offered: 0, done: (rate * peer.packets) / all.tx, paced: null };
}

/** Of all rounds, each compared within itself. */
export function summaries(cases: readonly PpsCase[], trials: readonly PpsTrial[][]): PpsResult[] {
  return cases.map((wanted, i) => {
    const rounds = trials[i];
    const none = { toC: null, toKernel: null, carried: null, cpuNs: null };
    if (wanted.missing) return { ...wanted, rounds, offered: NOTHING, done: NOTHING, ...none };
    const ratioTo = (other: (one: PpsCase) => boolean): Spread | null => {
      const base = cases.findIndex((one) => one.mode === wanted.mode && other(one));
      if (base < 0 || base === i) return null;
      return spread(rounds.map(({ done }, round) => done / trials[base][round].done));
    };
    const paced = rounds.flatMap(({ paced: one }) => (one ? [one] : []));
    const kernel = wanted.by === 'kernel';
    return {
      ...wanted,
      rounds,
      offered: spread(rounds.map(({ offered }) => offered)),
      done: spread(rounds.map(({ done }) => done)),
      toC: kernel ? null : ratioTo(({ by, poll }) => by === 'c' && poll === wanted.poll),
      toKernel: ratioTo(({ by }) => by === 'kernel'),
      carried: paced.length > 0 ? spread(paced.map(({ carried }) => carried)) : null,
      // Spinning takes all of a CPU, whatever there is to do.
      cpuNs: paced.length > 0 && wanted.poll ? spread(paced.map(({ cpuNs }) => cpuNs)) : null,
    };
  });
}

/**
 * The workers bench: the packets a second that two threads on two queues carry, as a multiple of what one carries on one. Each trial is a process of its own, both cases in
 * turn; the rate goes up until packets are lost.
 */
import type { Say } from '../bench.js';
import { ChildError } from '../process.js';
import { spread, type Spread } from '../statistics.js';
import { QUEUES, WorkersRig, type WorkersSubject } from './rig.js';

export interface WorkersEffort {
  rounds: number;
  /** How long each rate is tried, ms. */
  ms: number;
}

export interface WorkersTrial {
  /** Packets a second that arrived, of the highest rate that was carried. */
  carried: number;
  /** CPU time of the threads for each packet at the first rate, ns, the softirqs of what they send included. */
  cpuNs: number;
}

export interface WorkersResult {
  name: string;
  queues: number;
  /** Whether generators had CPUs of their own. */
  apart: boolean;
  rounds: WorkersTrial[];
  carried: Spread;
  cpuNs: Spread;
  /** Of each round: packets a second as a multiple of those of one queue; null for that itself. */
  toOne: Spread | null;
  /** The same of CPU time a packet: 1 where threads do not stand in each other's way, whatever CPUs there are. */
  cpuToOne: Spread | null;
}

/** Code is new in each trial. */
const WARM_MS = 400;
/** Packets a second of each queue: where it begins, by which factor it goes up, and where it ends at the latest. */
const FIRST = 100_000;
const FACTOR = 1.12;
const LAST = 5_000_000;
/**
 * Part of the packets that has to arrive. Not all: a thread that is preempted for longer than its ring lasts loses some, whatever the rate, and two threads are so twice as
 * often. What counts is what arrives.
 */
const ARRIVES = 0.9;
/** Tries of each rate. */
const TRIES = 2;

/** @throws ChildError, with nothing measured, where it cannot run or packets are missing from the account */
export async function runWorkers({ rounds, ms }: WorkersEffort, say: Say): Promise<WorkersResult[]> {
  const rig = await WorkersRig.start();
  try {
    // The one queue is the last: there is less else on CPU 1 than on CPU 0.
    const cases = [[QUEUES - 1], Array.from({ length: QUEUES }, (_, queue) => queue)];
    const trials = cases.map((): WorkersTrial[] => []);
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? [0, 1] : [1, 0];
      for (const i of order) trials[i].push(await trial(rig, cases[i], ms));
      say(`round ${round + 1} of ${rounds}: all packets accounted for`, (round + 1) / rounds);
    }
    return workersResults(trials, rig.apart);
  } finally {
    await rig.close();
  }
}

async function trial(rig: WorkersRig, queues: readonly number[], ms: number): Promise<WorkersTrial> {
  const subject = await rig.subject(queues);
  try {
    await subject.carry(WARM_MS, FIRST);
    let best: WorkersTrial | null = null;
    let cpuNs = 0;
    for (let rate = FIRST; rate < LAST; rate *= FACTOR) {
      const tried: WorkersTrial | null = await tryRate(subject, ms, rate);
      if (tried === null) break;
      cpuNs ||= tried.cpuNs;
      best = { carried: tried.carried, cpuNs };
    }
    if (best === null)
      throw new ChildError(`workers: not even ${FIRST} packets a second are carried: the machine has other work`);
    return best;
  } finally {
    await subject.end();
  }
}

/** null when packets were lost each time. */
async function tryRate(subject: WorkersSubject, ms: number, rate: number): Promise<WorkersTrial | null> {
  for (let tries = 0; tries < TRIES; tries++) {
    const { made, arrived, elapsedMs, cpuSeconds } = await subject.carry(ms, rate);
    if (arrived >= ARRIVES * made)
      return { carried: arrived / (elapsedMs / 1000), cpuNs: (cpuSeconds * 1e9) / arrived };
  }
  return null;
}

/** Of trials of one queue and of all, by round. */
export function workersResults([one, all]: readonly WorkersTrial[][], apart: boolean): WorkersResult[] {
  const result = (name: string, queues: number, rounds: WorkersTrial[]): WorkersResult => {
    const ratio = (of: 'carried' | 'cpuNs'): Spread | null =>
      rounds === one ? null : spread(rounds.map((trial, round) => trial[of] / one[round][of]));
    return {
      name,
      queues,
      apart,
      rounds,
      carried: spread(rounds.map(({ carried }) => carried)),
      cpuNs: spread(rounds.map(({ cpuNs }) => cpuNs)),
      toOne: ratio('carried'),
      cpuToOne: ratio('cpuNs'),
    };
  };
  return [result('one queue, one thread', 1, one), result(`${QUEUES} queues, ${QUEUES} threads`, QUEUES, all)];
}

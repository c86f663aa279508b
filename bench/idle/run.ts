/** The idle bench: what a daemon costs that has no packets, in CPU time, context switches and memory. Each trial is a daemon of its own, all cases in turn. */
import { setTimeout as pause } from 'node:timers/promises';
import { SluiceError } from '../../src/errors.js';
import type { Say } from '../bench.js';
import { ChildError } from '../process.js';
import { spread, type Spread } from '../statistics.js';
import { idleCases, IdleRig, processMemory, processUse, type IdleCase } from './rig.js';

export interface IdleEffort {
  rounds: number;
  /** From when it is ready until it is measured, and how long it is measured, ms. */
  settleMs: number;
  ms: number;
  /** All cases; else the first, the smallest daemon and the largest. */
  all: boolean;
}

export interface IdleTrial {
  /** ns of CPU time a second, all threads. */
  cpuNs: number;
  /** Context switches a second: to sleep, and for others. */
  slept: number;
  preempted: number;
  /** Bytes. */
  rss: number;
  pss: number;
  /** Health checks a second that backends saw. */
  checks: number;
}

export interface IdleResult extends IdleCase {
  rounds: IdleTrial[];
  cpuNs: Spread;
  slept: Spread;
  preempted: Spread;
  rss: Spread;
  pss: Spread;
  checks: Spread;
}

/** @throws ChildError where it cannot run, or the daemon does not do what it should */
export async function runIdle(effort: IdleEffort, say: Say): Promise<IdleResult[]> {
  const rig = await IdleRig.start();
  try {
    const every = idleCases();
    const cases = effort.all ? every : [every[0], every[1], every[every.length - 1]];
    const trials = cases.map((): IdleTrial[] => []);
    for (let round = 0; round < effort.rounds; round++) {
      // There and back: a slow drift meets all alike.
      const order = [...cases.keys()];
      if (round % 2 === 1) order.reverse();
      for (const i of order) trials[i].push(await trial(rig, cases[i], effort));
      say(`round ${round + 1} of ${effort.rounds}`, (round + 1) / effort.rounds);
    }
    return idleResults(cases, trials);
  } catch (error) {
    // What a program that ended says of it.
    throw error instanceof SluiceError ? new ChildError(error.message) : error;
  } finally {
    await rig.close();
  }
}

async function trial(rig: IdleRig, wanted: IdleCase, { settleMs, ms }: IdleEffort): Promise<IdleTrial> {
  const { pid, end } = await rig.subject(wanted);
  try {
    await pause(settleMs);
    const before = { checks: await rig.checks(), use: processUse(pid), at: performance.now() };
    await pause(ms);
    const use = processUse(pid);
    const seconds = (performance.now() - before.at) / 1000;
    const checks = ((await rig.checks()) - before.checks) / seconds;
    if (checks > 0 !== wanted.health) {
      throw new ChildError(`${wanted.name}: backends saw ${checks.toFixed(1)} health checks a second`);
    }
    const perSecond = (name: 'cpuNs' | 'slept' | 'preempted'): number => (use[name] - before.use[name]) / seconds;
    return {
      cpuNs: perSecond('cpuNs'),
      slept: perSecond('slept'),
      preempted: perSecond('preempted'),
      ...processMemory(pid),
      checks,
    };
  } finally {
    await end();
  }
}

export function idleResults(cases: readonly IdleCase[], trials: readonly IdleTrial[][]): IdleResult[] {
  return cases.map((wanted, i) => {
    const rounds = trials[i];
    const of = (name: keyof IdleTrial): Spread => spread(rounds.map((one) => one[name]));
    return {
      ...wanted,
      rounds,
      cpuNs: of('cpuNs'),
      slept: of('slept'),
      preempted: of('preempted'),
      rss: of('rss'),
      pss: of('pss'),
      checks: of('checks'),
    };
  });
}

/**
 * The latency bench: round trips between two C programs, over kernel forwarding, XDP, a C program and sluice, all in turn, idle and beside a load of half of what each
 * carries. What is compared is of one round.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { SluiceError } from '../../src/errors.js';
import type { Say } from '../bench.js';
import { ChildError } from '../process.js';
import { spread, type Spread } from '../statistics.js';
import { LATENCY_CASES, LOADS, PROTOCOLS, type LatencyCase, type LoadLevel, type Protocol } from './cases.js';
import { LatencyRig, type RoundTrips } from './rig.js';

export interface LatencyEffort {
  rounds: number;
  /** How long messages go to and fro for each figure, s. */
  seconds: number;
  /** How long is sent at full rate to see what half of it is, and to have code compiled, ms. */
  fullMs: number;
}

/** Times in µs. */
export interface LatencyTrial extends RoundTrips {
  /** Packets a second of the load, and the part of them that arrived. */
  offered: number;
  carried: number;
}

export interface LatencyResult extends LatencyCase {
  protocol: Protocol;
  load: LoadLevel;
  rounds: LatencyTrial[];
  /** Of round trips, µs. */
  p50: Spread;
  p99: Spread;
  p999: Spread;
  max: Spread;
  /** Messages without an answer within 20 ms, as a part of all. */
  lost: Spread;
  offered: Spread;
  /** Median of the round less that of the direct way, idle: what it adds, µs. null for the direct way. */
  added: Spread | null;
  /** 99.9th percentile of the round less that of the C program, sleeping or spinning as this does, µs; null but for sluice. */
  aboveC: Spread | null;
}

type Trials = Map<string, LatencyTrial[]>;
const key = (name: string, protocol: Protocol, load: LoadLevel): string => `${name} ${protocol} ${load}`;

/** @throws ChildError where it cannot run, or messages do not come back */
export async function runLatency(effort: LatencyEffort, say: Say): Promise<LatencyResult[]> {
  const rig = await LatencyRig.start();
  try {
    const trials: Trials = new Map();
    for (let round = 0; round < effort.rounds; round++) {
      // There and back: a slow drift meets all alike.
      const order = round % 2 === 1 ? [...LATENCY_CASES].reverse() : LATENCY_CASES;
      for (const wanted of order) await trial(rig, wanted, effort, trials);
      say(`round ${round + 1} of ${effort.rounds}: all answers were right`, (round + 1) / effort.rounds);
    }
    return latencyResults(trials);
  } catch (error) {
    // What a program that ended says of it.
    throw error instanceof SluiceError ? new ChildError(error.message) : error;
  } finally {
    await rig.close();
  }
}

async function trial(rig: LatencyRig, wanted: LatencyCase, effort: LatencyEffort, trials: Trials): Promise<void> {
  const { name, way } = wanted;
  const { seconds, fullMs } = effort;
  const note = (protocol: Protocol, load: LoadLevel, { count, lost, ...ns }: RoundTrips, offered = 0, carried = 1) => {
    const [p50, p99, p999, max] = [ns.p50, ns.p99, ns.p999, ns.max].map((value) => value / 1000);
    const before = trials.get(key(name, protocol, load)) ?? [];
    trials.set(key(name, protocol, load), [...before, { count, lost, p50, p99, p999, max, offered, carried }]);
  };
  const takeAway = await rig.between(wanted);
  try {
    const carries = way === 'direct' ? 0 : await fullRate(rig, fullMs);
    for (const protocol of PROTOCOLS) note(protocol, 'idle', await rig.roundTrips(way, protocol, seconds));
    if (way === 'direct') return;
    for (const protocol of PROTOCOLS) {
      const end = await rig.load(Math.round(carries / 2));
      const trips = await rig.roundTrips(way, protocol, seconds);
      const { load, arrived } = await end();
      note(protocol, 'half', trips, (load.packets * 1000) / load.elapsedMs, arrived / load.packets);
    }
  } finally {
    await takeAway();
  }
}

/** Packets a second that arrive when as many are sent as can be made. */
async function fullRate(rig: LatencyRig, ms: number): Promise<number> {
  const end = await rig.load(0);
  await pause(ms);
  const { load, arrived } = await end();
  return (arrived * 1000) / load.elapsedMs;
}

/** Of all rounds, each compared within itself. */
export function latencyResults(trials: ReadonlyMap<string, LatencyTrial[]>): LatencyResult[] {
  const of = (name: string, protocol: Protocol, load: LoadLevel) => trials.get(key(name, protocol, load));
  const [direct] = LATENCY_CASES;
  return LOADS.flatMap((load) =>
    PROTOCOLS.flatMap((protocol) =>
      LATENCY_CASES.flatMap((wanted): LatencyResult[] => {
        const rounds = of(wanted.name, protocol, load);
        if (rounds === undefined) return [];
        const { way, sleeping } = wanted;
        const c = LATENCY_CASES.find((one) => one.way === 'c' && one.sleeping === sleeping)!;
        const base = of(direct.name, protocol, 'idle')!;
        const reference = of(c.name, protocol, load)!;
        const each = (value: (trial: LatencyTrial, round: number) => number): Spread => spread(rounds.map(value));
        return [
          {
            ...wanted,
            protocol,
            load,
            rounds,
            p50: each(({ p50 }) => p50),
            p99: each(({ p99 }) => p99),
            p999: each(({ p999 }) => p999),
            max: each(({ max }) => max),
            lost: each(({ lost, count }) => lost / (lost + count)),
            offered: each(({ offered }) => offered),
            added: way === 'direct' ? null : each(({ p50 }, round) => p50 - base[round].p50),
            aboveC: way === 'typescript' ? each(({ p999 }, round) => p999 - reference[round].p999) : null,
          },
        ];
      }),
    ),
  );
}

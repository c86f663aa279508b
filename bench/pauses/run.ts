/**
 * The pauses bench: what the garbage collector does while `sluice bench` is under full load, for a minute. A pause is time in which no packet is looked at; with nothing
 * allocated a burst there is nothing to collect.
 */
import type { BenchReport } from '../../src/bench/run.js';
import type { Say } from '../bench.js';
import { ChildError } from '../process.js';
import { account, since } from '../pps/account.js';
import { ppsCases, type PpsCase } from '../pps/cases.js';
import { PpsRig } from '../pps/rig.js';

/** Packets that a job takes at a time at most: the default of `sluice bench`. */
const BURST = 64;

export interface PausesEffort {
  /** Full load before it counts, which has the code compiled, and while it does, ms. */
  warmMs: number;
  ms: number;
}

export interface PausesResult {
  name: string;
  /** Under load, s, and packets received a second. */
  seconds: number;
  received: number;
  /** Runs of the collector, what they took together, and the most that they took between two reports (50 ms), ms: no pause was longer. */
  count: number;
  totalMs: number;
  maxMs: number;
  /**
   * By how much V8's heap in use grew for each 64 packets, bytes, between reports without a collection in between. Reports themselves are in it, as is the turn that
   * the event loop gets every 100 ms. The smallest object has 16 bytes.
   */
  bytesPerBurst: number;
}

/** @throws ChildError where it cannot run, or packets are missing from the account */
export async function runPauses(effort: PausesEffort, say: Say): Promise<PausesResult[]> {
  const rig = await PpsRig.start();
  try {
    const modes = new Set(['rxdrop', 'l2fwd', 'forward', 'lb', 'filter'] as const);
    const cases = ppsCases(modes, true).filter(({ by }) => by === 'typescript');
    const results: PausesResult[] = [];
    for (const wanted of cases) {
      results.push(await trial(rig, wanted, effort));
      say(`${wanted.name}: all packets accounted for`, results.length / cases.length);
    }
    return results;
  } finally {
    await rig.close();
  }
}

async function trial(rig: PpsRig, wanted: PpsCase, { warmMs, ms }: PausesEffort): Promise<PausesResult> {
  const subject = await rig.subject(wanted);
  try {
    await rig.send(wanted, warmMs, 0);
    const before = { did: await subject.settled(), peer: await rig.settledPeer(wanted) };
    const reports: BenchReport[] = [];
    subject.onReport = (report) => reports.push(report);
    const load = await rig.send(wanted, ms, 0);
    subject.onReport = null;
    const did = since(before.did, await subject.settled());
    const peer = since(before.peer, await rig.settledPeer(wanted));
    const wrong = account(wanted, load, did, peer);
    if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify({ load, did, peer })}`);
    return pausesOf(wanted.name, reports);
  } finally {
    await subject.end();
  }
}

/** What reports of one run say, from the first to the last. @throws ChildError when there are fewer than two */
export function pausesOf(name: string, reports: readonly BenchReport[]): PausesResult {
  const [first, last] = [reports[0], reports.at(-1)];
  if (reports.length < 2 || !first.gc || !last?.gc) throw new ChildError(`${name}: no reports to compare`);
  let maxMs = 0;
  let grown = 0;
  let packets = 0;
  for (let i = 1; i < reports.length; i++) {
    const [from, to] = [reports[i - 1], reports[i]];
    maxMs = Math.max(maxMs, to.gc!.totalMs - from.gc!.totalMs);
    if (to.gc!.count !== from.gc!.count) continue;
    grown += to.gc!.heapBytes - from.gc!.heapBytes;
    packets += to.rx - from.rx;
  }
  const seconds = last.seconds - first.seconds;
  return {
    name,
    seconds,
    received: (last.rx - first.rx) / seconds,
    count: last.gc.count - first.gc.count,
    totalMs: last.gc.totalMs - first.gc.totalMs,
    maxMs,
    bytesPerBurst: packets === 0 ? 0 : (grown * BURST) / packets,
  };
}

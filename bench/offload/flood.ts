/**
 * What a flood does to `auto` beside `off`: at most the look-up that misses. Flows of which each has one packet, the same while good flows are in the kernel, flows of just so many
 * packets that each is put there, and more flows than there is room for.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Say } from '../bench.js';
import { ChildError } from '../process.js';
import { spread, type Spread } from '../statistics.js';
import { accountDaemon, since } from './account.js';
import { STRANGERS, STRANGERS_FLOWS } from './cases.js';
import type { DaemonCounts } from './daemon.js';
import { install } from './install.js';
import type { OffloadRig } from './rig.js';
import type { OffloadEffort } from './run.js';
import type { SenderResult } from './sender.js';

/** Established flows, and packets of theirs a second, in the flood. They go back, the flood goes through: two interfaces count them apart. */
const GOOD_FLOWS = 64;
const GOOD_RATE = 50_000;
/** Flows of a wave, packets of each, packets a second: more offers than are taken. */
const WAVE = 2048;
const WAVE_PACKETS = 24;
const WAVE_RATE = 500_000;
const MILLION = 1_048_576;

export interface FloodCase {
  name: string;
  kind: 'one packet each' | 'with good flows' | 'waves' | 'a million';
  by: 'auto' | 'off';
}

export interface FloodTrial {
  /** Packets of the flood a second: made, and arrived. */
  offered: number;
  done: number;
  senderNs: number;
  /** CPU time of the daemon a packet that arrived, ns, and as a part of a CPU. */
  daemonNs: number;
  daemonCpus: number;
  /** Flows that were put into the kernel, a second, and offers that were refused. */
  installed: number;
  refused: number;
  /** Part of all packets, good ones too, that the kernel sent on. */
  inKernel: number;
  /** Part of the good flows' packets that did not arrive; null where there are none. */
  goodLost: number | null;
}

export interface FloodResult extends FloodCase {
  rounds: FloodTrial[];
  offered: Spread;
  done: Spread;
  senderNs: Spread;
  daemonNs: Spread;
  daemonCpus: Spread;
  installed: Spread;
  refused: Spread;
  inKernel: Spread;
  goodLost: Spread | null;
  /** Of `auto`, each round: packets done, and the sender's CPU time a packet, as a part of those of `off`. */
  toOff: Spread | null;
  senderToOff: Spread | null;
  /** The second as a difference, ns a packet. */
  aboveOffNs: Spread | null;
}

/** What the daemon, the ends of both ways and the sending interface have counted. */
export interface FloodCounts extends DaemonCounts {
  throughPackets: number;
  backPackets: number;
  txDropped: number;
  sent: number;
  notSent: number;
}

/** What of the packets is unaccounted for; '' when all is well. `packets`: made by both senders, whose interface cannot tell them apart. */
export function accountFlood(by: 'auto' | 'off', packets: number, did: FloodCounts): string {
  const wrong = accountDaemon(by, { packets, sent: did.sent, dropped: did.notSent }, did);
  if (wrong !== '') return wrong;
  if (did.sent + did.notSent !== packets) return 'the interface did not get all packets that were made';
  const arrived = did.throughPackets + did.backPackets;
  return arrived + did.txDropped + did.dropped === did.rx
    ? ''
    : 'packets left that neither arrived nor were dropped by an interface';
}

/** Each trial of strangers has new ones. */
let sourcePort = 1024;

export async function floods(rig: OffloadRig, effort: OffloadEffort, say: Say): Promise<FloodResult[]> {
  const kinds: FloodCase['kind'][] = ['one packet each', 'with good flows', 'waves'];
  // Last: it pushes out what is there.
  if (effort.large) kinds.push('a million');
  const results: FloodResult[] = [];
  for (const [at, kind] of kinds.entries()) {
    const cases = (['off', 'auto'] as const).map((by): FloodCase => ({ name: `${kind}: sluice, ${by}`, kind, by }));
    const trials: FloodTrial[][] = [[], []];
    for (let round = 0; round < effort.floodRounds; round++) {
      for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) trials[i].push(await flood(rig, cases[i], effort));
    }
    results.push(...floodSummaries(cases, trials));
    say(`  flood, ${kind}: all packets accounted for`, 0.7 + (0.3 * (at + 1)) / kinds.length);
  }
  return results;
}

/** A flood of strangers, by the kind. */
function load(rig: OffloadRig, { kind, by }: FloodCase, durationMs: number): Promise<SenderResult> {
  switch (kind) {
    case 'one packet each':
    case 'with good flows':
      return rig.send(by, 'through', {
        source: STRANGERS,
        flows: STRANGERS_FLOWS,
        sourcePort: sourcePort++,
        durationMs,
      });
    case 'waves': {
      const loads = Math.ceil((durationMs * WAVE_RATE) / 1000 / (WAVE * WAVE_PACKETS));
      const packets = WAVE * WAVE_PACKETS;
      const answer = rig.send(by, 'through', { source: STRANGERS, flows: WAVE, sourcePort, packets, packetsPerSecond: WAVE_RATE, loads, durationMs }); // prettier-ignore
      sourcePort += loads;
      return answer;
    }
    case 'a million':
      return rig.send(by, 'through', { flows: MILLION, pick: 'random', durationMs });
  }
}

async function flood(rig: OffloadRig, wanted: FloodCase, { floodMs }: OffloadEffort): Promise<FloodTrial> {
  const { kind, by } = wanted;
  const daemon = rig.daemons[by];
  const hasGood = kind === 'with good flows';
  if (hasGood && by === 'auto') await install(rig, 'back', GOOD_FLOWS);
  // What is to be known of a million flows is known then.
  if (kind === 'a million') await load(rig, wanted, floodMs);
  const before = await countsOf(rig, by);
  const cpuBefore = daemon.cpuNs();
  const startedMs = performance.now();
  const options = { flows: GOOD_FLOWS, packetsPerSecond: GOOD_RATE, durationMs: floodMs };
  const good = hasGood ? rig.send(by, 'back', options, 1) : null;
  const bad = await load(rig, wanted, floodMs);
  const goodPackets = good === null ? 0 : (await good).packets;
  await pause(20);
  const elapsedMs = performance.now() - startedMs;
  const cpuNs = daemon.cpuNs() - cpuBefore;
  const did = since(before, await countsOf(rig, by));
  const wrong = accountFlood(by, bad.packets + goodPackets, did);
  if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify({ bad, goodPackets, did })}`);
  const seconds = bad.elapsedMs / 1000;
  return {
    offered: bad.packets / seconds,
    done: did.throughPackets / seconds,
    senderNs: (bad.cpuMs * 1e6) / bad.packets,
    daemonNs: cpuNs / (did.throughPackets + did.backPackets),
    daemonCpus: cpuNs / 1e6 / elapsedMs,
    installed: (did.installed * 1000) / elapsedMs,
    refused: (did.refused * 1000) / elapsedMs,
    inKernel: (did.rx - did.inWorkers) / did.sent,
    goodLost: good === null ? null : 1 - did.backPackets / goodPackets,
  };
}

/** All that is counted of both ways. */
async function countsOf(rig: OffloadRig, by: 'auto' | 'off'): Promise<FloodCounts> {
  const daemon = rig.daemons[by];
  const through = await daemon.settled('through');
  const back = await daemon.settled('back');
  const peers = { through: await rig.settledPeer(by, 'through'), back: await rig.settledPeer(by, 'back') };
  return {
    ...back,
    service: through.service + back.service,
    backends: through.backends + back.backends,
    throughPackets: peers.through.packets,
    backPackets: peers.back.packets,
    txDropped: peers.through.txDropped + peers.back.txDropped,
    ...rig.places[by].generated(),
  };
}

export function floodSummaries(cases: readonly FloodCase[], trials: readonly FloodTrial[][]): FloodResult[] {
  return cases.map((wanted, i) => {
    const rounds = trials[i];
    const of = (value: (one: FloodTrial, round: number) => number): Spread => spread(rounds.map(value));
    const hasGood = rounds[0].goodLost !== null;
    const isAuto = wanted.by === 'auto';
    return {
      ...wanted,
      rounds,
      offered: of(({ offered }) => offered),
      done: of(({ done }) => done),
      senderNs: of(({ senderNs }) => senderNs),
      daemonNs: of(({ daemonNs }) => daemonNs),
      daemonCpus: of(({ daemonCpus }) => daemonCpus),
      installed: of(({ installed }) => installed),
      refused: of(({ refused }) => refused),
      inKernel: of(({ inKernel }) => inKernel),
      goodLost: hasGood ? of(({ goodLost }) => goodLost ?? 0) : null,
      toOff: isAuto ? of(({ done }, round) => done / trials[0][round].done) : null,
      aboveOffNs: isAuto ? of(({ senderNs }, round) => senderNs - trials[0][round].senderNs) : null,
      senderToOff: isAuto ? of(({ senderNs }, round) => senderNs / trials[0][round].senderNs) : null,
    };
  });
}

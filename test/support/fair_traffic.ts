/** Traffic of many sources in simulated time, judged packet by packet. */
import type { FairShare } from '../../src/dataplane/mitigate/fair_share.js';
import { LimitVerdict } from '../../src/dataplane/mitigate/limit_verdict.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { random } from './packets.js';

export interface Source {
  label: string;
  packet: Packet;
  /** Time to the next packet, ms. */
  times: () => number;
  /** Makes the next packet another one. */
  change?: (packet: Packet) => void;
}

/** Evenly, `perSecond` packets. */
export function steady(perSecond: number): () => number {
  return () => 1000 / perSecond;
}

/** By chance, `perSecond` packets in the mean. */
export function poisson(perSecond: number, seed: number): () => number {
  const next = random(seed);
  return () => (-Math.log(1 - next()) * 1000) / perSecond;
}

export interface PlayOptions {
  seconds: number;
  /** Seconds at the start that are not counted. */
  warmUp: number;
  /** Resolution of the clock, ms. */
  tick: number;
  startMs?: number;
}

export interface Played {
  /** Part of a label's packets that got through. */
  share(label: string): number;
  /** What of a label got through, packets a second. */
  rate(label: string): number;
  /** All that got through, packets and bytes a second. */
  total: number;
  totalBytes: number;
}

/** Plays all sources to one judge, or each to the one that it goes to. */
export function play(
  judges: FairShare | ((source: Source, index: number) => FairShare),
  sources: readonly Source[],
  { seconds, warmUp, tick, startMs = 0 }: PlayOptions,
): Played {
  const judgeOf = sources.map((source, i) => (typeof judges === 'function' ? judges(source, i) : judges));
  // Buckets of one millisecond; within one, sorted.
  const buckets: [number, number][][] = Array.from({ length: seconds * 1000 }, () => []);
  sources.forEach(({ times }, i) => {
    for (let at = times(); at < seconds * 1000; at += times()) buckets[Math.floor(at)].push([at, i]);
  });
  const offered = new Map<string, number>();
  const passed = new Map<string, number>();
  let packets = 0;
  let bytes = 0;
  for (const bucket of buckets) {
    bucket.sort((a, b) => a[0] - b[0]);
    for (const [at, i] of bucket) {
      const { label, packet, change } = sources[i];
      change?.(packet);
      const time = Math.floor(at / tick) * tick + startMs;
      const within = judgeOf[i].judge(packet, time > 0x7fffffff ? time - 4294967296 : time) === LimitVerdict.within;
      if (at < warmUp * 1000) continue;
      offered.set(label, (offered.get(label) ?? 0) + 1);
      if (!within) continue;
      passed.set(label, (passed.get(label) ?? 0) + 1);
      packets++;
      bytes += packet.l3Length;
    }
  }
  const counted = seconds - warmUp;
  return {
    share: (label) => (passed.get(label) ?? 0) / (offered.get(label) ?? 1),
    rate: (label) => (passed.get(label) ?? 0) / counted,
    total: packets / counted,
    totalBytes: bytes / counted,
  };
}

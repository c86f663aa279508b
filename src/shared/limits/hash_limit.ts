/**
 * hashlimit: how many packets or bytes a second come from, or go to, each address, prefix or port. Semantics of xt_hashlimit revision 3
 * (net/netfilter/xt_hashlimit.c of Linux 6.18; iptables-extensions(8)) and of the options as iptables 1.8 hands them down.
 */
import { SluiceError } from '../../errors.js';
import { allocateTable, MAX_TABLE_ENTRIES } from './key_table.js';
import type { Rate } from './rate.js';

/** Parts of the packet that make the key. */
export const enum HashLimitMode {
  srcip = 1,
  srcport = 2,
  dstip = 4,
  dstport = 8,
}

export interface HashLimitSpec {
  rate: Rate;
  /** The rule matches packets up to the rate, or those above it. */
  direction: 'upto' | 'above';
  /**
   * Packets that may come at once (default 5); with a rate in bytes, bytes above the rate that a key may have once in the life of its
   * entry (default none).
   */
  burst?: number;
  /** HashLimitMode bits; 0: one key for all packets. */
  mode: number;
  /** Prefix lengths that addresses are cut to. Default: whole addresses. */
  srcMask4?: number;
  srcMask6?: number;
  dstMask4?: number;
  dstMask6?: number;
  /** Buckets; here it only sets what `htableMax` may be. Default 8192. */
  htableSize?: number;
  /** Most keys. Default 8 times `htableSize`, never less than `htableSize`. */
  htableMax?: number;
  /** Idle time after which a key is forgotten, ms. Default: the rate's own unit; 15 s for bytes, 60 s for bytes with a burst. */
  htableExpireMs?: number;
  /** How often keys are forgotten, ms. Default 1000. */
  htableGcIntervalMs?: number;
  /** Judges whether the rate over `rateInterval` seconds was above, instead of keeping it there. */
  rateMatch?: boolean;
  /** Seconds, default 1. */
  rateInterval?: number;
}

/** What the data plane computes with. All numbers; cloned to the workers with the table. */
export interface HashLimitRun {
  mode: number;
  srcMask4: number;
  srcMask6: number;
  dstMask4: number;
  dstMask6: number;
  bytes: boolean;
  rateMatch: boolean;
  /** Credit a new key has, most it can have, what it gains a millisecond and what a packet (or 16 bytes) costs. */
  start: number;
  cap: number;
  gainPerMs: number;
  cost: number;
  /** Bytes: times that an empty credit is filled up again. */
  refills: number;
  /** Rate match: units in an interval, most that a running interval may have, its length in ms. */
  ratePerInterval: number;
  intervalMost: number;
  intervalMs: number;
  expireMs: number;
  gcIntervalMs: number;
}

export interface HashLimitShared {
  run: HashLimitRun;
  table: SharedArrayBuffer;
}

/** iptables hands down the time between two packets in 1/SCALE s (XT_HASHLIMIT_SCALE_v2), cut to an integer. */
const SCALE = 1_000_000;

/** Credit of packets counts in those times. The kernel's own has 250 · 2^39 credits a second and cuts user2credits' quotient. */
export const CREDITS_PER_SECOND = 250 * 2 ** 39;
export const CREDITS_PER_UNIT = Math.floor(CREDITS_PER_SECOND / SCALE);

/** Bytes: what HZ · CREDITS_PER_JIFFY_BYTES comes to at 250 and 1000 Hz. */
const BYTE_CREDITS_PER_SECOND = 250 * 2 ** 24;
const U32 = 0xffffffff;
/** Bytes are charged in steps of 16 (XT_HASHLIMIT_BYTE_SHIFT), one more than there are full ones. */
export const BYTE_SHIFT = 4;

/** Longest life of an idle key, ms: differences of the wrapping clock stay clear of its sign. */
const MAX_LIFE_MS = 2 ** 30;
const BURST_MOST = 1_000_000;

export const HASH_LIMIT_STRIDE = 16;

/** Makes the table that all workers share. Throws SluiceError when the spec cannot be met. */
export function allocateHashLimit(spec: HashLimitSpec): HashLimitShared {
  const size = spec.htableSize ?? 8192;
  const max = Math.max(spec.htableMax ?? 8 * size, size);
  if (size < 1 || max > MAX_TABLE_ENTRIES) {
    throw refuse(`a table of ${max} keys`, `htable-max goes from 1 to ${MAX_TABLE_ENTRIES}.`);
  }
  return { run: runOf(spec), table: allocateTable(max, HASH_LIMIT_STRIDE) };
}

/** The spec in credits. Throws SluiceError as allocateHashLimit() does. */
export function runOf(spec: HashLimitSpec): HashLimitRun {
  const { rate } = spec;
  const gcIntervalMs = spec.htableGcIntervalMs ?? 1000;
  const bytes = rate.unit === 'bytes';
  const byteExpire = spec.burst === undefined ? 15_000 : 60_000;
  const expireMs = spec.htableExpireMs ?? (bytes ? byteExpire : rate.seconds * 1000);
  const interval = spec.rateInterval ?? 1;
  if (gcIntervalMs < 1 || expireMs < 1 || gcIntervalMs + expireMs > MAX_LIFE_MS) {
    throw refuse(
      `a life of ${expireMs} ms, looked at every ${gcIntervalMs} ms`,
      `Both together are at most ${MAX_LIFE_MS} ms.`,
    );
  }
  if (interval < 1 || interval * 1000 > MAX_LIFE_MS)
    throw refuse(`an interval of ${interval} s`, 'It is at least 1 s.');
  return {
    mode: spec.mode,
    srcMask4: mask(spec.srcMask4, 32),
    srcMask6: mask(spec.srcMask6, 128),
    dstMask4: mask(spec.dstMask4, 32),
    dstMask6: mask(spec.dstMask6, 128),
    bytes,
    rateMatch: spec.rateMatch ?? false,
    ...(bytes ? byteCredits(rate.amount, spec.burst) : packetCredits(rate, spec.burst)),
    intervalMs: interval * 1000,
    expireMs,
    gcIntervalMs,
  };
}

type Credits = Pick<
  HashLimitRun,
  'start' | 'cap' | 'gainPerMs' | 'cost' | 'refills' | 'ratePerInterval' | 'intervalMost'
>;

function packetCredits({ amount, seconds }: Rate, burst = 5): Credits {
  const unit = Math.floor((SCALE * seconds) / amount);
  if (unit === 0) throw refuse(`${amount} packets in ${seconds} s`, `The fastest is ${SCALE} packets a second.`);
  if (!Number.isInteger(burst) || burst < 1 || burst > BURST_MOST) {
    throw refuse(`a burst of ${burst}`, `A burst has 1 to ${BURST_MOST} packets.`);
  }
  const perSecond = Math.floor(SCALE / unit);
  return {
    start: unit * burst,
    cap: unit * burst,
    gainPerMs: CREDITS_PER_SECOND / CREDITS_PER_UNIT / 1000,
    cost: unit,
    refills: 0,
    ratePerInterval: perSecond,
    intervalMost: perSecond + burst,
  };
}

function byteCredits(amount: number, burst: number | undefined): Credits {
  // libxt_hashlimit's bytes_to_cost() and cost_to_bytes(): a rate comes back a little different.
  const steps = Math.floor(U32 / (Math.floor(amount / 2 ** BYTE_SHIFT) + 1));
  const cost = Number((BigInt(steps) * BigInt(BYTE_CREDITS_PER_SECOND)) >> 32n);
  if (steps === 0 || cost === 0) throw refuse(`${amount} bytes a second`, 'The fastest is 10 GB/s.');
  const perSecond = (Math.floor(U32 / steps) - 1) * 2 ** BYTE_SHIFT;
  if (burst !== undefined && burst < perSecond) {
    throw refuse(`a burst of ${burst} bytes`, `With this rate it is at least ${perSecond} bytes.`);
  }
  const refills = burst === undefined ? 0 : Math.ceil(burst / Math.max(perSecond, 1));
  return {
    start: BYTE_CREDITS_PER_SECOND,
    cap: BYTE_CREDITS_PER_SECOND,
    gainPerMs: BYTE_CREDITS_PER_SECOND / 1000,
    cost,
    refills,
    ratePerInterval: perSecond,
    intervalMost: refills === 0 ? perSecond : refills * perSecond,
  };
}

function mask(length: number | undefined, most: number): number {
  const value = length ?? most;
  if (!Number.isInteger(value) || value < 0 || value > most) {
    throw refuse(`a prefix of ${value} bits`, `It has 0 to ${most} bits.`);
  }
  return value;
}

function refuse(what: string, remedy: string): SluiceError {
  return new SluiceError('SLUICE_CONFIG', `hashlimit cannot have ${what}`, remedy);
}

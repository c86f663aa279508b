/** A rule as a configuration writes it: what `parseConfig` makes the same rule of. */
import { formatPrefix } from '../../shared/addr.js';
import type { DnsMatchConfig, PortRange, RuleConfig, RuleLimitConfig, RuleMatchConfig } from '../../shared/config.js';
import { formatRate } from '../../shared/limits/rate.js';
import { protocolName } from '../config/protocols.js';

export type RuleDocument = { name: string; match: Record<string, unknown>; action: string } & Record<string, unknown>;

/** The keys of a rule, snake_case, without those that have their default. */
export function ruleDocument(rule: RuleConfig): RuleDocument {
  const { name, match, action, mode, probability, ttl, sample, limit } = rule;
  const document: RuleDocument = { name, match: matchDocument(match), action };
  if (mode === 'shadow') document.mode = mode;
  if (probability !== undefined) document.probability = probability;
  if (ttl !== undefined) document.ttl = ttlText(ttl);
  if (sample !== undefined) {
    const { oneIn, first, snaplen } = sample;
    document.sample = { ...(oneIn > 0 ? { one_in: oneIn } : {}), ...(first > 0 ? { first } : {}), snaplen };
  }
  if (limit !== undefined) document.limit = limitDocument(limit);
  return document;
}

/** Keys of a limit that are numbers. */
const LIMIT_KEYS: Readonly<Record<string, string>> = {
  burst: 'burst',
  srcMask4: 'src_mask',
  srcMask6: 'src_mask6',
  dstMask4: 'dst_mask',
  dstMask6: 'dst_mask6',
  max: 'max',
};

function limitDocument(limit: RuleLimitConfig): Record<string, unknown> {
  const numbers = Object.entries(limit).flatMap(([key, value]) =>
    Object.hasOwn(LIMIT_KEYS, key) ? [[LIMIT_KEYS[key], value]] : [],
  );
  return { rate: formatRate(limit.rate), per: [...limit.per], ...Object.fromEntries(numbers) };
}

function matchDocument(match: RuleMatchConfig): Record<string, unknown> {
  const { family, protocol, src, dst, sport, dport, tcpFlags, length, ttl, fragment, program, sets } = match;
  const document: Record<string, unknown> = {
    family,
    // tcp_flags says it already.
    protocol: protocol === undefined || tcpFlags !== undefined ? undefined : protocolValue(protocol),
    src: each(src, formatPrefix),
    dst: each(dst, formatPrefix),
    sport: each(sport, rangeValue),
    dport: each(dport, rangeValue),
    tcp_flags: tcpFlags && flagsText(tcpFlags),
    length: length && rangeValue(length),
    ttl: ttl && rangeValue(ttl),
    fragment,
    set: sets && each([...sets], ({ name, key }) => ({ name, key })),
  };
  if (program?.dns !== undefined) document.dns = dnsDocument(program.dns);
  else if (program !== undefined) document[program.kind] = program.text;
  for (const key of Object.keys(document)) if (document[key] === undefined) delete document[key];
  return document;
}

function dnsDocument({ names, ...rest }: DnsMatchConfig): unknown {
  const one = names?.length === 1 ? names[0] : names;
  return Object.keys(rest).length === 0 ? one : { ...(one === undefined ? {} : { names: one }), ...rest };
}

function protocolValue(protocol: number): string | number {
  const name = protocolName(protocol);
  return /^\d/.test(name) ? protocol : name;
}

function each<T extends object, U>(value: T | readonly T[] | undefined, write: (one: T) => U): U | U[] | undefined {
  if (value === undefined) return undefined;
  return Array.isArray(value) ? (value as readonly T[]).map(write) : write(value as T);
}

function rangeValue({ first, last }: PortRange): number | string {
  return first === last ? first : `${first}-${last}`;
}

const FLAGS = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr'];

function flagsText({ mask, value }: { mask: number; value: number }): string {
  if (mask === 255 && value === 0) return 'none';
  return FLAGS.flatMap((flag, bit) =>
    (mask & (1 << bit)) === 0 ? [] : [(value & (1 << bit)) === 0 ? `!${flag}` : flag],
  ).join(',');
}

/** "10m" for 600. */
export function ttlText(seconds: number): string {
  for (const [unit, size] of [
    ['d', 86400],
    ['h', 3600],
    ['m', 60],
  ] as const) {
    if (seconds % size === 0) return `${seconds / size}${unit}`;
  }
  return `${seconds}s`;
}

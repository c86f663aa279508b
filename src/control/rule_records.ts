/** Writes the rule table, as `RuleField` in shared/rule_layout.ts says. */
import { SluiceError } from '../errors.js';
import { maskWords } from '../shared/addr.js';
import type { PortRange, Prefix, RuleConfig } from '../shared/config.js';
import { MAX_RULE_RECORDS, RuleAction, RuleField, RuleFlag, RuleMatch } from '../shared/layout.js';

const ACTIONS = {
  drop: RuleAction.drop,
  pass: RuleAction.pass,
  count: RuleAction.count,
  sample: RuleAction.sample,
  limit: RuleAction.limit,
  challenge: RuleAction.challenge,
} as const;

/** Positions of what a rule refers to; -1, and a run of 0 sets, where it refers to nothing. */
export interface RuleReferences {
  /** Number that its counters have. */
  id: number;
  program: number;
  setStart: number;
  setCount: number;
  limit: number;
  sample: number;
  /** RuleField.decided. */
  decided: number;
}

/** One combination of what a rule's lists say. */
interface Combination {
  family: 4 | 6 | undefined;
  src: Prefix | undefined;
  dst: Prefix | undefined;
  sport: PortRange | undefined;
  dport: PortRange | undefined;
}

/**
 * The table of these rules: a record for each combination of a rule's lists, in the order of the rules.
 *
 * @throws SluiceError SLUICE_CONFIG for a rule that no packet can match (prefixes of two families, or not of the family asked for), and for more
 *   records than MAX_RULE_RECORDS
 */
export function buildRecords(
  rules: readonly RuleConfig[],
  referencesOf: (rule: RuleConfig) => RuleReferences,
): Int32Array {
  const combined = rules.map((rule) => ({ rule, combinations: combinationsOf(rule) }));
  const count = combined.reduce((sum, { combinations }) => sum + combinations.length, 0);
  if (count > MAX_RULE_RECORDS) throw tooMany(rules.length, count);
  const words = new Int32Array(RuleField.HEADER + count * RuleField.STRIDE);
  words[0] = count;
  let at: number = RuleField.HEADER;
  for (const { rule, combinations } of combined) {
    const references = referencesOf(rule);
    for (const combination of combinations) {
      writeMatch(words, at, rule, combination, references);
      writeAction(words, at, rule, references);
      at += RuleField.STRIDE;
    }
  }
  return words;
}

function tooMany(rules: number, records: number): SluiceError {
  return new SluiceError(
    'SLUICE_CONFIG',
    `the lists of ${rules} rules make ${records} combinations, the limit is ${MAX_RULE_RECORDS}`,
    'Put long lists of addresses into a set.',
  );
}

function listed<T extends object>(value: T | readonly T[] | undefined): readonly (T | undefined)[] {
  if (value === undefined) return [undefined];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

function combinationsOf(rule: RuleConfig): Combination[] {
  const { match } = rule;
  const sports = listed(match.sport);
  const dports = listed(match.dport);
  const combinations: Combination[] = [];
  let pairs = 0;
  for (const src of listed(match.src)) {
    for (const dst of listed(match.dst)) {
      pairs++;
      const families = [match.family, src?.family, dst?.family].filter((family) => family !== undefined);
      if (families.some((family) => family !== families[0])) continue;
      // Not to fill the memory with what is refused anyway.
      if (combinations.length + sports.length * dports.length > MAX_RULE_RECORDS) {
        throw tooMany(1, combinations.length + sports.length * dports.length);
      }
      for (const sport of sports)
        for (const dport of dports) combinations.push({ family: families[0], src, dst, sport, dport });
    }
  }
  if (combinations.length === 0) {
    const message =
      pairs === 0 || sports.length === 0 || dports.length === 0
        ? `rule ${rule.name} has an empty list: no packet matches it`
        : `rule ${rule.name} asks for IPv4 and IPv6 at once: no packet is both`;
    throw new SluiceError('SLUICE_CONFIG', message, 'Write one rule for each family.');
  }
  return combinations;
}

function writeMatch(
  words: Int32Array,
  at: number,
  { match }: RuleConfig,
  { family, src, dst, sport, dport }: Combination,
  { program, setStart, setCount }: RuleReferences,
): void {
  const { protocol, tcpFlags, length, ttl, fragment } = match;
  let fields = 0;
  const write = (bit: RuleMatch, first: number, ...values: number[]): void => {
    fields |= bit;
    words.set(values, at + first);
  };
  const range = (bit: RuleMatch, first: number, value: PortRange | undefined): void => {
    if (value) write(bit, first, value.first, value.last);
  };
  // IPv4 in word 0 looks like the start of an IPv6 address, so a prefix says nothing without its family.
  if (family !== undefined) write(RuleMatch.family, RuleField.family, family);
  if (protocol !== undefined) write(RuleMatch.protocol, RuleField.protocol, protocol);
  if (src) write(RuleMatch.src, RuleField.src0, ...prefixWords(src));
  if (dst) write(RuleMatch.dst, RuleField.dst0, ...prefixWords(dst));
  range(RuleMatch.sport, RuleField.sportFirst, sport);
  range(RuleMatch.dport, RuleField.dportFirst, dport);
  if (tcpFlags) write(RuleMatch.tcpFlags, RuleField.tcpMask, tcpFlags.mask, tcpFlags.value);
  range(RuleMatch.length, RuleField.lengthFirst, length);
  range(RuleMatch.ttl, RuleField.ttlFirst, ttl);
  if (fragment !== undefined) write(RuleMatch.fragment, RuleField.fragment, fragment ? 1 : 0);
  words.set([program, setStart, setCount], at + RuleField.program);
  if (program >= 0) fields |= RuleMatch.program;
  if (setCount > 0) fields |= RuleMatch.sets;
  words[at + RuleField.fields] = fields;
}

/** Four words of address, four of mask. */
function prefixWords(prefix: Prefix): number[] {
  const masks = maskWords(prefix.length);
  return [...prefix.words.map((word, i) => word & masks[i]), ...masks];
}

function writeAction(words: Int32Array, at: number, rule: RuleConfig, references: RuleReferences): void {
  words[at + RuleField.action] = ACTIONS[rule.action];
  words[at + RuleField.id] = references.id;
  words[at + RuleField.flags] = rule.mode === 'shadow' ? RuleFlag.shadow : 0;
  words[at + RuleField.threshold] = thresholdOf(rule.probability ?? 1);
  words[at + RuleField.limit] = references.limit;
  words[at + RuleField.sample] = references.sample;
  words[at + RuleField.decided] = references.decided;
}

/** 0 stands for "always", so the smallest share is one in 2^32. */
function thresholdOf(probability: number): number {
  if (probability >= 1) return 0;
  return Math.max(1, Math.round(probability * 2 ** 32)) | 0;
}

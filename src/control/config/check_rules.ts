/** What rules must satisfy beyond the values of single keys. */
import { MAX_RULE_RECORDS } from '../../shared/layout.js';
import { checkRate } from './check_rate.js';
import type { Findings } from './findings.js';
import type { Path } from './problem.js';
import { hasPorts, protocolName } from './protocols.js';
import type { RulePrograms } from './rule_programs.js';
import { dnsProblem } from './schema_dns.js';
import type { RecoveredRule } from './schema_rules.js';

const TCP = 6;

type Match = NonNullable<RecoveredRule['match']>;

/** `at` is the path of the list. Names are checked by the caller, who knows what else has names. */
export function checkRules(
  rules: readonly (RecoveredRule | undefined)[],
  at: Path,
  programs: RulePrograms,
  findings: Findings,
): void {
  checkMatches(rules, at, programs, findings);
  rules.forEach((rule, i) => {
    if (rule === undefined) return;
    checkSample(rule, [...at, i], findings);
    checkLimited(rule, [...at, i], findings);
  });
}

/** The matches of a list, which become one table. */
export function checkMatches(
  rules: readonly (Pick<RecoveredRule, 'match'> | undefined)[],
  at: Path,
  programs: RulePrograms,
  findings: Findings,
): void {
  programs.compile(rules.flatMap((rule) => (rule?.match?.expr === undefined ? [] : [rule.match.expr])));
  const combinations = rules.reduce((sum, rule) => sum + combinationsOf(rule?.match), 0);
  if (combinations > MAX_RULE_RECORDS) {
    findings.error(
      at,
      `the lists in them make ${combinations} combinations, at most ${MAX_RULE_RECORDS} fit`,
      'Make the lists shorter, for example by larger prefixes.',
    );
  }
  rules.forEach((rule, i) => {
    if (rule?.match === undefined) return;
    checkFields(rule.match, [...at, i, 'match'], findings);
    checkAddresses(rule.match, [...at, i, 'match'], findings);
    checkProgram(rule.match, [...at, i, 'match'], programs, findings);
  });
}

function checkLimited({ action, limit }: RecoveredRule, at: Path, findings: Findings): void {
  if (action === undefined) return;
  if (action !== 'limit') {
    if (limit !== undefined) findings.error([...at, 'limit'], 'goes with action limit only', 'Take it out.');
  } else if (limit === undefined) {
    if (!findings.touched([...at, 'limit'])) {
      findings.error(at, 'limits, and does not say to what', 'Add limit: {rate: 100/s}.');
    }
  } else {
    checkRate(limit, [...at, 'limit'], findings);
  }
}

function checkSample({ action, sample }: RecoveredRule, at: Path, findings: Findings): void {
  if (action === undefined) return;
  if (action !== 'sample') {
    if (sample !== undefined) findings.error([...at, 'sample'], 'goes with action sample only', 'Take it out.');
  } else if (sample === undefined) {
    findings.error(at, 'samples, and does not say what', 'Add sample: {one_in: 100}.');
  } else if (sample.one_in === undefined && sample.first === undefined) {
    findings.error([...at, 'sample'], 'takes no packet', 'Add one_in, first, or both: {one_in: 100}.');
  }
}

function checkFields(match: Match, at: Path, findings: Findings): void {
  const { protocol } = match;
  if (typeof protocol === 'number') {
    for (const key of ['sport', 'dport'] as const) {
      if (match[key] !== undefined && !hasPorts(protocol)) {
        findings.error(
          [...at, key],
          `the protocol ${protocolName(protocol)} has no ports`,
          'Take the port out, or write protocol: tcp or udp.',
        );
      }
    }
  }
  if (match.tcp_flags !== undefined && protocol !== undefined && protocol !== TCP) {
    findings.error(
      [...at, 'tcp_flags'],
      'goes with protocol tcp only',
      'Write protocol: tcp, or leave the protocol out.',
    );
  }
  for (const key of ['src', 'dst', 'sport', 'dport'] as const) {
    if (match[key]?.length === 0) {
      findings.error([...at, key], 'is an empty list, which no packet matches', 'Leave the key out to match any.');
    }
  }
  if (match.set?.length === 0) findings.error([...at, 'set'], 'is an empty list', 'Leave the key out to match any.');
}

function checkAddresses({ family, src, dst }: Match, at: Path, findings: Findings): void {
  for (const [key, prefixes] of [['src', src] as const, ['dst', dst] as const]) {
    prefixes?.forEach((prefix, i) => {
      if (family === undefined || prefix === undefined || prefix.family === family) return;
      findings.error(
        [...at, key, i],
        `no packet matches: family is ${family}, ${key} is IPv${prefix.family}`,
        'Leave the family out.',
      );
    });
  }
  const families = (prefixes: typeof src): Set<number> => new Set(prefixes?.map((prefix) => prefix?.family ?? 0));
  const [from, to] = [families(src), families(dst)];
  // 0 is a prefix that could not be read: it may have been of either family.
  const known = src !== undefined && dst !== undefined && from.size > 0 && to.size > 0 && !from.has(0) && !to.has(0);
  if (known && ![...from].some((one) => to.has(one))) {
    findings.error(
      [...at, 'dst'],
      `no packet matches: src is IPv${[...from].join()}, dst is IPv${[...to].join()}`,
      'Make two rules of it.',
    );
  }
}

function checkProgram(match: Match, at: Path, programs: RulePrograms, findings: Findings): void {
  const programKeys = (['expr', 'bytecode', 'p0f', 'dns'] as const).filter((key) => match[key] !== undefined);
  if (programKeys.length > 1) {
    findings.error(
      [...at, programKeys[1]],
      `goes without ${programKeys[0]}: a rule has one of expr, bytecode, p0f and dns`,
      'Make two rules of it.',
    );
  }
  const dns = match.dns === undefined || findings.touched([...at, 'dns']) ? null : dnsProblem(match.dns);
  if (dns !== null) {
    findings.error([...at, 'dns', ...(dns.key === '' ? [] : [dns.key])], dns.message, dns.remedy);
  }
  if (match.expr === undefined) return;
  const result = programs.get(match.expr);
  if (!result.ok) findings.error([...at, 'expr'], result.error, '');
}

/** Records that a rule takes: one for each combination of its lists (rule_records.ts). */
function combinationsOf({ family, src, dst, sport, dport }: Match = {}): number {
  const counts = (prefixes: typeof src, one: 4 | 6): number =>
    prefixes === undefined ? 1 : prefixes.filter((prefix) => prefix?.family === one).length;
  const pairs = (one: 4 | 6): number => counts(src, one) * counts(dst, one);
  const addresses =
    src === undefined && dst === undefined ? 1 : family === undefined ? pairs(4) + pairs(6) : pairs(family);
  return addresses * (sport?.length ?? 1) * (dport?.length ?? 1);
}

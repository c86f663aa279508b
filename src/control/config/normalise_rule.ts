/** From a rule as the schema puts it out to the one that the control plane reads. */
import type { RuleConfig, RuleMatchConfig, RuleProgramConfig } from '../../shared/config.js';
import type { RulePrograms } from './rule_programs.js';
import { dnsMatch } from './schema_dns.js';
import { normaliseLimit } from './schema_limit.js';
import type { RawRule } from './schema_rules.js';

const TCP = 6;

/** The checks have seen to it that its expression compiles. What has its usual value is left out. */
export function normaliseRule(raw: RawRule, programs: RulePrograms): RuleConfig {
  const rule: RuleConfig = { name: raw.name, match: normaliseMatch(raw.match, programs), action: raw.action };
  if (raw.mode === 'shadow') rule.mode = 'shadow';
  if (raw.probability !== undefined && raw.probability < 1) rule.probability = raw.probability;
  if (raw.ttl !== undefined) rule.ttl = raw.ttl;
  if (raw.sample !== undefined) {
    const { one_in: oneIn = 0, first = 0, snaplen } = raw.sample;
    rule.sample = { oneIn, first, snaplen };
  }
  if (raw.limit !== undefined) rule.limit = normaliseLimit(raw.limit);
  return rule;
}

export function normaliseMatch(raw: RawRule['match'], programs: RulePrograms): RuleMatchConfig {
  const { protocol, tcp_flags: tcpFlags, src, dst, sport, dport, expr, bytecode, p0f, dns, set, ...rest } = raw;
  const match: RuleMatchConfig = {
    ...rest,
    src: single(src),
    dst: single(dst),
    sport: single(sport),
    dport: single(dport),
    sets: set,
    program: programOf({ expr, bytecode, p0f, dns }, programs),
  };
  if (typeof protocol === 'number') match.protocol = protocol;
  if (tcpFlags !== undefined) {
    match.tcpFlags = tcpFlags;
    // A packet of another protocol reads as one without flags, and would match "!syn".
    match.protocol = TCP;
  }
  for (const key of Object.keys(match) as (keyof typeof match)[]) if (match[key] === undefined) delete match[key];
  return match;
}

function single<T>(values: readonly T[] | undefined): T | readonly T[] | undefined {
  return values?.length === 1 ? values[0] : values;
}

function programOf(
  { expr, bytecode, p0f, dns }: Pick<RawRule['match'], 'expr' | 'bytecode' | 'p0f' | 'dns'>,
  programs: RulePrograms,
): RuleProgramConfig | undefined {
  if (bytecode !== undefined) return { kind: 'bytecode', ...bytecode };
  if (p0f !== undefined) return { kind: 'p0f', ...p0f };
  if (dns !== undefined) return dnsMatch(dns);
  if (expr === undefined) return undefined;
  const result = programs.get(expr);
  return result.ok ? { kind: 'expr', text: expr, program: result.program } : undefined;
}

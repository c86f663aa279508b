/** Rules that do not come with a configuration: from the control socket, or from a file of rules alone. */
import { z } from 'zod';
import type { RuleConfig } from '../../shared/config.js';
import { checkRules } from './check_rules.js';
import { Findings } from './findings.js';
import { checkNames } from './names.js';
import { normaliseRule } from './normalise_rule.js';
import { ConfigError, type Path } from './problem.js';
import { recover } from './recover.js';
import { RulePrograms } from './rule_programs.js';
import { ruleSchema, type RawRule, type RecoveredRule } from './schema_rules.js';
import { readSource, type Source } from './source.js';

const listSchema = z.array(ruleSchema);

/**
 * Rules from a tree as JSON has it: a list of maps with the keys that a rule has in a configuration. Throws ConfigError with
 * everything that is wrong; `what` is what messages call it.
 */
export function rulesFromTree(tree: unknown, what: string): RuleConfig[] {
  const nowhere: Source = { value: tree ?? null, problems: [], locate: () => ({ line: 0, column: 0 }) };
  return read(nowhere, tree, [], new Findings(what, nowhere));
}

/**
 * Rules from YAML: a list of them, or a map that has such a list as `rules`, for example a whole configuration, of which the rest is not looked at.
 * Throws ConfigError with everything that is wrong, by line and column.
 *
 * @returns the rules, and the same as a tree to send to the control socket
 */
export function rulesFromText(text: string, file: string): { rules: RuleConfig[]; tree: unknown[] } {
  const source = readSource(text);
  const findings = new Findings(file, source);
  const { value } = source;
  const inMap = typeof value === 'object' && value !== null && !Array.isArray(value);
  const at: Path = inMap ? ['rules'] : [];
  const tree = inMap ? (value as Record<string, unknown>).rules : value;
  return { rules: read(source, tree, at, findings), tree: tree as unknown[] };
}

function read(source: Source, tree: unknown, at: Path, findings: Findings): RuleConfig[] {
  const programs = new RulePrograms();
  let raw: (RecoveredRule | undefined)[] = [];
  if (source.value === undefined) {
    // Not YAML: that is said already.
  } else if (tree === undefined || tree === null) {
    findings.error(at, 'there are no rules in it');
  } else {
    raw = (recover(listSchema, tree, at, (where, what, message, remedy) => {
      if (!findings.touched(where)) findings.error(where, message, remedy, what);
    }) ?? []) as (RecoveredRule | undefined)[];
    checkNames(raw, at, 'rule', findings);
    checkRules(raw, at, programs, findings);
  }
  findings.sort();
  if (findings.errors.length > 0) throw new ConfigError(findings.errors, findings.more);
  return (raw as RawRule[]).map((rule) => normaliseRule(rule, programs));
}

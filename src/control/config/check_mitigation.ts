/** What the stages of mitigation must satisfy beyond the values of single keys. */
import { checkRate } from './check_rate.js';
import { checkMatches } from './check_rules.js';
import type { Findings } from './findings.js';
import { DEFAULT_HASH_KEY_TEXT, hashKeyOf } from './hash_key.js';
import { checkNames } from './names.js';
import type { Path } from './problem.js';
import type { RulePrograms } from './rule_programs.js';
import type { Recovered } from './schema.js';
import type { RawLimit } from './schema_limit.js';
import type { RecoveredMitigation } from './schema_mitigation.js';

type Entry = NonNullable<NonNullable<RecoveredMitigation['limits']>[number]>;

export function checkMitigation(config: Recovered, programs: RulePrograms, findings: Findings): void {
  const { mitigation, filters } = config;
  if (mitigation === undefined) return;
  const at: Path = ['mitigation'];
  const { challenge, tcp_state: state, fair_share: share, limits = [] } = mitigation;
  if (challenge?.above !== undefined && challenge.below !== undefined && challenge.below > challenge.above) {
    findings.error(
      [...at, 'challenge', 'below'],
      `is more than above (${challenge.above}/s): challenges would start and stop at once`,
      'Write less, a quarter for example.',
    );
  }
  for (const key of ['prefixes4', 'prefixes6'] as const) {
    const lengths = share?.[key];
    if (lengths?.every((length, i) => i === 0 || length < lengths[i - 1]) === false || (lengths?.length ?? 0) > 4) {
      findings.error([...at, 'fair_share', key], 'has at most 4 prefix lengths, longest first', 'Write [24, 16].');
    }
  }
  checkNames(limits, [...at, 'limits'], 'limit', findings);
  limits.forEach((entry, i) => {
    if (entry !== undefined) checkEntry(entry, [...at, 'limits', i], findings);
  });
  checkMatches(limits, [...at, 'limits'], programs, findings);
  if (challenge?.mode !== undefined && challenge.mode !== 'off' && isUsual(config.hash_key)) {
    findings.warn(
      [...at, 'challenge'],
      'uses a key of this process alone: hash_key is the one that everybody knows',
      'Write a hash_key of your own, so that nodes take the answers to each other’s challenges.',
    );
  }
  const works =
    (challenge?.mode ?? 'off') !== 'off' ||
    (state?.mode ?? 'off') !== 'off' ||
    (share?.rate ?? null) !== null ||
    limits.length > 0;
  const applied = filters === undefined || filters.some((filter) => filter === undefined || filter.rules !== undefined);
  if (works && !applied) {
    findings.warn(
      at,
      'does nothing: its stages stand where the filters have "rules", and they do not',
      'Add rules to the list of filters.',
    );
  }
}

function isUsual(key: Recovered['hash_key']): boolean {
  return key !== undefined && hashKeyOf(DEFAULT_HASH_KEY_TEXT).every((word, i) => word === key[i]);
}

function checkEntry(entry: Entry, at: Path, findings: Findings): void {
  const { rate, connections, match, burst, per } = entry;
  if (connections === undefined) {
    if (rate === undefined) {
      if (!findings.touched(at)) findings.error(at, 'limits nothing', 'Add rate: 100/s, or connections: 100.');
      return;
    }
    checkRate(entry as RawLimit, at, findings);
    return;
  }
  if (rate !== undefined) {
    findings.error([...at, 'rate'], 'goes without connections: a limit has one of the two', 'Make two limits of it.');
  }
  if (match !== undefined) {
    findings.error([...at, 'match'], 'goes with rate only: connections of all services count', 'Take it out.');
  }
  if (burst !== undefined) findings.error([...at, 'burst'], 'goes with rate only', 'Take it out.');
  if (per !== undefined && (per.length !== 1 || (per[0] !== 'src' && per[0] !== 'dst'))) {
    findings.error([...at, 'per'], 'is src or dst for connections', 'Write per: src.');
  }
}

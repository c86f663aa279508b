/** What sets must satisfy beyond the values of single keys; reads their files. */
import { resolve } from 'node:path';
import { SluiceError } from '../../errors.js';
import type { RuleSetReference, SetConfig } from '../../shared/config.js';
import { MAXELEM_DEFAULT, readEntry, type SetOptions } from '../sets/index.js';
import type { Findings } from './findings.js';
import { nearest } from './nearest.js';
import type { Path } from './problem.js';
import type { Recovered } from './schema.js';
import type { RecoveredSet } from './schema_sets.js';
import { checkList, emptySet, readSaved, type SetFileContent } from './set_files.js';

/** What a file of ipset says itself. */
const MADE_WITH = ['type', 'family', 'timeout', 'counters', 'comment', 'forceadd', 'maxelem'] as const;

/** The sets of a configuration; they are all there when nothing was found to be wrong. */
export function checkSets(config: Recovered, directory: string, findings: Findings): SetConfig[] {
  const { sets = [], filters } = config;
  const made: SetConfig[] = [];
  const lines = new Map<string, number>();
  let whole = true;
  sets.forEach((set, i) => {
    const at: Path = ['sets', i];
    const found = set === undefined || findings.touched(at) ? null : setsOf(set, at, directory, findings);
    if (found === null) whole = false;
    for (const each of found ?? []) {
      const before = lines.get(each.name);
      if (before !== undefined) {
        const message = `there is another set of the name ${each.name}, on line ${before}`;
        findings.error([...at, 'name'], message, 'Give each its own name.');
      }
      lines.set(each.name, findings.lineOf(at));
      made.push(each);
    }
  });
  if (whole) {
    checkReferences(config.rules ?? [], ['rules'], lines, findings);
    checkReferences(config.mitigation?.limits ?? [], ['mitigation', 'limits'], lines, findings);
    config.allow?.forEach((entry, i) => {
      if (entry !== undefined && 'set' in entry) checkName(entry.set, ['allow', i], lines, findings);
    });
  }
  const applied = filters === undefined || filters.some((filter) => filter === undefined || filter.rules !== undefined);
  if (!applied && made.some(({ drop }) => drop !== null)) {
    findings.warn(
      ['sets'],
      'drop nothing: the filters do not have "rules" among them',
      'Add rules to the list of filters.',
    );
  }
  return made;
}

/** Sets that matches and the allow list name must be there: a restart would not find one that was made at run time. */
function checkReferences(
  entries: readonly ({ match?: { set?: readonly RuleSetReference[] } } | undefined)[],
  at: Path,
  known: ReadonlyMap<string, number>,
  findings: Findings,
): void {
  entries.forEach((entry, i) => {
    entry?.match?.set?.forEach((reference: Partial<RuleSetReference> | undefined, j) => {
      if (reference?.name !== undefined) checkName(reference.name, [...at, i, 'match', 'set', j], known, findings);
    });
  });
}

function checkName(name: string, at: Path, known: ReadonlyMap<string, number>, findings: Findings): void {
  if (known.has(name)) return;
  const near = nearest(name, [...known.keys()]);
  const remedy = near === null ? 'Sets are listed under the key sets.' : `Did you mean ${near}?`;
  findings.error(at, `there is no set ${name}`, remedy);
}

/** null: something is wrong with it, and was said. */
function setsOf(set: RecoveredSet, at: Path, directory: string, findings: Findings): SetConfig[] | null {
  if (set.file !== undefined && set.entries !== undefined) {
    findings.error([...at, 'entries'], 'goes without file', 'Put the entries into the file, or make two sets.');
    return null;
  }
  try {
    if (set.file === undefined) return fromEntries(set, at, findings);
    const path = resolve(directory, set.file);
    const content = readSaved(path);
    return content.format === 'save'
      ? fromSave(set, path, content, at, findings)
      : fromList(set, path, content, at, findings);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    findings.error(set.file === undefined ? at : [...at, 'file'], error.message, error.remedy);
    return null;
  }
}

function fromSave(
  set: RecoveredSet,
  path: string,
  { digest, sets, notes }: SetFileContent,
  at: Path,
  findings: Findings,
): SetConfig[] | null {
  const extra = MADE_WITH.filter((key) => set[key] !== undefined);
  for (const key of extra) {
    findings.error(
      [...at, key],
      'is said by the file, which is text of ipset save',
      'Take it out, or change the create line.',
    );
  }
  for (const { line, message } of notes) findings.warn([...at, 'file'], `${path}:${line}: ${message}`);
  const wanted =
    set.name === undefined || sets.length === 1 ? sets : sets.filter((options) => options.name === set.name);
  if (wanted.length === 0) {
    const names = sets.map(({ name }) => name).join(', ') || 'no set that sluice understands';
    findings.error([...at, 'file'], `has no set ${set.name ?? ''}`.trimEnd(), `It has ${names}.`);
    return null;
  }
  if (extra.length > 0) return null;
  return wanted.map((options) => ({
    ...options,
    name: set.name ?? options.name,
    source: { kind: 'file', path, digest, format: 'save', nameInFile: options.name },
    drop: set.drop ?? null,
  }));
}

function fromList(
  set: RecoveredSet,
  path: string,
  { digest }: SetFileContent,
  at: Path,
  findings: Findings,
): SetConfig[] | null {
  const options = optionsOf(set, at, findings);
  if (options === null) return null;
  checkList(path, options);
  const source = { kind: 'file', path, digest, format: 'list', nameInFile: '' } as const;
  return [{ ...options, source, drop: set.drop ?? null }];
}

function fromEntries(set: RecoveredSet, at: Path, findings: Findings): SetConfig[] | null {
  const options = optionsOf(set, at, findings);
  if (options === null) return null;
  const scratch = emptySet(options);
  const entries = (set.entries ?? []).filter((entry) => entry !== undefined);
  entries.forEach((entry, i) => {
    try {
      const { element, fields } = readEntry(entry);
      scratch.add(element, fields, true);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      findings.error([...at, 'entries', i], error.message, error.remedy);
    }
  });
  return [{ ...options, source: { kind: 'entries', entries }, drop: set.drop ?? null }];
}

/** What a set is made with that no file of ipset says it for. */
function optionsOf(set: RecoveredSet, at: Path, findings: Findings): SetOptions | null {
  const { name, type, family = 'both', timeout = null, maxelem = MAXELEM_DEFAULT } = set;
  if (name === undefined) findings.error([...at, 'name'], 'is missing', 'Write for example name: bad', 'key');
  if (type === undefined) findings.error([...at, 'type'], 'is missing', 'Write for example type: hash:net', 'key');
  if (name === undefined || type === undefined) return null;
  const { counters = false, comment = false, forceadd = false } = set;
  return { name, type, family, maxelem, timeout, counters, comment, forceadd, mask4: null, mask6: null };
}

/** What the filter chain and the rules must satisfy beyond the values of single keys. */
import { statSync } from 'node:fs';
import { basename, extname, isAbsolute, resolve } from 'node:path';
import { MAX_FILTERS, MAX_RULES } from '../../shared/layout.js';
import type { Findings } from './findings.js';
import { checkNames } from './names.js';
import { checkRules } from './check_rules.js';
import type { RulePrograms } from './rule_programs.js';
import type { Recovered, RecoveredFilter } from './schema.js';

/** What a worker can import. */
const MODULE_EXTENSIONS = ['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts'];

/** Absolute path of a filter's module. */
export function modulePath(path: string, directory: string): string {
  return isAbsolute(path) ? path : resolve(directory, path);
}

/** The name that a module filter has when none is given: its file's, without the extension and what a name cannot have. */
export function moduleName(path: string): string {
  const name = basename(path, extname(path)).replace(/[^A-Za-z0-9._:-]/g, '-');
  return /^[A-Za-z0-9]/.test(name) ? name.slice(0, 63) : `filter-${name}`.slice(0, 63);
}

export function checkPolicy(config: Recovered, directory: string, programs: RulePrograms, findings: Findings): void {
  const { filters, rules } = config;
  if (filters !== undefined) checkFilters(filters, directory, findings);
  if (rules === undefined) return;
  if (rules.length > MAX_RULES) findings.error(['rules'], `there are ${rules.length} rules, at most ${MAX_RULES} fit`);
  checkNames(rules, ['rules'], 'rule', findings);
  checkRules(rules, ['rules'], programs, findings);
  const applied = filters === undefined || filters.some((filter) => filter === undefined || filter.rules !== undefined);
  if (rules.length > 0 && !applied) {
    findings.warn(
      ['rules'],
      'are never applied: the filters do not have "rules" among them',
      'Add rules to the list of filters.',
    );
  }
}

function checkFilters(filters: readonly (RecoveredFilter | undefined)[], directory: string, findings: Findings): void {
  if (filters.length > MAX_FILTERS)
    findings.error(['filters'], `there are ${filters.length} filters, at most ${MAX_FILTERS} fit`);
  const first: { sanity?: number; rules?: number } = {};
  filters.forEach((filter, i) => {
    if (filter === undefined) return;
    const at = ['filters', i];
    const kinds = (['sanity', 'rules', 'module'] as const).filter((kind) => filter[kind] !== undefined);
    if (kinds.length > 1) findings.error(at, `is ${kinds.join(' and ')} at once`, 'Make each an entry of its own.');
    if (kinds.length === 0 && !findings.touched(at))
      findings.error(at, 'names no filter', 'Write sanity, rules, or module: ./my-filter.ts');
    for (const kind of ['sanity', 'rules'] as const) {
      if (filter[kind] === undefined) continue;
      if (first[kind] !== undefined)
        findings.error(at, `${kind} is there twice, first on line ${findings.lineOf(['filters', first[kind]])}`);
      else first[kind] = i;
    }
    if (filter.sanity?.protocols?.length === 0) {
      findings.error(
        [...at, 'sanity', 'protocols'],
        'is an empty list, which lets no packet through',
        'Leave the key out to allow all protocols.',
      );
    }
    if (filter.module !== undefined) checkModule(filter.module, directory, [...at, 'module'], findings);
    else
      for (const key of ['name', 'options'] as const)
        if (filter[key] !== undefined) findings.error([...at, key], 'goes with a module only');
  });
  const names = filters.map((filter) =>
    filter?.module === undefined ? undefined : { name: filter.name ?? moduleName(filter.module) },
  );
  checkNames(names, ['filters'], 'filter', findings);
}

function checkModule(given: string, directory: string, at: (string | number)[], findings: Findings): void {
  if (!MODULE_EXTENSIONS.includes(extname(given))) {
    findings.error(
      at,
      `is no JavaScript or TypeScript module: ${given}`,
      `Modules end in ${MODULE_EXTENSIONS.join(', ')}.`,
    );
    return;
  }
  const path = modulePath(given, directory);
  let isFile = false;
  try {
    isFile = statSync(path).isFile();
  } catch {
    // Whatever is in the way, the worker could not import it either.
  }
  if (!isFile)
    findings.error(at, `there is no file ${path}`, 'Paths are relative to the directory of the configuration.');
}

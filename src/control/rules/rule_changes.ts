/**
 * What operators changed of the rules at run time, beside the configuration. Values are never written: each change makes new
 * ones, so that one that cannot be carried out leaves nothing behind.
 */
import { SluiceError } from '../../errors.js';
import type { RuleConfig } from '../../shared/config.js';
import { nearest } from '../config/nearest.js';
import { putAt, type PlacedRules, type RulePlace } from './order.js';

export type RuleMode = 'enforce' | 'shadow';

export interface RuleChanges {
  /** Rules that are not the configuration's, by name. */
  readonly added: ReadonlyMap<string, RuleConfig>;
  /** Names of rules of the configuration that were removed, or replaced by an added one. */
  readonly removed: ReadonlySet<string>;
  /** Rules whose mode is not the one that they came with. */
  readonly modes: ReadonlyMap<string, RuleMode>;
  readonly placed: PlacedRules;
  /** Rules of the configuration whose time is over, as they were then. One that says something else since is another rule. */
  readonly expired: ReadonlyMap<string, RuleConfig>;
  /** All rules in force, in order. */
  readonly order: readonly string[];
}

export const NO_CHANGES: RuleChanges = {
  added: new Map(),
  removed: new Set(),
  modes: new Map(),
  placed: new Map(),
  expired: new Map(),
  order: [],
};

export function hasRule(changes: RuleChanges, name: string): boolean {
  return changes.order.includes(name);
}

/**
 * Adds rules, one behind the other.
 *
 * @param replace a rule of that name that is there already gives way, and its place when `place` is null; else that is an error
 * @param place null: last
 * @throws SluiceError SLUICE_USAGE for a name that is taken, and for a place that is not there
 */
export function addRules(
  changes: RuleChanges,
  rules: readonly RuleConfig[],
  place: RulePlace | null,
  replace: boolean,
): RuleChanges {
  const names = rules.map(({ name }) => name);
  const taken = names.filter((name) => hasRule(changes, name));
  if (taken.length > 0 && !replace) {
    throw new SluiceError(
      'SLUICE_USAGE',
      `there is a rule "${taken[0]}" already`,
      'Remove it before, give the new one another name, or say that it replaces the other (--replace).',
    );
  }
  const added = new Map(changes.added);
  const removed = new Set(changes.removed);
  const modes = new Map(changes.modes);
  for (const rule of rules) {
    if (hasRule(changes, rule.name) && !changes.added.has(rule.name)) removed.add(rule.name);
    added.set(rule.name, rule);
    modes.delete(rule.name);
  }
  const next = { ...changes, added, removed, modes };
  const moved = place === null ? names.filter((name) => !taken.includes(name)) : names;
  const placed = new Map(changes.placed);
  for (const name of taken) if (!placed.has(name)) placed.set(name, 'here');
  return put({ ...next, placed }, moved, place ?? 'last');
}

/** Throws SLUICE_USAGE when one of them is not there. */
export function removeRules(changes: RuleChanges, names: readonly string[]): RuleChanges {
  const added = new Map(changes.added);
  const removed = new Set(changes.removed);
  const modes = new Map(changes.modes);
  const placed = new Map(changes.placed);
  for (const name of names) {
    expectRule(changes, name);
    if (!added.delete(name)) removed.add(name);
    modes.delete(name);
    placed.delete(name);
  }
  return { ...changes, added, removed, modes, placed, order: changes.order.filter((name) => !names.includes(name)) };
}

/** Throws SLUICE_USAGE when the rule, or the one that it is put next to, is not there. */
export function moveRule(changes: RuleChanges, name: string, place: RulePlace): RuleChanges {
  expectRule(changes, name);
  if (typeof place === 'object') {
    const anchor = 'before' in place ? place.before : place.after;
    expectRule(changes, anchor);
    if (anchor === name) throw new SluiceError('SLUICE_USAGE', `rule "${name}" cannot be put next to itself`);
  }
  return put(changes, [name], place);
}

/** Throws SLUICE_USAGE when one of them is not there. */
export function setModes(changes: RuleChanges, names: readonly string[], mode: RuleMode): RuleChanges {
  const modes = new Map(changes.modes);
  for (const name of names) {
    expectRule(changes, name);
    modes.set(name, mode);
  }
  return { ...changes, modes };
}

/**
 * Forgets what was changed of these rules: added ones are gone, those of the configuration are as it has them. Those whose time was
 * over begin anew.
 *
 * @param known all names that the configuration has
 * @throws SluiceError SLUICE_USAGE for a name that neither the configuration nor a change knows
 */
export function resetRules(changes: RuleChanges, names: readonly string[], known: readonly string[]): RuleChanges {
  const added = new Map(changes.added);
  const removed = new Set(changes.removed);
  const modes = new Map(changes.modes);
  const placed = new Map(changes.placed);
  const expired = new Map(changes.expired);
  for (const name of names) {
    if (!changes.added.has(name) && !known.includes(name)) throw noRule(name, [...known, ...changes.order]);
    added.delete(name);
    removed.delete(name);
    modes.delete(name);
    placed.delete(name);
    expired.delete(name);
  }
  return { added, removed, modes, placed, expired, order: changes.order };
}

function put(changes: RuleChanges, names: readonly string[], place: RulePlace): RuleChanges {
  const placed = new Map(changes.placed);
  for (const name of names) placed.set(name, place === 'last' ? 'last' : 'here');
  const rest = changes.order.filter((name) => !names.includes(name));
  return { ...changes, placed, order: putAt(rest, names, place) };
}

function expectRule(changes: RuleChanges, name: string): void {
  if (!hasRule(changes, name)) throw noRule(name, changes.order);
}

function noRule(name: string, names: readonly string[]): SluiceError {
  const meant = nearest(name, names);
  const remedy =
    meant !== null
      ? `Did you mean "${meant}"?`
      : names.length === 0
        ? 'There are no rules.'
        : 'sluice rules list has all names.';
  return new SluiceError('SLUICE_USAGE', `there is no rule "${name}"`, remedy);
}

/**
 * The rules in force: those of the configuration, with what operators changed of them at run time, without those whose time is over.
 *
 * Changes hold over reloads, for what the new configuration still has, and are gone with the daemon. A rule that was added gives
 * way to one of its name in the configuration: that is where what is to last is written.
 */
import { isDeepStrictEqual } from 'node:util';
import type { RuleConfig } from '../../shared/config.js';
import { mergeOrder } from './order.js';
import { NO_CHANGES, type RuleChanges } from './rule_changes.js';

/** What an operator wants to know of a rule beside its counters. */
export interface RuleStanding {
  origin: 'config' | 'runtime';
  /** What it has is not what it came with: "mode", "place", "mode, place"; '' when it is. */
  changed: string;
  /** When its time is over, on the book's clock, ms; null: it stays. */
  expiresAtMs: number | null;
}

/** A rule of the configuration that is not in force, and why. */
export interface AbsentRule {
  name: string;
  why: 'removed' | 'expired';
}

/** What a rule with a time to live said when it was first seen, and when that was. */
interface Birth {
  content: RuleConfig;
  atMs: number;
}

export class RuleBook {
  /** What was changed; written only by `commit`. */
  #changes: RuleChanges = NO_CHANGES;
  #configured: readonly RuleConfig[] = [];
  #births: ReadonlyMap<string, Birth> = new Map();
  readonly #now: () => number;

  /** `now`: a monotonic clock, ms. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get changes(): RuleChanges {
    return this.#changes;
  }

  /** Rules that were looked at last by `commit`, as the configuration has them. */
  get configured(): readonly RuleConfig[] {
    return this.#configured;
  }

  /** The rules that a configuration and these changes make, in order. Changes nothing. */
  compose(configured: readonly RuleConfig[], changes: RuleChanges = this.#changes): RuleConfig[] {
    const byName = new Map<string, RuleConfig>();
    for (const rule of configured) {
      if (!changes.removed.has(rule.name) && !stillExpired(rule, changes)) byName.set(rule.name, rule);
    }
    const inConfig = new Set(configured.map(({ name }) => name));
    const order = mergeOrder([...byName.keys()], changes.order, changes.placed);
    for (const [name, rule] of changes.added) {
      if (!inConfig.has(name) || changes.removed.has(name)) byName.set(name, rule);
    }
    return order.flatMap((name) => {
      const rule = byName.get(name);
      return rule === undefined ? [] : [withMode(rule, changes.modes.get(name))];
    });
  }

  /**
   * Takes a configuration and changes as those in force: their tables are published. What was said of rules that are gone is
   * forgotten, and the time of new rules begins.
   *
   * @returns names of added rules that the configuration has taken over
   */
  commit(configured: readonly RuleConfig[], changes: RuleChanges = this.#changes): string[] {
    const order = this.compose(configured, changes).map(({ name }) => name);
    const inConfig = new Map(configured.map((rule) => [rule.name, rule]));
    const live = new Set(order);
    const replaced = (name: string): boolean => inConfig.has(name) && !changes.removed.has(name);
    const takenOver = [...changes.added.keys()].filter(replaced);
    const added = new Map([...changes.added].filter(([name]) => !replaced(name)));
    const own = (name: string): RuleConfig | undefined => added.get(name) ?? inConfig.get(name);
    this.#changes = {
      added,
      removed: new Set([...changes.removed].filter((name) => inConfig.has(name))),
      // A mode that is the rule's own again is no change.
      modes: new Map([...changes.modes].filter(([name, mode]) => live.has(name) && modeOf(own(name)!) !== mode)),
      placed: new Map([...changes.placed].filter(([name]) => live.has(name) && !takenOver.includes(name))),
      expired: new Map([...changes.expired].filter(([name]) => stillExpired(inConfig.get(name), changes))),
      order,
    };
    this.#configured = configured;
    const nowMs = this.#now();
    const births = new Map<string, Birth>();
    for (const name of order) {
      const content = own(name)!;
      if (content.ttl === undefined) continue;
      const birth = this.#births.get(name);
      // One that is added again lives as long again; a reload that says the same of it changes nothing.
      const same = added.has(name) ? birth?.content === content : isDeepStrictEqual(birth?.content, content);
      births.set(name, birth !== undefined && same ? birth : { content, atMs: nowMs });
    }
    this.#births = births;
    return takenOver;
  }

  /** When the next rule's time is over, ms; Infinity when none will be. */
  get nextExpiryMs(): number {
    let next = Infinity;
    for (const birth of this.#births.values()) next = Math.min(next, expiryOf(birth));
    return next;
  }

  /** Takes out the rules whose time is over, and says which. The tables are to be built again then. */
  expire(): string[] {
    const nowMs = this.#now();
    const due = [...this.#births].filter(([, birth]) => expiryOf(birth) <= nowMs).map(([name]) => name);
    if (due.length === 0) return due;
    const expired = new Map(this.#changes.expired);
    const added = new Map(this.#changes.added);
    const removed = new Set(this.#changes.removed);
    for (const name of due) {
      // A rule of the configuration that it stood in for is back.
      if (added.delete(name)) removed.delete(name);
      else expired.set(name, this.#births.get(name)!.content);
    }
    this.commit(this.#configured, { ...this.#changes, added, removed, expired });
    return due;
  }

  standing(name: string): RuleStanding {
    const { added, modes, placed } = this.#changes;
    const birth = this.#births.get(name);
    const runtime = added.has(name);
    const changed = [modes.has(name) ? 'mode' : '', placed.has(name) && !runtime ? 'place' : ''];
    return {
      origin: runtime ? 'runtime' : 'config',
      changed: changed.filter((text) => text !== '').join(', '),
      expiresAtMs: birth === undefined ? null : expiryOf(birth),
    };
  }

  /** Rules of the configuration that are not in force, in its order. */
  absent(): AbsentRule[] {
    const changes = this.#changes;
    return this.#configured.flatMap((rule): AbsentRule[] => {
      const { name } = rule;
      if (changes.removed.has(name)) return changes.added.has(name) ? [] : [{ name, why: 'removed' }];
      return stillExpired(rule, changes) ? [{ name, why: 'expired' }] : [];
    });
  }
}

function stillExpired(rule: RuleConfig | undefined, { expired }: RuleChanges): boolean {
  const then = rule && expired.get(rule.name);
  return then !== undefined && isDeepStrictEqual(then, rule);
}

function expiryOf({ content, atMs }: Birth): number {
  return atMs + content.ttl! * 1000;
}

function modeOf(rule: RuleConfig): 'enforce' | 'shadow' {
  return rule.mode ?? 'enforce';
}

function withMode(rule: RuleConfig, mode: 'enforce' | 'shadow' | undefined): RuleConfig {
  if (mode === undefined || modeOf(rule) === mode) return rule;
  const { mode: _, ...rest } = rule;
  return mode === 'shadow' ? { ...rest, mode } : rest;
}

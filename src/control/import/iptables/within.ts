/**
 * Rules that match what is *within* a limit (`-m limit`, --hashlimit-upto, --connlimit-upto). We have none, but one kind says what a limit of ours does: ACCEPT
 * what is within, and drop the rest by the rule behind it or the policy.
 */
import { readRule } from './read_rule.js';
import type { RuleDraft } from './rule_draft.js';
import type { SavedRule } from './saved.js';

/** Targets that leave the packet to the next rule, and are noted for themselves. */
export interface Behind {
  /** Rules behind this one in its chain. */
  rules: readonly SavedRule[];
  goesOn: (target: string) => boolean;
  /** Whether what comes out at the end of the chain is dropped. */
  dropsAtEnd: boolean;
}

/** Whether each packet that `draft` is about and does not take is dropped by what comes next. `own`: its conditions without those of jumps. */
export function dropsTheRest(own: RuleDraft, { rules, goesOn, dropsAtEnd }: Behind): boolean {
  for (const saved of rules) {
    const next = readRule(saved, own.family);
    const name = next.target?.name ?? '';
    if (next.target !== null && !next.target.goto && goesOn(name)) continue;
    return (name === 'DROP' || name === 'REJECT') && takesAll(own, next);
  }
  return dropsAtEnd;
}

/** Whether `next` asks for nothing that `own` does not ask for. */
function takesAll(own: RuleDraft, next: RuleDraft): boolean {
  if (next.lost.length > 0 || next.alternatives !== null || next.never !== '') return false;
  if (next.probability !== null || next.limit !== null || next.connections !== null) return false;
  const among = (list: readonly unknown[], all: readonly unknown[]): boolean => {
    const known = new Set(all.map((one) => JSON.stringify(one)));
    return list.every((one) => known.has(JSON.stringify(one)));
  };
  return (
    among(Object.entries(next.match), Object.entries(own.match)) &&
    among(next.exprs, own.exprs) &&
    among(next.bytecode, own.bytecode) &&
    among(next.sets, own.sets)
  );
}

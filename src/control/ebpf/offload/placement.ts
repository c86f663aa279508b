/** Where each rule runs, in words for operators. */
import { RuleField } from '../../../shared/layout.js';
import { KINDS } from './kinds.js';
import type { Plan, PlannedRecord } from './plan.js';
import { canMatch } from './record.js';

/**
 * Which of the two carries a rule out, for packets that the kernel's program reads (plain.ts, any.ts); all others are user space's.
 * - `kernel`: packets that it drops do not reach user space;
 * - `both`: it is counted in the kernel for packets that a later rule drops there, or the kernel has a part of it.
 */
export type RunsIn = 'kernel' | 'user space' | 'both';

export interface Placement {
  readonly runs: RunsIn;
  /** Why not, or not wholly, in the kernel, said of the rule: "matches sets"; '' for `kernel`. */
  readonly why: string;
}

interface Parts {
  kernel: number;
  both: number;
  left: number;
  /** Of the first record that is not wholly in the kernel. */
  why: string;
}

/** By rule number. `cut`: as Front has it. With no rule in the kernel, all are in user space. */
export function placements(plan: Plan, cut: ReadonlySet<number> = new Set()): Map<number, Placement> {
  const last = plan.records.findLastIndex((record) => dropsThere(plan, record));
  const rules = new Map<number, Parts>();
  plan.records.forEach((record, i) => {
    const rule = plan.rules[record.at + RuleField.id];
    let parts = rules.get(rule);
    if (parts === undefined) rules.set(rule, (parts = { kernel: 0, both: 0, left: 0, why: '' }));
    if (dropsThere(plan, record)) {
      parts.kernel++;
      return;
    }
    if (record.step === 'mark' && i < last) parts.both++;
    else parts.left++;
    if (parts.why === '') parts.why = whyNot(record, i < last);
  });
  return new Map([...rules].map(([rule, parts]) => [rule, placement(parts, cut.has(rule))]));
}

/** Whether the kernel drops packets for it. */
function dropsThere({ rules }: Plan, { at, step }: PlannedRecord): boolean {
  return step === 'drop' && KINDS.some((kind) => canMatch(rules, at, kind));
}

function whyNot({ step, why }: PlannedRecord, dropsBehind: boolean): string {
  if (step === 'leave') return why;
  if (step === 'drop') return 'matches no packet';
  return dropsBehind
    ? 'is counted in the kernel when a later rule drops the packet there'
    : 'has no rule behind it that drops in the kernel';
}

function placement({ kernel, both, left, why }: Parts, cut: boolean): Placement {
  if (cut) return { runs: 'both', why: 'has no room in the program' };
  if (both === 0 && left === 0) return { runs: 'kernel', why: '' };
  return { runs: kernel > 0 || both > 0 ? 'both' : 'user space', why };
}

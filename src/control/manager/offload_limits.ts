/** When rules cannot run in the kernel at all: what stands before them, and captures that have to see what they drop. */
import { DropReason, Verdict } from '../../dataplane/verdict.js';
import type { CaptureSpec } from '../../shared/capture_spec.js';
import { RuleAction, RuleField, RuleFlag, type Tables } from '../../shared/layout.js';
import type { SanityBefore } from '../ebpf/offload/sanity.js';
import type { NeedingTables } from '../ebpf/offload/set_needs.js';

/** What of the tables decides. */
export type OffloadTables = Pick<
  Tables,
  'limits' | 'kernelNonce' | 'ruleStamp' | 'filters' | 'settings' | keyof NeedingTables
>;

/** What a packet meets before the rules that the kernel does not know; '' when there is nothing. */
export function standsBefore({ filters, settings }: Pick<OffloadTables, 'filters' | 'settings'>): string {
  const at = filters.findIndex(({ kind }) => kind === 'rules');
  if (at < 0) return 'no filter applies the rules';
  const before = filters.slice(0, at);
  const module = before.find(({ kind }) => kind === 'module');
  if (module?.kind === 'module') return `the filter ${module.name} stands before the rules`;
  if (before.length > 1) return 'several sanity filters stand before the rules';
  if (settings.decapsulate.addresses.length > 0) return 'packets are decapsulated before the rules';
  return '';
}

/** The sanity checks before the rules; null: none. For filters with nothing else there. */
export function sanityBefore(filters: Tables['filters']): SanityBefore | null {
  const [first] = filters;
  return first?.kind === 'sanity' ? { checks: first.checks, protocols: first.protocols } : null;
}

/** Why rules drop. */
const BY_RULES: ReadonlySet<DropReason> = new Set([DropReason.rule, DropReason.limited]);

export interface CapturedRules {
  /** Packets dropped by any rule may be asked for. */
  all: boolean;
  /** And those dropped by sets before the rules. */
  sets: boolean;
  /** Rules that are asked for. */
  rules: Set<number>;
}

/** Which rules' packets running captures may want. Other conditions of a capture are left aside: it is for minutes. */
export function capturedRules(specs: readonly CaptureSpec[]): CapturedRules {
  const captured: CapturedRules = { all: false, sets: false, rules: new Set() };
  for (const { verdicts, reasons, rules } of specs) {
    const drops = verdicts === 0 || (verdicts & (1 << Verdict.Drop)) !== 0;
    if (!drops) continue;
    // A packet that a set drops has met no rule.
    if (rules === null && (reasons.length === 0 || reasons.includes(DropReason.set))) captured.sets = true;
    if (reasons.length > 0 && !reasons.some((reason) => BY_RULES.has(reason))) continue;
    if (rules === null) captured.all = true;
    else for (const rule of rules) captured.rules.add(rule);
  }
  return captured;
}

/** Numbers of the rules that drop: enforced ones, by chance and above a limit too. */
export function dropRules({ rules: buffer }: Pick<OffloadTables, 'rules'>): number[] {
  const rules = new Int32Array(buffer);
  const found = new Set<number>();
  for (let i = 0; i < (rules.length > 0 ? rules[0] : 0); i++) {
    const at = RuleField.HEADER + i * RuleField.STRIDE;
    const enforced = (rules[at + RuleField.flags] & RuleFlag.shadow) === 0;
    const action = rules[at + RuleField.action];
    const drops = action === (RuleAction.drop as number) || action === (RuleAction.limit as number);
    if (enforced && drops) found.add(rules[at + RuleField.id]);
  }
  return [...found];
}

/** When flows may be in the kernel: nothing that only user space knows may stand in their packets' way, or count them. */
import { Verdict } from '../../dataplane/verdict.js';
import type { CaptureSpec } from '../../shared/capture_spec.js';
import { RuleAction, RuleField, RuleFlag, type Tables } from '../../shared/layout.js';
import type { Placement } from '../ebpf/offload/placement.js';

/** What of the tables decides. */
export type FlowTables = Pick<
  Tables,
  'filters' | 'settings' | 'mitigation' | 'rules' | 'ruleStamp' | 'setAllows' | 'setDrops' | 'backends' | 'services'
>;

/** Of rules and sets in the kernel; see RuleOffload. */
export interface RulesInKernel {
  readonly status: { active: boolean; why: string };
  /** Of a rule by its number. */
  placement(rule: number): Placement;
}

/**
 * What keeps all flows out of the kernel; '' when nothing does. Of rules it is each flow's own matter (FlowOffers), and of SYN challenges nobody's: all packets that
 * they judge are handed to user space.
 */
export function standsInTheWay(tables: FlowTables, rules: RulesInKernel): string {
  const { filters, mitigation, setAllows, setDrops } = tables;
  const module = filters.find(({ kind }) => kind === 'module');
  if (module?.kind === 'module') return `the filter ${module.name} sees every packet`;
  if (mitigation.tcpState !== null) return 'TCP connections are tracked';
  if (mitigation.fairShare !== null) return 'fair share counts every packet';
  if (mitigation.limits !== null || mitigation.connLimits.length > 0) return 'limits count every packet';
  // Of both, the contents change without a publication.
  if (setAllows.length > 0) return 'sets on the allow list count packets';
  if (setDrops.length > 0 && !rules.status.active) return `sets drop in user space: ${rules.status.why}`;
  return '';
}

/** Verdicts that packets sent by the kernel would have had. */
const SENT = (1 << Verdict.Tx) | (1 << Verdict.Redirect);

/**
 * Whether a capture asks for packets that the kernel would send, of those that come in by port `port`. Those that a rule matches are not among them: flows that
 * rules in user space may match are not in the kernel.
 */
export function isCaptured(captures: readonly CaptureSpec[], port: number): boolean {
  return captures.some(
    ({ ports, verdicts, reasons, rules }) =>
      (ports & (1 << port)) !== 0 &&
      (verdicts === 0 || (verdicts & SENT) !== 0) &&
      reasons.length === 0 &&
      rules === null,
  );
}

/** Whether every rule that is in force runs in the kernel, in front of the cache, and counts only what it drops there. */
export function runsAllRules({ filters, rules: buffer }: FlowTables, rules: RulesInKernel): boolean {
  if (!filters.some(({ kind }) => kind === 'rules')) return true;
  const words = new Int32Array(buffer);
  const count = words.length > 0 ? words[0] : 0;
  for (let i = 0; i < count; i++) {
    const at = RuleField.HEADER + i * RuleField.STRIDE;
    const flags = words[at + RuleField.flags];
    const drops = words[at + RuleField.action] === (RuleAction.drop as number) && (flags & RuleFlag.shadow) === 0;
    if (!drops || words[at + RuleField.threshold] !== 0) return false;
    if (rules.placement(words[at + RuleField.id]).runs !== 'kernel') return false;
  }
  return true;
}

/** What of the tables decides which flows may go on as they are: flows of tables where it is another are void. */
export function admissionKey({ filters, ruleStamp, settings: { decapsulate } }: FlowTables): string {
  return JSON.stringify([filters, ruleStamp, decapsulate]);
}

/** When flows may be in the kernel: nothing that only user space knows may stand in their packets' way, or count them. */
import type { CaptureSpec } from '../../shared/capture_spec.js';
import { RuleAction, RuleField, RuleFlag, type Tables } from '../../shared/layout.js';
import type { Placement } from '../ebpf/offload/placement.js';

/** What of the tables decides. */
export type FlowTables = Pick<
  Tables,
  'filters' | 'settings' | 'mitigation' | 'rules' | 'setAllows' | 'setDrops' | 'backends' | 'services'
>;

/** Of rules and sets in the kernel; see RuleOffload. */
export interface RulesInKernel {
  readonly status: { active: boolean; why: string };
  /** Of a rule by its number. */
  placement(rule: number): Placement;
}

/** What keeps all flows out of the kernel; '' when nothing does. */
export function standsInTheWay(tables: FlowTables, rules: RulesInKernel, captures: readonly CaptureSpec[]): string {
  if (captures.length > 0) return 'a capture runs';
  const module = tables.filters.find(({ kind }) => kind === 'module');
  if (module?.kind === 'module') return `the filter ${module.name} sees every packet`;
  if (tables.settings.decapsulate.addresses.length > 0) return 'packets are decapsulated';
  return mitigationStands(tables) || sanityStands(tables) || rulesStand(tables, rules);
}

function mitigationStands({ mitigation, setAllows }: FlowTables): string {
  if (mitigation.tcpState !== null) return 'TCP connections are tracked';
  if (mitigation.challenge !== null) return 'SYNs may be challenged';
  if (mitigation.fairShare !== null) return 'fair share counts every packet';
  if (mitigation.limits !== null || mitigation.connLimits.length > 0) return 'limits count every packet';
  if (setAllows.length > 0) return 'sets on the allow list count packets';
  return '';
}

/** TCP and UDP. */
const TRANSPORT = [6, 17];

function sanityStands({ filters }: FlowTables): string {
  const refuses = filters.some(
    (filter) =>
      filter.kind === 'sanity' &&
      filter.protocols !== null &&
      !TRANSPORT.every((protocol) => filter.protocols!.includes(protocol)),
  );
  return refuses ? 'the sanity filter allows not both TCP and UDP' : '';
}

/** Rules that are in force: all must be in the kernel, and none may count what it does not drop. */
function rulesStand({ filters, rules: buffer, setDrops }: FlowTables, rules: RulesInKernel): string {
  if (setDrops.length > 0 && !rules.status.active) return `sets drop in user space: ${rules.status.why}`;
  if (!filters.some(({ kind }) => kind === 'rules')) return '';
  const words = new Int32Array(buffer);
  const count = words.length > 0 ? words[0] : 0;
  for (let i = 0; i < count; i++) {
    const at = RuleField.HEADER + i * RuleField.STRIDE;
    const flags = words[at + RuleField.flags];
    const drops = words[at + RuleField.action] === (RuleAction.drop as number) && (flags & RuleFlag.shadow) === 0;
    if (!drops || words[at + RuleField.threshold] !== 0) return 'a rule does more than drop';
    const { runs, why } = rules.placement(words[at + RuleField.id]);
    if (runs !== 'kernel') return `a rule runs in user space${why === '' ? '' : `: ${why}`}`;
  }
  return '';
}

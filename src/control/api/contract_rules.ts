/** The part of the control protocol that is about rules at run time. */
import type { RunsIn } from '../ebpf/offload/placement.js';
import type { RuleDocument } from '../rules/document.js';
import type { RulePlace } from '../rules/order.js';
import type { AbsentRule, RuleStanding } from '../rules/rule_book.js';
import type { RuleMode } from '../rules/rule_changes.js';

/** Rules in the kernel. */
export interface OffloadStatus {
  mode: 'auto' | 'off' | 'require';
  /** Some rule is in the kernel. */
  active: boolean;
  /** Why none can be; '' when there is no reason but the rules' own. */
  why: string;
}

export type { AbsentRule, RuleDocument, RuleMode, RulePlace };

/** Counters are sums over all workers, over the whole life of the rule's name. */
export interface StatusRule {
  name: string;
  action: string;
  mode: RuleMode;
  /** Packets that matched, and their bytes. */
  packets: number;
  bytes: number;
  /** Of these, dropped, above the limit, sampled or challenged; in shadow mode, those that would have been. */
  acted: number;
  actedBytes: number;
}

export interface ListedRule extends StatusRule {
  /** As a configuration has it. */
  rule: RuleDocument;
  origin: RuleStanding['origin'];
  /** What of a rule of the configuration is not as it has it: "mode", "place", both; '' when nothing is. */
  changed: string;
  /** Until its time is over, ms; null: it stays. */
  ttlLeftMs: number | null;
  /** Where it is looked at. */
  runs: RunsIn;
  /** Why not, or not wholly, in the kernel; '' for `kernel`. */
  why: string;
  /** Of `packets`, those that were dropped in the kernel, by this rule or a later one. */
  kernelPackets: number;
}

export interface RuleListing {
  pid: number;
  /** Monotonic time of the reading, milliseconds: rates are differences of two readings over this. */
  clockMs: number;
  generation: number;
  offload: OffloadStatus;
  /** In order. */
  rules: ListedRule[];
  /** Rules of the configuration that are not in force. */
  absent: AbsentRule[];
  /** Rules whose time was over, since the daemon started. */
  expired: number;
}

export interface RuleChangeResult {
  /** Names of the rules that the request was about. */
  rules: string[];
  /** All names, in the order now. */
  order: string[];
  generation: number;
}

/**
 * Changes of the rules: whole or not at all, one after the other, each published when the answer comes. They hold over reloads and are gone with the
 * daemon.
 */
export interface RuleTarget {
  list(): RuleListing;
  /** `rules`: a list of maps with the keys of a configuration's rules. `place` null: last, or where the replaced rule is. */
  add(rules: unknown, place: RulePlace | null, replace: boolean): Promise<RuleChangeResult>;
  remove(names: readonly string[]): Promise<RuleChangeResult>;
  move(name: string, place: RulePlace): Promise<RuleChangeResult>;
  setMode(names: readonly string[], mode: RuleMode): Promise<RuleChangeResult>;
  /** Rules are as the configuration has them again; null: all of them, and what was added is gone. */
  reset(names: readonly string[] | null): Promise<RuleChangeResult>;
}

export interface RuleMethods {
  'rules.list': { params: Record<string, never>; result: RuleListing };
  'rules.add': { params: { rules: unknown; place?: RulePlace; replace?: boolean }; result: RuleChangeResult };
  'rules.remove': { params: { rules: readonly string[] }; result: RuleChangeResult };
  'rules.move': { params: { rule: string; place: RulePlace }; result: RuleChangeResult };
  'rules.mode': { params: { rules: readonly string[]; mode: RuleMode }; result: RuleChangeResult };
  'rules.reset': { params: { rules?: readonly string[] }; result: RuleChangeResult };
}

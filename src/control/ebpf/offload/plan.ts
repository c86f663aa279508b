/** Which rules the kernel can carry out, and what it does at those that it cannot. */
import { hasLoop } from '../../../shared/cbpf/loops.js';
import type { Program } from '../../../shared/cbpf/program.js';
import { RuleAction, RuleField, RuleFlag, RuleMatch, type Tables } from '../../../shared/layout.js';
import type { KernelSets, SetLookup } from './set_maps.js';
import { LookupPlan } from './set_plan.js';

/**
 * What happens in the kernel to a packet that matches a record:
 * - `drop`: dropped there;
 * - `mark`: the rule lets the search go on; it is counted if a later rule drops the packet;
 * - `leave`: user space decides, with all rules from the first on. So does it for every packet that no rule drops.
 */
export type Step = 'drop' | 'mark' | 'leave';

export interface PlannedRecord {
  /** Word index in Tables.rules. */
  readonly at: number;
  readonly step: Step;
  /** Program that has to match too; null: none, or (with `leave`) one that only user space runs. */
  readonly program: Program | null;
  /** Positions in Plan.lookups: all these sets must have the packet too, which is asked behind the program. */
  readonly lookups: readonly number[];
  /** Position in Plan.marks of a `mark`, else -1. */
  readonly mark: number;
  /** Why the step is `leave`; '' otherwise. */
  readonly why: string;
}

/** A rule that lets the search go on. */
export interface Mark {
  /** RuleField.id. */
  readonly rule: number;
  /** What it would do counts as done (RuleCounter.acted): a drop rule in shadow mode. */
  readonly acts: boolean;
}

export interface Plan {
  readonly rules: Int32Array;
  readonly records: readonly PlannedRecord[];
  readonly marks: readonly Mark[];
  readonly lookups: readonly SetLookup[];
  /** Positions in `lookups`: a packet in one of these sets is left; then, one in one of those is dropped; then come the rules. */
  readonly allow: readonly number[];
  readonly drops: readonly number[];
}

/** Each costs every dropped packet a look-up. */
const MARKS_MOST = 16;

/** What a rule number is in none of. */
const NONE: ReadonlySet<number> = new Set();

/**
 * `captured`: numbers of rules whose packets user space has to see, whatever it does with them. `sets`: those that the kernel has; null: none.
 * Throws RangeError when the sets around the rules are too many.
 */
export function planOffload(
  tables: Pick<Tables, 'rules' | 'programs'> & Partial<Pick<Tables, 'ruleSets'>>,
  captured: ReadonlySet<number> = NONE,
  sets: KernelSets | null = null,
): Plan {
  const rules = new Int32Array(tables.rules);
  const programs = tables.programs.map(({ link, words }): Program => ({ link, words: new Int32Array(words) }));
  const marks: Mark[] = [];
  const records: PlannedRecord[] = [];
  const asked = new LookupPlan(tables, sets);
  const count = rules.length > 0 ? rules[0] : 0;
  for (let i = 0; i < count; i++) {
    const at = RuleField.HEADER + i * RuleField.STRIDE;
    const whole =
      (rules[at + RuleField.fields] & RuleMatch.program) === 0 ? null : programs[rules[at + RuleField.program]];
    const program = whole !== null && runsInKernel(whole) ? whole : null;
    const inSets = asked.of(rules, at);
    const why = captured.has(rules[at + RuleField.id])
      ? 'is captured'
      : inSets.ok
        ? whyLeft(rules, at, whole)
        : inSets.why;
    // Behind a program that only user space runs it may not ask at all.
    const lookups = inSets.ok && program === whole ? inSets.positions : [];
    if (why !== '') {
      records.push({ at, step: 'leave', program, lookups, mark: -1, why });
      continue;
    }
    const enforced = (rules[at + RuleField.flags] & RuleFlag.shadow) === 0;
    const action = rules[at + RuleField.action];
    if (action === RuleAction.drop && enforced) {
      records.push({ at, step: 'drop', program, lookups, mark: -1, why });
      continue;
    }
    const rule = rules[at + RuleField.id];
    let mark = marks.findIndex((other) => other.rule === rule);
    if (mark < 0 && marks.length < MARKS_MOST) mark = marks.push({ rule, acts: action === RuleAction.drop }) - 1;
    if (mark >= 0) records.push({ at, step: 'mark', program, lookups, mark, why });
    else records.push({ at, step: 'leave', program, lookups, mark, why: `${MARKS_MOST} rules before it only count` });
  }
  const { lookups, allow, drops } = asked;
  return { rules, records, marks, lookups, allow, drops };
}

function runsInKernel(program: Program): boolean {
  // The end of the IP packet is not the end of the frame, and there is no other end that the verifier knows.
  return program.link === 'ethernet' && !hasLoop(program);
}

/** '' when the kernel can carry the rule out. */
function whyLeft(rules: Int32Array, at: number, program: Program | null): string {
  if (program !== null && program.link === 'ip') return 'matches bytecode from the IP header on';
  if (program !== null && !runsInKernel(program)) return 'matches a program with a loop';
  if (rules[at + RuleField.threshold] !== 0) return 'is hit by chance';
  const enforced = (rules[at + RuleField.flags] & RuleFlag.shadow) === 0;
  switch (rules[at + RuleField.action]) {
    case RuleAction.drop:
    case RuleAction.count:
      return '';
    case RuleAction.pass:
      return enforced ? 'passes to the stages behind the rules' : '';
    case RuleAction.sample:
      return 'samples';
    case RuleAction.limit:
      return 'limits';
    default:
      return 'challenges';
  }
}

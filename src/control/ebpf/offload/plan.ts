/** Which rules the kernel can carry out, and what it does at those that it cannot. */
import { hasLoop } from '../../../shared/cbpf/loops.js';
import type { Program } from '../../../shared/cbpf/program.js';
import { RuleAction, RuleField, RuleFlag, RuleMatch, type Tables } from '../../../shared/layout.js';
import { areDisjoint, statefulOf, type Stateful } from './decided.js';
import type { KernelSets, SetLookup } from './set_maps.js';
import { LookupPlan } from './set_plan.js';

/**
 * What happens in the kernel to a packet that matches a record:
 * - `drop`: dropped there, or where the rule draws or meters (`stateful`) perhaps dropped;
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
  /** With `drop`: what is asked first; a packet that gets past it goes on with the next rule. */
  readonly stateful: Stateful | null;
  /** Position in Plan.marks of a `mark`, and of a rule that meters, which counts what goes on; else -1. */
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
  /** Tables.kernelNonce, with which decisions go to user space; 0: there are none. */
  readonly nonce: number;
}

/** Each costs every dropped packet a look-up. */
const MARKS_MOST = 16;

/** What of the tables makes a plan. Without a nonce, nothing that draws or meters is in it. */
export type PlannedTables = Pick<Tables, 'rules' | 'programs'> &
  Partial<Pick<Tables, 'ruleSets' | 'limits' | 'kernelNonce'>>;

/** What a rule number is in none of. */
const NONE: ReadonlySet<number> = new Set();

/**
 * `captured`: numbers of rules whose packets user space has to see, whatever it does with them. `sets`: those that the kernel has; null: none.
 * Throws RangeError when the sets around the rules are too many.
 */
export function planOffload(
  tables: PlannedTables,
  captured: ReadonlySet<number> = NONE,
  sets: KernelSets | null = null,
): Plan {
  const rules = new Int32Array(tables.rules);
  const programs = tables.programs.map(({ link, words }): Program => ({ link, words: new Int32Array(words) }));
  const marks: Mark[] = [];
  const records: PlannedRecord[] = [];
  const { limits = [], kernelNonce: nonce = 0 } = tables;
  const asked = new LookupPlan(tables, sets);
  const left: Left[] = [];
  const count = rules.length > 0 ? rules[0] : 0;
  for (let i = 0; i < count; i++) {
    const at = RuleField.HEADER + i * RuleField.STRIDE;
    const whole =
      (rules[at + RuleField.fields] & RuleMatch.program) === 0 ? null : programs[rules[at + RuleField.program]];
    const program = whole !== null && runsInKernel(whole) ? whole : null;
    const inSets = asked.of(rules, at);
    const asks = nonce === 0 ? null : statefulOf(rules, at, limits);
    let why = captured.has(rules[at + RuleField.id])
      ? 'is captured'
      : inSets.ok
        ? whyLeft(rules, at, whole, asks)
        : inSets.why;
    const stateful = typeof asks === 'string' ? null : asks;
    if (why === '' && stateful !== null && stateful.limit !== null && !allApart(left, rules, i, count))
      why = 'stands behind a rule that only user space carries out';
    // Behind a program that only user space runs it may not ask at all.
    const lookups = inSets.ok && program === whole ? inSets.positions : [];
    if (why !== '') {
      records.push({ at, step: 'leave', program, lookups, stateful: null, mark: -1, why });
      left.push({ at, ends: inSets.ok && program === whole && endsSearch(rules, at) });
      continue;
    }
    const counts = stateful === null ? !drops(rules, at) : stateful.limit !== null && dropsBehind(rules, i, count);
    if (!counts) {
      records.push({ at, step: 'drop', program, lookups, stateful, mark: -1, why });
      continue;
    }
    const action = rules[at + RuleField.action];
    const rule = rules[at + RuleField.id];
    let mark = marks.findIndex((other) => other.rule === rule);
    if (mark < 0 && marks.length < MARKS_MOST) mark = marks.push({ rule, acts: action === RuleAction.drop }) - 1;
    if (mark < 0) {
      why = `${MARKS_MOST} rules before it only count`;
      records.push({ at, step: 'leave', program, lookups, stateful: null, mark, why });
      left.push({ at, ends: false });
    } else {
      records.push({ at, step: stateful === null ? 'mark' : 'drop', program, lookups, stateful, mark, why });
    }
  }
  const decides = records.some(({ stateful }) => stateful !== null);
  const { lookups, allow } = asked;
  return { rules, records, marks, lookups, allow, drops: asked.drops, nonce: decides ? nonce : 0 };
}

/** A record whose packets the kernel leaves. */
interface Left {
  readonly at: number;
  /** No packet that matches it goes on with the rules behind it in user space. */
  readonly ends: boolean;
}

/** Whether the kernel sees all packets that the rule of record `i` meters: else a key would have a bucket on either side. */
function allApart(left: readonly Left[], rules: Int32Array, i: number, count: number): boolean {
  const at = (record: number): number => RuleField.HEADER + record * RuleField.STRIDE;
  const own = (record: number): boolean => rules[at(record) + RuleField.id] === rules[at(i) + RuleField.id];
  let first = i;
  while (first > 0 && own(first - 1)) first--;
  for (let record = first; record < count && own(record); record++) {
    if (left.some((before) => !before.ends && !areDisjoint(rules, before.at, at(record)))) return false;
  }
  return true;
}

function isEnforced(rules: Int32Array, at: number): boolean {
  return (rules[at + RuleField.flags] & RuleFlag.shadow) === 0;
}

/** Every packet that matches, or some. */
function drops(rules: Int32Array, at: number): boolean {
  const action = rules[at + RuleField.action];
  return isEnforced(rules, at) && (action === (RuleAction.drop as number) || action === (RuleAction.limit as number));
}

/** Whether another rule behind record `i` drops. */
function dropsBehind(rules: Int32Array, i: number, count: number): boolean {
  const own = rules[RuleField.HEADER + i * RuleField.STRIDE + RuleField.id];
  for (let at = RuleField.HEADER + (i + 1) * RuleField.STRIDE; at < RuleField.HEADER + count * RuleField.STRIDE;) {
    if (rules[at + RuleField.id] !== own && drops(rules, at)) return true;
    at += RuleField.STRIDE;
  }
  return false;
}

/** Whether no packet that matches the record goes on with the rules behind it in user space. */
function endsSearch(rules: Int32Array, at: number): boolean {
  const action = rules[at + RuleField.action];
  if (!isEnforced(rules, at) || rules[at + RuleField.threshold] !== 0) return false;
  return action === (RuleAction.drop as number) || action === (RuleAction.pass as number);
}

function runsInKernel(program: Program): boolean {
  // The end of the IP packet is not the end of the frame, and there is no other end that the verifier knows.
  return program.link === 'ethernet' && !hasLoop(program);
}

/** '' when the kernel can carry the rule out. */
function whyLeft(rules: Int32Array, at: number, program: Program | null, asks: Stateful | string | null): string {
  if (program !== null && program.link === 'ip') return 'matches from the IP header on (bytecode, p0f, dns)';
  if (program !== null && !runsInKernel(program)) return 'matches a program with a loop';
  if (asks !== null) return typeof asks === 'string' ? asks : '';
  if (rules[at + RuleField.threshold] !== 0) return 'is hit by chance';
  const enforced = isEnforced(rules, at);
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

/** What every rule makes of a packet, in order. */
import { ProgramShelf } from '../../dataplane/filter/programs.js';
import { packetSets } from '../../dataplane/filter/packet_sets.js';
import type { RuleIndex } from '../../dataplane/filter/rule_index.js';
import { INDEX_LEAST, type RuleSet } from '../../dataplane/filter/rules.js';
import type { Packet } from '../../dataplane/packet/packet.js';
import type { RuleConfig } from '../../shared/config.js';
import { CounterBlock, RuleCounter, RuleField } from '../../shared/layout.js';
import type { ReplaySetup } from '../replay_path.js';
import type { ConditionResult, RuleStep, Step } from './document.js';
import { conditionsOf, type RecordParts } from './rule_conditions.js';

interface Judged {
  rule: RuleConfig;
  id: number;
  /** In the index's choice, or there is no index. */
  candidate: boolean;
  holds: boolean;
  conditions: ConditionResult[];
}

/** Which records of the rules the index leaves for a packet; as RuleSet.search finds them. */
export function candidatesOf(index: RuleIndex, packet: Packet): Set<number> {
  index.locate(packet);
  const { words, summaryWords, records, odd } = index;
  const rows = [index.protocol, index.sport, index.dport, index.src, index.dst];
  const wordAt = (at: number): number => {
    const common = rows.reduce((bits, row) => bits & words[row + at], -1);
    return odd === 0 ? common : common | index.oddWord(at);
  };
  const found = new Set<number>();
  for (let s = 0; s < summaryWords; s++) {
    for (const w of bitsOf(wordAt(s))) {
      const word = (s << 5) + w;
      for (const bit of bitsOf(wordAt(summaryWords + word))) found.add(words[records + (word << 5) + bit]);
    }
  }
  return found;
}

function bitsOf(word: number): number[] {
  return Array.from({ length: 32 }, (_, bit) => bit).filter((bit) => (word & (1 << bit)) !== 0);
}

/**
 * Explains the rules of one set of tables. `before` must be called when the rules are about to judge the packet, `after` when they have: what
 * depends on chance or on a limit's state is read off the counters.
 */
export class RuleExplainer {
  private readonly parts: RecordParts;
  /** By rule number. */
  private readonly byId: ReadonlyMap<number, RuleConfig>;
  private judged: Judged[] = [];
  private counted = new Map<number, Float64Array>();

  constructor(
    { config, tables, numbers }: ReplaySetup,
    private readonly block: Float64Array,
    nowMs: () => number,
  ) {
    this.parts = {
      records: new Int32Array(tables.rules),
      runs: new Int32Array(tables.ruleSets),
      programs: new ProgramShelf().load(tables.programs),
      sets: packetSets(tables, 0, nowMs),
    };
    this.byId = new Map(config.rules.map((rule) => [numbers.rules.get(rule.name)!.number, rule]));
  }

  before(rules: RuleSet, packet: Packet): void {
    const { records } = this.parts;
    const count = records.length > 0 ? records[0] : 0;
    const candidates = rules.index !== null && count >= INDEX_LEAST ? candidatesOf(rules.index, packet) : null;
    const judged = new Map<number, Judged>();
    for (let record = 0; record < count; record++) {
      const at = RuleField.HEADER + record * RuleField.STRIDE;
      const id = records[at + RuleField.id];
      const rule = this.byId.get(id);
      if (rule === undefined) continue;
      const candidate = candidates === null || candidates.has(record);
      const conditions = conditionsOf(this.parts, at, packet, rule);
      const one = { rule, id, candidate, holds: conditions.every(({ holds }) => holds), conditions };
      const other = judged.get(id);
      if (other === undefined) judged.set(id, one);
      else judged.set(id, { ...nearer(other, one), candidate: other.candidate || candidate });
    }
    this.judged = [...judged.values()];
    this.counted = new Map(this.judged.map(({ id }) => [id, this.countersOf(id)]));
  }

  /** `decision`: what RuleSet.match returned. */
  after(decision: number): Step {
    const steps: RuleStep[] = [];
    const moved = this.judged.map(({ id }) => this.changeOf(id));
    const last = decision === 0 ? -1 : moved.findLastIndex(({ packets }) => packets > 0);
    for (const [i, { rule, candidate, holds, conditions }] of this.judged.entries()) {
      const { packets, acted } = moved[i];
      const result =
        last >= 0 && i > last
          ? 'not reached'
          : packets > 0
            ? 'matched'
            : holds
              ? 'not drawn'
              : candidate
                ? 'no match'
                : 'skipped';
      steps.push({
        name: rule.name,
        action: rule.action,
        mode: rule.mode ?? 'enforce',
        probability: rule.probability ?? 1,
        result,
        acted: acted > 0,
        decided: i === last,
        conditions: result === 'not reached' ? [] : conditions,
      });
    }
    return { stage: 'rules', ...summaryOf(steps), detail: { rules: steps } };
  }

  private countersOf(id: number): Float64Array {
    const at = CounterBlock.rules + id * RuleCounter.SIZE;
    return this.block.slice(at, at + RuleCounter.SIZE);
  }

  private changeOf(id: number): { packets: number; acted: number } {
    const before = this.counted.get(id)!;
    const now = this.countersOf(id);
    return {
      packets: now[RuleCounter.packets] - before[RuleCounter.packets],
      acted: now[RuleCounter.acted] - before[RuleCounter.acted],
    };
  }
}

/** Of two records of one rule, the one that matches, or fails later. */
function nearer(one: Judged, two: Judged): Judged {
  if (one.holds || two.holds) return one.holds ? one : two;
  return two.conditions.length > one.conditions.length ? two : one;
}

function summaryOf(steps: readonly RuleStep[]): Pick<Step, 'result' | 'because'> {
  if (steps.length === 0) return { result: 'continue', because: ['there are no rules'] };
  const decider = steps.find(({ decided }) => decided);
  const skipped = steps.filter(({ result }) => result === 'skipped').length;
  const because = steps.flatMap((step) => (step.result === 'skipped' ? [] : [ruleText(step)]));
  if (skipped > 0) {
    because.push(`${skipped} more: the index knows by protocol, ports and addresses that they cannot match`);
  }
  return { result: decider?.action ?? 'continue', because };
}

/** "drop-ntp: matched, drop"; "web: no match: dport is 53, not 80". */
export function ruleText(step: RuleStep): string {
  const { name, action, mode, result, conditions, acted, decided } = step;
  const last = conditions.at(-1);
  switch (result) {
    case 'matched': {
      const words = [`${name}: matched`, action];
      if (mode === 'shadow') words.push('shadow: goes on all the same');
      if (action === 'limit') words.push(acted ? 'above the limit' : 'within the limit');
      else if (action === 'sample') words.push(acted ? 'sampled' : 'not one of those that are sampled');
      else if (action === 'challenge' && !acted) words.push('concerns a SYN only');
      if (decided) words.push('ends the rules');
      return words.join(', ');
    }
    case 'not drawn':
      return `${name}: matches, but its probability ${step.probability} went against it`;
    case 'not reached':
      return `${name}: not reached`;
    default:
      return last === undefined ? `${name}: ${result}` : `${name}: no match, ${conditionText(last)}`;
  }
}

export function conditionText({ field, holds, packet, rule }: ConditionResult): string {
  if (['expr', 'bytecode', 'p0f', 'dns'].includes(field)) {
    return `${field} '${rule}' ${holds ? 'matches' : 'does not match'}`;
  }
  if (field === 'set') return `${packet} is ${holds ? '' : 'not '}in set ${rule}`;
  return `${field} is ${packet}${holds ? '' : `, not ${rule}`}`;
}

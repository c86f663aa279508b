/** The filter chain of a path, with what each stage said of the packet that is explained. */
import { FilterChain, type Stage } from '../../dataplane/filter/chain.js';
import { FilterVerdict } from '../../dataplane/filter/contract.js';
import { StageVerdict, type Mitigation } from '../../dataplane/filter/mitigation.js';
import { packetSets } from '../../dataplane/filter/packet_sets.js';
import type { Packet } from '../../dataplane/packet/packet.js';
import { DROP_REASONS } from '../../dataplane/verdict.js';
import { SetSides } from '../../shared/sets/index.js';
import type { ReplaySetup } from '../replay_path.js';
import type { StageName, Step } from './document.js';
import { LimitExplainer } from './limits.js';
import { observed } from './observe.js';
import { RuleExplainer } from './rules.js';
import { destinationOf, sourceOf } from './rule_conditions.js';

/** Stages behind the rules that have one method, `judge`, by their place in `Mitigation`. A new one gets a line here. */
const JUDGES: readonly [place: 'sets' | 'tcp' | 'fairShare' | 'limits', stage: StageName][] = [
  ['sets', 'sets'],
  ['tcp', 'tcp'],
  ['fairShare', 'fair-share'],
  ['limits', 'limits'],
];

export interface FilterWatch {
  /** Whether the packet is the one. */
  isTarget(packet: Packet): boolean;
  nowMs(): number;
  /** Is told of each stage that the packet met. */
  step(step: Step): void;
}

/** The same chain, watched. */
export function watchFilters(
  chain: FilterChain,
  setup: ReplaySetup,
  block: Float64Array,
  watch: FilterWatch,
): FilterChain {
  const { filters } = setup.tables;
  const rules = new RuleExplainer(setup, block, () => watch.nowMs());
  const stages = chain.stages.map((stage, position): Stage => {
    const spec = filters[position];
    return {
      sanity: stage.sanity && watchSanity(stage.sanity, watch, spec),
      rules: stage.rules && watchRules(stage.rules, rules, watch),
      module: stage.module && watchModule(stage.module, watch, spec),
    };
  });
  return new FilterChain(stages, block, watchMitigation(chain.mitigation, setup, block, watch));
}

type Spec = ReplaySetup['tables']['filters'][number];

function watchSanity(
  sanity: NonNullable<Stage['sanity']>,
  watch: FilterWatch,
  spec: Spec,
): NonNullable<Stage['sanity']> {
  const checks = spec.kind === 'sanity' ? spec.checks : [];
  return observed(sanity, {
    check: (call, args) => {
      const [packet] = args as [Packet];
      const reason = call(...args) as number;
      if (watch.isTarget(packet)) {
        const because = [
          reason === 0 ? `nothing to object to: ${checks.join(', ') || 'no checks'}` : DROP_REASONS[reason],
        ];
        watch.step({
          stage: 'sanity',
          result: reason === 0 ? 'continue' : 'drop',
          because,
          detail: { checks, reason: reasonOf(reason) },
        });
      }
      return reason;
    },
  });
}

function watchRules(
  rules: NonNullable<Stage['rules']>,
  explainer: RuleExplainer,
  watch: FilterWatch,
): NonNullable<Stage['rules']> {
  return observed(rules, {
    match: (call, args) => {
      const [packet] = args as [Packet];
      if (!watch.isTarget(packet)) return call(...args);
      explainer.before(rules, packet);
      const decision = call(...args) as number;
      watch.step(explainer.after(decision));
      return decision;
    },
  });
}

const FILTER_VERDICTS: Readonly<Record<number, string>> = {
  [FilterVerdict.Continue]: 'continue',
  [FilterVerdict.Aborted]: 'aborted',
  [FilterVerdict.Drop]: 'drop',
  [FilterVerdict.Pass]: 'pass',
  [FilterVerdict.Tx]: 'tx',
};

function watchModule(
  module: NonNullable<Stage['module']>,
  watch: FilterWatch,
  spec: Spec,
): NonNullable<Stage['module']> {
  const name = spec.kind === 'module' ? spec.name : '';
  return (packet) => {
    if (!watch.isTarget(packet)) return module(packet);
    const step = (result: string): void => watch.step({ stage: 'module', result, because: [name], detail: { name } });
    try {
      const said = module(packet);
      step(FILTER_VERDICTS[said] ?? `no verdict: ${String(said)}`);
      return said;
    } catch (error) {
      step('aborted: it threw');
      throw error;
    }
  };
}

function watchMitigation(
  mitigation: Mitigation,
  setup: ReplaySetup,
  block: Float64Array,
  watch: FilterWatch,
): Mitigation {
  const { allow } = mitigation;
  const watched: Record<string, unknown> = { ...mitigation };
  if (allow !== null) {
    watched.allow = observed(allow, {
      has: (call, args) => {
        const [packet] = args as [Packet];
        const found = call(...args) as boolean;
        if (watch.isTarget(packet)) {
          const because = [
            `${sourceOf(packet)} is ${found ? 'on the list: sanity checks, rules and limits are skipped' : 'not on the list'}`,
            ...allowedTexts(setup, packet, watch),
          ];
          watch.step({ stage: 'allow', result: found ? 'allowed' : 'continue', because, detail: { allowed: found } });
        }
        return found;
      },
    });
  }
  for (const [place, stage] of JUDGES) {
    const judge = mitigation[place];
    if (judge === null) continue;
    const limits = stage === 'limits' ? new LimitExplainer(setup, block) : null;
    watched[place] = observed(judge, {
      judge: (call, args) => {
        const [packet] = args as [Packet];
        if (!watch.isTarget(packet)) return call(...args);
        limits?.before(packet);
        const said = call(...args) as number;
        const because = limits === null ? [] : limits.after(said);
        if (stage === 'sets') because.push(...setTexts(setup, packet, watch));
        watch.step({
          ...judgement(stage, said, place === 'fairShare'),
          because,
          detail: { reason: place === 'fairShare' ? null : reasonOf(said) },
        });
        return said;
      },
    });
  }
  return watched as unknown as Mitigation;
}

/** What a stage said. A Limiter's word is no drop reason: 0 is within. */
function judgement(stage: StageName, said: number, isLimiter: boolean): Pick<Step, 'stage' | 'result'> {
  if (said === (StageVerdict.Continue as number)) return { stage, result: 'continue' };
  if (isLimiter) return { stage, result: 'drop' };
  return {
    stage,
    result: said === (StageVerdict.Tx as number) ? 'tx: answered with a challenge' : `drop ${DROP_REASONS[said]}`,
  };
}

function reasonOf(said: number): string | null {
  return said > 0 ? DROP_REASONS[said] : null;
}

/** Which of the sets that drop have the packet. */
function setTexts({ tables }: ReplaySetup, packet: Packet, watch: FilterWatch): string[] {
  const sets = packetSets(tables, 0, () => watch.nowMs());
  return tables.setDrops.map(({ set, sides }) => {
    return `${sourceOf(packet)} > ${destinationOf(packet)} is ${sets[set].has(packet, sides) ? '' : 'not '}in ${tables.sets[set].name}`;
  });
}

/** Which of the sets on the allow list have the packet's source. */
function allowedTexts({ tables }: ReplaySetup, packet: Packet, watch: FilterWatch): string[] {
  const sets = packetSets(tables, 0, () => watch.nowMs());
  return tables.setAllows.map((set) => {
    return `${sourceOf(packet)} is ${sets[set].has(packet, SetSides.source) ? '' : 'not '}in ${tables.sets[set].name}`;
  });
}

import type { FilterSpec, Tables } from '../../shared/layout.js';
import { Chance } from './chance.js';
import { FilterChain, type Stage } from './chain.js';
import type { FilterContext, PacketFilter } from './contract.js';
import { createFilter, isLoaded, loadFilter } from './load.js';
import { NO_MITIGATION, type Mitigation } from './mitigation.js';
import { ProgramShelf } from './programs.js';
import { AllowSets, packetSets, SetStage, type CountedSet, type SetTables } from './packet_sets.js';
import { NO_PARTS, type PacketSet, type RuleParts } from './rule_parts.js';
import { RuleSet } from './rules.js';
import { SanityFilter } from './sanity.js';

/** Modules of the chain that still have to be imported. */
export function missingModules(specs: readonly FilterSpec[]): string[] {
  return specs.flatMap((spec) => (spec.kind === 'module' && !isLoaded(spec.url) ? [spec.url] : []));
}

/** Imports every module that the chain needs. Throws as `loadFilter` does. */
export async function loadModules(specs: readonly FilterSpec[]): Promise<void> {
  for (const url of missingModules(specs)) await loadFilter(url);
}

/** What of the tables makes a chain. */
export type ChainTables = Pick<Tables, 'filters' | 'rules' | 'ruleIndex' | 'ruleSets' | 'programs' | 'ruleStamp'> &
  Partial<SetTables>;

export interface ChainContext extends Omit<FilterContext, 'options'> {
  /** Seed for rules with a probability; left out: a random one. */
  seed?: number;
  /** What rules refer to, and the stages around them. With an equal `ruleStamp` both are as before. */
  parts?: RuleParts;
  mitigation?: Mitigation;
}

/** What a worker keeps from one publication to the next. */
interface Kept {
  /** Instances of user modules in use, by module, options and how often it came before. */
  modules: ReadonlyMap<string, PacketFilter>;
  readonly programs: ProgramShelf;
  readonly chance: Chance;
  rules: RuleSet | null;
  sets: readonly PacketSet[];
  ruleStamp: number;
}

/** By the counters of the worker. */
const kept = new WeakMap<Float64Array, Kept>();

/** How the programs of a worker's rules run: see ProgramShelf. null before its first chain. */
export function programsOf(counters: Float64Array): ProgramShelf | null {
  return kept.get(counters)?.programs ?? null;
}

/**
 * The chain of a config. Its modules must be loaded. `counters` are the worker's own.
 *
 * A chain is built for every publication, a backend's new hardware address among them. So a module whose file and options are as
 * before keeps its instance, and with it what the filter has learnt; and rules that are as before are not touched.
 */
export function buildChain(tables: ChainTables, counters: Float64Array, context: ChainContext): FilterChain {
  const before = kept.get(counters) ?? {
    modules: new Map(),
    programs: new ProgramShelf(),
    chance: new Chance(context.seed ?? Math.random() * 2 ** 32),
    rules: null,
    sets: [],
    ruleStamp: 0,
  };
  const { seed: _, parts = NO_PARTS, mitigation = NO_MITIGATION, ...shared } = context;
  const modules = new Map<string, PacketFilter>();
  const moduleFilter = (url: string, options: unknown): PacketFilter => {
    const base = `${url}\n${JSON.stringify(options)}`;
    let key = base;
    for (let i = 1; modules.has(key); i++) key = `${base}\n${i}`;
    const filter = before.modules.get(key) ?? createFilter(url, { ...shared, options });
    modules.set(key, filter);
    return filter;
  };
  const same = before.rules !== null && before.ruleStamp === tables.ruleStamp;
  const sets = same ? before.sets : setsOf(tables, context);
  const rules = same
    ? before.rules
    : new RuleSet(tables, before.programs.load(tables.programs), { ...parts, sets }, counters, before.chance);
  const stages = tables.filters.map((spec): Stage => {
    switch (spec.kind) {
      case 'sanity':
        return { sanity: new SanityFilter(spec.checks, spec.protocols), rules: null, module: null };
      case 'rules':
        return { sanity: null, rules, module: null };
      case 'module':
        return { sanity: null, rules: null, module: moduleFilter(spec.url, spec.options) };
    }
  });
  const chain = new FilterChain(stages, counters, withSets(mitigation, tables, sets));
  kept.set(counters, { ...before, modules, rules, sets, ruleStamp: tables.ruleStamp });
  return chain;
}

/** The stages with those of sets among them. */
function withSets(
  mitigation: Mitigation,
  { setDrops = [], setAllows = [] }: ChainTables,
  sets: readonly PacketSet[],
): Mitigation {
  if (setDrops.length === 0 && setAllows.length === 0) return mitigation;
  // Tables that name sets have them.
  const counted = sets as readonly CountedSet[];
  const allows = setAllows.map((position) => counted[position]);
  const drops = setDrops.map(({ set, sides }) => ({ set: counted[set], sides }));
  return {
    ...mitigation,
    allow: allows.length === 0 ? mitigation.allow : new AllowSets(mitigation.allow, allows),
    sets: drops.length === 0 ? mitigation.sets : new SetStage(setDrops, sets),
    plain: { prefixes: mitigation.allow?.prefixes ?? null, allows, drops },
  };
}

function setsOf({ sets, setClock }: ChainTables, context: ChainContext): readonly PacketSet[] {
  if (sets === undefined || setClock === undefined) return context.parts?.sets ?? [];
  return packetSets({ sets, setClock }, context.worker, () => context.nowMs());
}

import type { FilterSpec } from '../../shared/layout.js';
import { FilterChain, type Stage } from './chain.js';
import type { FilterContext } from './contract.js';
import { createFilter, isLoaded, loadFilter } from './load.js';
import { RuleSet } from './rules.js';
import { SanityFilter } from './sanity.js';

/** Modules of the chain that still have to be imported. */
export function missingModules(specs: readonly FilterSpec[]): string[] {
  return specs.flatMap((spec) => (spec.kind === 'module' && !isLoaded(spec.url) ? [spec.url] : []));
}

/** Imports every module that the chain needs. */
export async function loadModules(specs: readonly FilterSpec[]): Promise<void> {
  for (const url of missingModules(specs)) await loadFilter(url);
}

/** The chain of a config. Its modules must be loaded. `rules` is the published rule table. */
export function buildChain(
  specs: readonly FilterSpec[],
  rules: Int32Array,
  counters: Float64Array,
  context: Omit<FilterContext, 'options'>,
): FilterChain {
  const stages = specs.map((spec): Stage => {
    switch (spec.kind) {
      case 'sanity':
        return { sanity: new SanityFilter(spec.checks, spec.protocols), rules: null, module: null };
      case 'rules':
        return { sanity: null, rules: new RuleSet(rules, counters), module: null };
      case 'module':
        return { sanity: null, rules: null, module: createFilter(spec.url, { ...context, options: spec.options }) };
    }
  });
  return new FilterChain(stages, counters);
}

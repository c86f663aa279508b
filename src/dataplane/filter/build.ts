import type { FilterSpec } from '../../shared/layout.js';
import { FilterChain, type Stage } from './chain.js';
import type { FilterContext, PacketFilter } from './contract.js';
import { createFilter, isLoaded, loadFilter } from './load.js';
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

/** Instances of user modules in use, by the counters of their worker, then by module, options and how often it came before. */
const instances = new WeakMap<Float64Array, ReadonlyMap<string, PacketFilter>>();

/**
 * The chain of a config. Its modules must be loaded. `rules` is the published rule table; `counters` are the worker's own.
 *
 * A chain is built for every publication, a backend's new hardware address among them. So a module whose file and options are as
 * before keeps its instance, and with it what the filter has learnt.
 */
export function buildChain(
  specs: readonly FilterSpec[],
  rules: Int32Array,
  counters: Float64Array,
  context: Omit<FilterContext, 'options'>,
): FilterChain {
  const before = instances.get(counters);
  const now = new Map<string, PacketFilter>();
  const moduleFilter = (url: string, options: unknown): PacketFilter => {
    const base = `${url}\n${JSON.stringify(options)}`;
    let key = base;
    for (let i = 1; now.has(key); i++) key = `${base}\n${i}`;
    const filter = before?.get(key) ?? createFilter(url, { ...context, options });
    now.set(key, filter);
    return filter;
  };
  const stages = specs.map((spec): Stage => {
    switch (spec.kind) {
      case 'sanity':
        return { sanity: new SanityFilter(spec.checks, spec.protocols), rules: null, module: null };
      case 'rules':
        return { sanity: null, rules: new RuleSet(rules, counters), module: null };
      case 'module':
        return { sanity: null, rules: null, module: moduleFilter(spec.url, spec.options) };
    }
  });
  const chain = new FilterChain(stages, counters);
  instances.set(counters, now);
  return chain;
}

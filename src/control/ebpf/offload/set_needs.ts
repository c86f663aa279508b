/** Which sets the kernel has to have for some tables. */
import type { Tables } from '../../../shared/layout.js';
import { SetSides } from '../../../shared/sets/index.js';
import { planOffload } from './plan.js';
import { LOOKUPS_MOST } from './set_lookup.js';
import type { KernelSet } from './set_maps.js';

/** Entries of set_counters. */
export const MAX_SETS_COUNTED = 4096;

export type NeedingTables = Pick<
  Tables,
  'rules' | 'programs' | 'ruleSets' | 'sets' | 'setDrops' | 'setAllows' | 'setClock' | 'mitigation'
>;

export interface SetNeeds {
  /** In Tables.sets. */
  readonly positions: readonly number[];
  /** Something is dropped in the kernel, if the sets are there. */
  readonly drops: boolean;
  /** More sets stand before the rules than a program has room for. */
  readonly crowded: boolean;
}

const known = new WeakMap<object, SetNeeds>();

/** Of tables whose rules may be in the kernel. */
export function setNeeds(tables: NeedingTables): SetNeeds {
  let needs = known.get(tables);
  if (needs === undefined) known.set(tables, (needs = find(tables)));
  return needs;
}

function find(tables: NeedingTables): SetNeeds {
  const sets = tables.sets.map((_, id): KernelSet => ({ ...ANY, id }));
  const allow = tables.setAllows.map((position) => ({ set: sets[position], sides: SetSides.source }));
  const drops = tables.setDrops.map(({ set, sides }) => ({ set: sets[set], sides }));
  const asked = new Set([...allow, ...drops].map(({ set, sides }) => `${set.id} ${sides}`));
  if (asked.size + (tables.mitigation.allow === null ? 0 : 1) > LOOKUPS_MOST) {
    return { positions: [], drops: false, crowded: true };
  }
  const { records, lookups } = planOffload(tables, new Set(), { sets, allow, drops, counters: -1, zeroNs: 0n });
  const last = records.findLastIndex(({ step }) => step !== 'leave' && step !== 'mark');
  if (last < 0 && drops.length === 0) return { positions: [], drops: false, crowded: false };
  const inRules = records.slice(0, last + 1).flatMap((record) => record.lookups.map((i) => lookups[i].set.id));
  const before = [...allow, ...drops].map(({ set }) => set.id);
  return { positions: [...new Set([...before, ...inRules])], drops: true, crowded: false };
}

/** What a plan asks of a set. */
const ANY: KernelSet = { id: -1, type: 'hash:net', ends: true, counts: true, slot: -1, ipv4: null, ipv6: null };

/** Which sets are in the kernel: those that the tables in force want there, and those of the tables that are to come. */
import { native, type BpfMap } from '../../native.js';
import { MapType } from '../ebpf/map_type.js';
import { MAX_SETS_COUNTED, setNeeds, type NeedingTables } from '../ebpf/offload/set_needs.js';
import { SET_COUNTER_BYTES, type KernelSet, type KernelSets, type SetLookup } from '../ebpf/offload/set_maps.js';
import { encodeU32, sumPerCpu } from '../bpf_layout.js';
import { SetSides } from '../../shared/sets/index.js';
import type { Log } from '../log.js';
import type { IpSet } from '../sets/index.js';
import { AllowMaps, type AllowTable } from './allow_maps.js';
import { zeroNsOf } from './monotonic.js';
import { refusal, SetMirror } from './set_mirror.js';
import { errorText } from './text.js';

/** From the change of a program until no CPU runs the former one any more, ms. */
const RETIRE_MS = 200;

/** A set that the kernel had no room for is tried again with the next change after so many ms. */
const AGAIN_MS = 60_000;

const COPIED = 'is still being copied into the kernel';
const UNASKED = 'no drop in the kernel needs';

/** A set in the kernel, or on its way there. */
interface Kept {
  /** null: the kernel has no room for it. */
  mirror: SetMirror | null;
  /** Why the kernel does not have it, said of it; '' when it does. */
  why: string;
  /** Ends when all entries are there, or it has failed. */
  readonly done: Promise<void>;
  readonly sinceMs: number;
  retiring: NodeJS.Timeout | null;
}

export interface SetAccess {
  /** null: nothing can be dropped in the kernel. */
  readonly sets: KernelSets | null;
  /** Why no rule can be in the kernel, '' when they can. */
  readonly hindrance: string;
  /** Another one when programs have to be made anew. */
  readonly key: string;
}

export interface KernelSetsOptions {
  log: Log;
  /** What `access` says is another, without new tables. */
  changed(): void;
}

/** By name, the sets of tables. */
export type NamedSets = ReadonlyMap<string, IpSet>;

export class KernelSetStore {
  private readonly kept = new Map<IpSet, Kept>();
  private readonly allows = new Map<AllowTable, AllowMaps | string>();
  /** Which set a table of tables was made of. */
  private readonly sources = new WeakMap<object, IpSet>();
  private counters: BpfMap | null = null;
  /** Entry of `counters` by the set's name: they go on over swaps and reloads. */
  private readonly slots = new Map<string, number>();

  constructor(private readonly options: KernelSetsOptions) {}

  /**
   * Brings what these tables want into the kernel, and waits for it, at most `waitMs`; what is not there by then is not in `access`, and `changed` is called
   * when it is.
   */
  async prepare(tables: NeedingTables, sets: NamedSets, waitMs: number): Promise<void> {
    for (const table of tables.sets) {
      const set = sets.get(table.name);
      if (set) this.sources.set(table, set);
    }
    const waited: Promise<void>[] = [];
    for (const position of setNeeds(tables).positions) {
      const table = tables.sets[position];
      const set = this.sources.get(table);
      if (set) waited.push(this.keep(table.name, set).done);
    }
    if (waited.length === 0) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, waitMs)));
    await Promise.race([Promise.all(waited), late]);
    clearTimeout(timer);
  }

  /** What of the tables' sets is in the kernel. */
  access(tables: NeedingTables): SetAccess {
    const needs = setNeeds(tables);
    const { allow } = tables.mitigation;
    if (!needs.drops && !needs.crowded) return { sets: null, hindrance: '', key: '' };
    if (needs.crowded) return { sets: null, hindrance: 'too many sets stand before the rules', key: 'crowded' };
    let counters: number;
    try {
      counters = this.countersMap().fd;
    } catch (error) {
      const hindrance = `the kernel has no room for the counters of sets (${errorText(error).split('\n')[0]})`;
      return { sets: null, hindrance, key: hindrance };
    }
    const wanted = new Set(needs.positions);
    const all = tables.sets.map((table, i) => (wanted.has(i) ? this.kernelSet(table) : UNASKED));
    let hindrance = '';
    const stage = (position: number, sides: SetSides): SetLookup[] => {
      const set = all[position];
      if (typeof set !== 'string') return [{ set, sides }];
      hindrance ||= `the set ${tables.sets[position].name}, which ${set}, stands before the rules`;
      return [];
    };
    const listed = allow && this.allowed(allow);
    if (typeof listed === 'string') hindrance = `the allow list, which ${listed}, stands before the rules`;
    const sets: KernelSets = {
      sets: all,
      allow: [
        ...(listed === null || typeof listed === 'string' ? [] : [{ set: listed, sides: SetSides.source }]),
        ...tables.setAllows.flatMap((position) => stage(position, SetSides.source)),
      ],
      drops: tables.setDrops.flatMap(({ set, sides }) => stage(set, sides)),
      counters,
      zeroNs: zeroNsOf(tables.setClock),
    };
    const parts = all.map((set) => (typeof set === 'string' ? set : [set.id, set.slot]));
    const key = JSON.stringify([parts, tables.setDrops, tables.setAllows, listed === null ? 0 : typeof listed === 'string' ? listed : listed.id]); // prettier-ignore
    return { sets, hindrance, key };
  }

  /** From now on only what these tables want is kept; null: nothing. Their programs are in force. */
  keepOnly(tables: NeedingTables | null): void {
    const needs = tables && setNeeds(tables);
    const wanted = new Set(needs?.positions.map((position) => this.sources.get(tables!.sets[position])));
    for (const [set, kept] of this.kept) {
      if (wanted.has(set) || kept.retiring !== null) continue;
      kept.retiring = setTimeout(() => this.retire(set, kept), RETIRE_MS);
    }
    for (const [list, maps] of this.allows) {
      if (needs?.drops === true && tables!.mitigation.allow === list) continue;
      this.allows.delete(list);
      // Programs that are still there hold on to them.
      if (typeof maps !== 'string') maps.close();
    }
  }

  /** Why a set of the tables is not in the kernel, said of it; '' when it is; null when nothing there asks it. */
  whyNot(tables: NeedingTables, name: string): string | null {
    const position = tables.sets.findIndex((table) => table.name === name);
    if (!setNeeds(tables).positions.includes(position)) return null;
    const set = this.kernelSet(tables.sets[position]);
    return typeof set === 'string' ? set : '';
  }

  /** What the kernel found in sets of that name, of packets that it dropped. */
  matches(name: string): { packets: number; bytes: number } {
    const slot = this.slots.get(name);
    const value = slot === undefined ? null : (this.counters?.lookup(encodeU32(slot)) ?? null);
    const [packets, bytes] = value === null ? [0, 0] : sumPerCpu(value, 2);
    return { packets, bytes };
  }

  /** The programs are gone, and so are the sets. */
  close(): void {
    for (const { mirror, retiring } of this.kept.values()) {
      if (retiring) clearTimeout(retiring);
      mirror?.discard();
    }
    this.kept.clear();
    for (const maps of this.allows.values()) if (typeof maps !== 'string') maps.close();
    this.allows.clear();
    this.counters?.close();
    this.counters = null;
  }

  private keep(name: string, set: IpSet): Kept {
    const known = this.kept.get(set);
    const stale = known?.mirror === null && performance.now() - known.sinceMs > AGAIN_MS;
    if (known !== undefined && !stale) {
      if (known.retiring !== null) clearTimeout(known.retiring);
      known.retiring = null;
      return known;
    }
    const kept = this.begin(name, set);
    this.kept.set(set, kept);
    return kept;
  }

  private begin(name: string, set: IpSet): Kept {
    const { log, changed } = this.options;
    const sinceMs = performance.now();
    const refused = (why: string, error: unknown): void => {
      const { code } = error as { code?: string };
      log.warn('a set is not in the kernel', { set: name, code, message: errorText(error).split('\n')[0], why });
    };
    let mirror: SetMirror;
    const failed = (why: string, error: unknown): void => {
      kept.mirror = null;
      kept.why = why;
      refused(why, error);
      changed();
      // Its programs are on their way out.
      setTimeout(() => void mirror.close(), RETIRE_MS);
    };
    try {
      mirror = new SetMirror(set, { changed, failed });
    } catch (error) {
      const why = refusal(error);
      refused(why, error);
      return { mirror: null, why, done: Promise.resolve(), sinceMs, retiring: null };
    }
    const filled = async (): Promise<void> => {
      await mirror.fill();
      if (!mirror.filled) return;
      kept.why = '';
      const ms = Math.round(performance.now() - sinceMs);
      log.debug('a set is in the kernel', { set: set.options.name, entries: set.count, ms });
      changed();
    };
    const kept: Kept = { mirror, why: COPIED, done: Promise.resolve().then(filled), sinceMs, retiring: null };
    return kept;
  }

  private retire(set: IpSet, kept: Kept): void {
    if (this.kept.get(set) === kept) this.kept.delete(set);
    void kept.mirror?.close();
  }

  private kernelSet(table: { name: string }): KernelSet | string {
    const set = this.sources.get(table);
    const kept = set && this.kept.get(set);
    if (!kept) return 'is not in the kernel';
    if (kept.mirror === null || kept.why !== '') return kept.why;
    let slot = this.slots.get(table.name);
    if (slot === undefined) {
      if (this.slots.size === MAX_SETS_COUNTED) return 'has no counter left in the kernel';
      this.slots.set(table.name, (slot = this.slots.size));
    }
    return { ...kept.mirror.kernel, slot };
  }

  /** The allow list's prefixes in the kernel, or why they are not. */
  private allowed(list: AllowTable): KernelSet | string {
    let maps = this.allows.get(list);
    if (maps === undefined) {
      try {
        maps = new AllowMaps(list);
      } catch (error) {
        maps = refusal(error);
        this.options.log.warn('the allow list is not in the kernel', { message: errorText(error).split('\n')[0] });
      }
      this.allows.set(list, maps);
    }
    return typeof maps === 'string' ? maps : maps.kernel;
  }

  private countersMap(): BpfMap {
    return (this.counters ??= native().createMap({
      type: MapType.percpuArray,
      name: 'set_counters',
      keySize: 4,
      valueSize: SET_COUNTER_BYTES,
      maxEntries: MAX_SETS_COUNTED,
    }));
  }
}

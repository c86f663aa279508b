/** Sets at run time: those of the configuration and those that operators make, changed while workers look them up. */
import { SluiceError } from '../../errors.js';
import type { Config } from '../../shared/config.js';
import type {
  SetAddDefaults,
  SetChangeResult,
  SetEntry,
  SetListing,
  SetRestoreResult,
  SetSwapResult,
  SetTarget,
  SetTestResult,
} from '../api/contract_sets.js';
import { contentKey, makeSets } from '../set_content.js';
import { SetClock, SetMatches, type SetStock } from '../set_tables.js';
import { readEntry, restoreSets, saveSet, SetRegistry, type IpSet, type SetSurroundings } from '../sets/index.js';
import type { ChangeHost } from './change_host.js';
import { SetReaders, type SetWorker } from './set_readers.js';
import { Uploads } from './uploads.js';

const EXPIRE_MS = 1000;

/** What of the daemon it works on. */
export interface SetHost extends ChangeHost {
  workers(): readonly SetWorker[];
  /** Clock of the workers' bursts, ms in wrapping int32. */
  nowMs(): number;
  /** See RuleOffload. */
  kernelMatches(set: string): { packets: number; bytes: number };
  kernelPlacement(set: string): string | null;
}

/** A registry, and what the configuration filled its sets with: contentKey by name. */
interface Stand {
  registry: SetRegistry;
  filled: ReadonlyMap<string, string>;
}

export class SetControl implements SetTarget, SetStock {
  readonly clock: SetClock;
  readonly matches = new SetMatches();
  private current: Stand;
  /** What is being tried out. */
  private trying: Stand | null = null;
  private readonly readers = new WeakMap<IpSet, SetReaders>();
  /** Sets whose content is not as the configuration filled them. */
  private readonly changed = new WeakSet<IpSet>();
  private readonly uploads = new Uploads();
  private readonly surroundings: SetSurroundings;
  private readonly timer: NodeJS.Timeout;
  private growing = false;

  constructor(private readonly host: SetHost) {
    this.clock = new SetClock(() => host.nowMs());
    this.matches.inKernel = (set) => host.kernelMatches(set);
    this.surroundings = {
      seconds: () => this.clock.seconds(),
      readers: (set) => {
        const readers = new SetReaders(set, () => host.workers());
        this.readers.set(set, readers);
        return readers;
      },
    };
    this.current = { registry: new SetRegistry(this.surroundings), filled: new Map() };
    this.timer = setInterval(() => this.tick(), EXPIRE_MS).unref();
  }

  close(): void {
    clearInterval(this.timer);
    this.uploads.close();
  }

  /** Those of the tables that are built next. */
  sets(): Iterable<[string, IpSet]> {
    return (this.trying ?? this.current).registry.entries();
  }

  publishes(set: IpSet, version: number, generation: number): void {
    this.readers.get(set)?.publishes(version, generation);
  }

  /**
   * From here to `adopt` or `discard`, tables have the sets of this configuration: those that it fills as it did before stay as they are, with what was
   * changed at run time, and so do sets that were made at run time. Throws SluiceError for content that cannot be read.
   */
  prepare(config: Config): void {
    const { registry: before, filled } = this.current;
    const registry = before.copy();
    const wanted = new Map(config.sets.map((set) => [set.name, contentKey(set)]));
    for (const name of filled.keys()) if (!wanted.has(name) && registry.has(name)) registry.destroy(name);
    const fresh = config.sets.filter(({ name }) => filled.get(name) !== wanted.get(name) || !registry.has(name));
    for (const [name, set] of makeSets(fresh, this.surroundings)) registry.put(name, set);
    this.trying = { registry, filled: wanted };
  }

  adopt(): void {
    if (this.trying) this.current = this.trying;
    this.trying = null;
  }

  discard(): void {
    this.trying = null;
    this.current.registry.claim();
  }

  list(): SetListing {
    const configs = new Map(this.host.config().sets.map((set) => [set.name, set]));
    const sets = [...this.current.registry.entries()].map(([name, set]) => {
      const { type, family, maxelem, timeout, counters } = set.options;
      const { packets, bytes } = this.matches.total(name);
      const config = configs.get(name);
      return {
        name,
        type,
        family,
        entries: set.count,
        maxelem,
        timeout,
        counters,
        bytes: set.bytes,
        origin: config === undefined ? ('runtime' as const) : ('config' as const),
        file: config?.source.kind === 'file' ? config.source.path : '',
        changed: this.changed.has(set),
        drop: config?.drop ?? null,
        packets,
        packetBytes: bytes,
        kernel: this.host.kernelPlacement(name),
      };
    });
    return { pid: process.pid, generation: this.host.generation(), sets };
  }

  entries(set: string): SetEntry[] {
    return [...this.get(set).list()];
  }

  add(name: string, entries: readonly string[], defaults: SetAddDefaults): Promise<SetChangeResult> {
    return this.change(name, (set) => {
      this.each(entries, (entry) => {
        const { element, fields } = readEntry(entry);
        set.add(element, { ...defaults, ...fields }, true);
      });
      return entries.length;
    });
  }

  del(name: string, entries: readonly string[], exist: boolean): Promise<SetChangeResult> {
    return this.change(name, (set) => {
      this.each(entries, (entry) => set.del(readEntry(entry).element, exist));
      return entries.length;
    });
  }

  test(set: string, entry: string): SetTestResult {
    return { set, ...this.get(set).find(entry) };
  }

  flush(name: string): Promise<SetChangeResult> {
    return this.change(name, (set) => {
      const { count } = set;
      set.flush();
      return count;
    });
  }

  swap(one: string, other: string): Promise<SetSwapResult> {
    return this.host.serialize(async () => {
      const registry = this.current.registry.copy();
      registry.swap(one, other);
      for (const name of [one, other]) this.changed.add(registry.get(name));
      await this.tryOut(registry);
      return { sets: [one, other], generation: this.host.generation() };
    });
  }

  save(set: string | null): string {
    const { registry } = this.current;
    const names = set === null ? registry.names : [set];
    const taken = new Set(registry.names);
    const lines = names.flatMap((name) => [...saveSet(registry.get(name), taken)]);
    return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
  }

  async restore(part: string, upload: string | null, more: boolean): Promise<SetRestoreResult> {
    const { generation } = this.host;
    const text = this.uploads.take(part, upload, more);
    if (typeof text !== 'string') {
      return { upload: text.upload, sets: [], added: 0, notes: [], generation: generation() };
    }
    return this.host.serialize(async () => {
      const aside = new SetRegistry(this.surroundings);
      const { added, notes } = restoreSets(text, aside, 'ipset save');
      const registry = this.current.registry.copy();
      const sets = aside.names;
      for (const [name, set] of aside.entries()) {
        registry.put(name, set);
        this.changed.add(set);
      }
      if (sets.length > 0) await this.tryOut(registry);
      return { upload: '', sets, added, notes: [...notes], generation: generation() };
    });
  }

  private get(name: string): IpSet {
    return this.current.registry.get(name);
  }

  /** Names the entry that is wrong; those before it stay. */
  private each(entries: readonly string[], work: (entry: string) => void): void {
    for (let i = 0; i < entries.length; i++) {
      try {
        work(entries[i]);
      } catch (error) {
        if (!(error instanceof SluiceError) || entries.length === 1) throw error;
        const done = i === 0 ? 'none was carried out' : `those before it were carried out`;
        throw new SluiceError(
          error.code,
          `entry ${i + 1} of ${entries.length}: ${error.message}; ${done}`,
          error.remedy,
        );
      }
    }
  }

  private change(name: string, work: (set: IpSet) => number): Promise<SetChangeResult> {
    return this.host.serialize(async () => {
      const set = this.get(name);
      let changed: number;
      try {
        this.changed.add(set);
        changed = work(set);
      } finally {
        if (this.readers.get(set)!.behind) await this.host.publish();
      }
      return { set: name, changed, entries: set.count, generation: this.host.generation() };
    });
  }

  /** Puts other sets in force, or throws and leaves those that are. */
  private async tryOut(registry: SetRegistry): Promise<void> {
    this.trying = { registry, filled: this.current.filled };
    try {
      await this.host.publish();
    } catch (error) {
      this.discard();
      await this.host.goBack();
      throw error;
    }
    this.adopt();
  }

  private tick(): void {
    this.clock.seconds();
    const { registry } = this.current;
    registry.expire();
    if (this.growing || ![...registry.entries()].some(([, set]) => this.readers.get(set)!.behind)) return;
    this.growing = true;
    void this.host.serialize(async () => {
      try {
        await this.host.publish();
      } catch (error) {
        this.host.log.limited('set-growth', 0.1).error('workers do not get a set that has grown', { err: error });
      }
      this.growing = false;
    });
  }
}

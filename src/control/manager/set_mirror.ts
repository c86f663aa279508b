/** A copy of a set in maps of the kernel, which goes along with every change. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { native, type BpfMap } from '../../native.js';
import { MapType, NO_PREALLOC } from '../ebpf/map_type.js';
import { hasPortType, isNetType, keyBytes, SetValue, valueBytes, writeKey, type KernelSet } from '../ebpf/offload/set_maps.js'; // prettier-ignore
import type { IpSet, SetObserver } from '../sets/index.js';
import { maskOf } from '../sets/options.js';

/** Most changes of one call into the kernel: some milliseconds of networks. */
const RUN_MOST = 512;

/** How long the control thread fills maps at a stretch, ms. */
const SLICE_MS = 4;

/** Between two looks at the clock. */
const LOOK_EVERY = 128;

/** The kernel counts entries of a hash map by CPU, and so not to the last; a trie has no room to exchange one when it is full. */
const SPARE = 1024;

/** One family's map, and changes that have not gone there yet: all additions, or all removals. */
interface Part {
  readonly family: 4 | 6;
  map: BpfMap;
  readonly keys: Uint8Array;
  readonly keyView: DataView;
  readonly values: Uint8Array;
  readonly valueView: DataView;
  count: number;
  removes: boolean;
}

export interface MirrorEvents {
  /** The maps are others: programs have to be made anew. */
  changed(): void;
  /** The kernel does not take an entry: what is there is of no use any more. `why` is said of the set. */
  failed(why: string, error: unknown): void;
}

let ids = 0;

/**
 * Changes go into the kernel before the code that made them goes on to anything asynchronous, in runs of many: so they are in force there when a command
 * is answered. Counts of entries that are in the kernel's values are part of what the set says of an entry, and become its own at `close`.
 */
export class SetMirror implements SetObserver {
  private readonly parts: Part[] = [];
  private scheduled = false;
  /** The kernel has refused something: the maps are behind, and stay as they are. */
  private broken = false;
  private dead = false;
  private number = ++ids;
  /** All entries are there. */
  filled = false;

  /** Makes the maps, empty. @throws KernelError */
  constructor(
    readonly set: IpSet,
    private readonly events: MirrorEvents,
  ) {
    const { type, counters } = set.options;
    try {
      for (const family of [4, 6] as const) {
        if (set.entriesOf(family) === null) continue;
        const keys = new Uint8Array(RUN_MOST * keyBytes(type, family));
        const values = new Uint8Array(RUN_MOST * valueBytes(counters));
        const [keyView, valueView] = [new DataView(keys.buffer), new DataView(values.buffer)];
        this.parts.push({
          family,
          map: this.newMap(family),
          keys,
          keyView,
          values,
          valueView,
          count: 0,
          removes: false,
        });
      }
    } catch (error) {
      for (const { map } of this.parts) map.close();
      throw error;
    }
    set.observer = this;
  }

  /** What programs are made with, but for the counters. */
  get kernel(): Omit<KernelSet, 'slot'> {
    const { type, timeout, counters } = this.set.options;
    const table = (family: 4 | 6) => {
      const part = this.part(family);
      return part === null ? null : { fd: part.map.fd, mask: maskOf(this.set.options, family) };
    };
    return { id: this.number, type, ends: timeout !== null, counts: counters, ipv4: table(4), ipv6: table(6) };
  }

  /** Copies the entries, in slices between which the thread does other things. Ends early when the mirror fails or is closed. */
  async fill(): Promise<void> {
    let until = performance.now() + SLICE_MS;
    let looked = 0;
    for (const { family } of this.parts) {
      const entries = this.set.entriesOf(family)!;
      for (const entry of entries.entries()) {
        const [words, scope] = [entries.addressOf(entry), entries.scopeOf(entry)];
        // Between two slices it may have gone; what has come since was heard of.
        if (entries.find(words, scope) !== entry) continue;
        this.put(family, words, scope, entries.stateOf(entry));
        if (++looked % LOOK_EVERY !== 0 || performance.now() < until) continue;
        this.flush();
        await nextTurn();
        if (this.stopped) return;
        until = performance.now() + SLICE_MS;
      }
    }
    this.flush();
    this.filled = !this.stopped;
  }

  put(family: 4 | 6, words: ArrayLike<number>, scope: number, state: number): void {
    const part = this.add(family, false, words, scope);
    if (part === null) return;
    const at = (part.count - 1) * valueBytes(this.set.options.counters);
    // The rest of a value is 0, and stays so here.
    part.valueView.setUint32(at + SetValue.state, state, true);
  }

  removed(family: 4 | 6, words: ArrayLike<number>, scope: number): void {
    this.add(family, true, words, scope);
  }

  /** Empty maps take the place of those that are there. */
  cleared(): void {
    if (this.stopped) return;
    const old: BpfMap[] = [];
    try {
      for (const part of this.parts) {
        const map = this.newMap(part.family);
        old.push(part.map);
        part.map = map;
        part.count = 0;
      }
    } catch (error) {
      this.fail(error);
      return;
    } finally {
      // Programs that are loaded hold on to them.
      for (const map of old) map.close();
    }
    this.number = ++ids;
    queueMicrotask(() => {
      if (!this.stopped) this.events.changed();
    });
  }

  counted(family: 4 | 6, words: ArrayLike<number>, scope: number): { packets: number; bytes: number } {
    const part = this.part(family);
    if (part === null || !this.set.options.counters || this.dead) return { packets: 0, bytes: 0 };
    this.flush();
    const value = part.map.lookup(this.keyOf(family, words, scope));
    if (value === null) return { packets: 0, bytes: 0 };
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    return { packets: uint64(view, SetValue.packets), bytes: uint64(view, SetValue.bytes) };
  }

  /** Changes that are still here go into the kernel. */
  flush(): void {
    for (const part of this.parts) this.send(part);
  }

  /** No program has the maps any more, on any CPU: the set takes over what they counted. In slices, as `fill`. */
  async close(): Promise<void> {
    if (this.set.options.counters && !this.dead) await this.credit();
    this.discard();
  }

  /** As `close`, when nobody will ask the set any more. */
  discard(): void {
    if (this.dead) return;
    this.dead = true;
    if (this.set.observer === this) this.set.observer = null;
    for (const { map } of this.parts) map.close();
  }

  private async credit(): Promise<void> {
    let until = performance.now() + SLICE_MS;
    for (const { family, map } of this.parts) {
      const entries = this.set.entriesOf(family)!;
      for (const entry of entries.entries()) {
        const [words, scope] = [entries.addressOf(entry), entries.scopeOf(entry)];
        if (entries.find(words, scope) !== entry) continue;
        if (this.dead) return;
        const { packets, bytes } = this.counted(family, words, scope);
        if (packets > 0) this.set.credit(family, entry, packets, bytes);
        // Who lists the set meanwhile sees them once.
        map.delete(this.keyOf(family, words, scope));
        if (performance.now() < until) continue;
        await nextTurn();
        until = performance.now() + SLICE_MS;
      }
    }
  }

  private get stopped(): boolean {
    return this.broken || this.dead;
  }

  private keyOf(family: 4 | 6, words: ArrayLike<number>, scope: number): Uint8Array {
    const { type } = this.set.options;
    const key = new Uint8Array(keyBytes(type, family));
    writeKey(new DataView(key.buffer), 0, type, family, words, scope);
    return key;
  }

  private part(family: 4 | 6): Part | null {
    return this.parts.find((one) => one.family === family) ?? null;
  }

  /** One more change, by its key; null when there is nothing to be kept any more. */
  private add(family: 4 | 6, removes: boolean, words: ArrayLike<number>, scope: number): Part | null {
    const part = this.part(family);
    if (part === null || this.stopped) return null;
    if (part.count === RUN_MOST || part.removes !== removes) this.send(part);
    if (this.stopped) return null;
    part.removes = removes;
    if (!this.scheduled) {
      this.scheduled = true;
      queueMicrotask(() => {
        this.scheduled = false;
        this.flush();
      });
    }
    const { type } = this.set.options;
    writeKey(part.keyView, part.count++ * keyBytes(type, family), type, family, words, scope);
    return part;
  }

  private send(part: Part): void {
    const { family, map, keys, values, count, removes } = part;
    if (count === 0 || this.stopped) return;
    part.count = 0;
    const { type, counters } = this.set.options;
    const used = keys.subarray(0, count * keyBytes(type, family));
    try {
      if (removes) map.deleteBatch(used);
      else map.updateBatch(used, values.subarray(0, count * valueBytes(counters)));
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    this.broken = true;
    this.events.failed(refusal(error), error);
  }

  private newMap(family: 4 | 6): BpfMap {
    const { type, maxelem, counters } = this.set.options;
    const { capacity } = this.set.entriesOf(family)!;
    return native().createMap({
      type: isNetType(type) ? MapType.lpmTrie : MapType.hash,
      name: `set_${hasPortType(type) ? 'port' : 'addr'}_${family}`,
      keySize: keyBytes(type, family),
      valueSize: valueBytes(counters),
      maxEntries: Math.min(maxelem, capacity) + SPARE,
      flags: NO_PREALLOC,
    });
  }
}

/** Why a set is not in the kernel, said of it. */
export function refusal(error: unknown): string {
  const { code } = error as { code?: string };
  return `does not fit into the kernel${code === undefined ? '' : ` (${code})`}`;
}

function uint64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

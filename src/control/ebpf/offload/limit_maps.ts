/**
 * Where the kernel keeps what limits have been charged: a map a limit, which all interfaces share, and which outlives programs for as long as the limit's
 * options stay, as the limiters of the workers do.
 */
import { native, type BpfMap } from '../../../native.js';
import type { LimitSpec } from '../../../shared/layout.js';
import { HashLimitMode } from '../../../shared/limits/hash_limit.js';
import { TableHeader } from '../../../shared/limits/key_table.js';
import { sumPerCpu } from '../../bpf_layout.js';
import { BtfBuilder } from '../btf.js';
import { MapType, NO_PREALLOC } from '../map_type.js';
import { creditOf } from './limit_credit.js';

/** Value of a map: byte offsets. */
export const enum LimitEntry {
  BYTES = 32,
  /** struct bpf_spin_lock. First: without CAP_PERFMON the verifier grants no arithmetic that leads to it. */
  lock = 0,
  /** uint32: refills that are left. */
  left = 4,
  /** uint64: credit, and when some was added last, ms; 0: never, with the whole credit. */
  credit = 8,
  since = 16,
  /** uint64: when the key is forgotten, ms. */
  expires = 24,
}

/** A limit as the program uses it. */
export interface LimitMap {
  readonly fd: number;
  /** Descriptor of a per-CPU array whose one value, a uint64, counts packets that found a table full. */
  readonly full: number;
  /** When the clock of its collection began, ms of CLOCK_MONOTONIC. */
  readonly baseMs: number;
}

/** Where a program finds the maps of limits. */
export interface LimitSource {
  of(limit: LimitSpec): LimitMap;
}

/** How often entries are looked at, and how many of a map at a time: at least more than collide in one place of its hash, at most some 10 ms. */
const SWEEP_MS = 250;
const SWEEP_LEAST = 256;
const SWEEP_MOST = 65536;

/** 32-bit words of a key: family, then the addresses and the ports that the mode has. */
export function keyWords(mode: number): number {
  const addresses = ((mode & HashLimitMode.srcip) !== 0 ? 1 : 0) + ((mode & HashLimitMode.dstip) !== 0 ? 1 : 0);
  return 1 + addresses * 4 + ((mode & (HashLimitMode.srcport | HashLimitMode.dstport)) !== 0 ? 1 : 0);
}

export class LimitMaps implements LimitSource {
  readonly #maps = new Map<number, { spec: LimitSpec; map: BpfMap; baseMs: number }>();
  #timer: NodeJS.Timeout | null = null;
  #full: BpfMap | null = null;
  #failing = false;

  /**
   * @param failed hears when places cannot be freed, once until they can again
   * @param nowMs CLOCK_MONOTONIC, which bpf_ktime_get_ns reads
   */
  constructor(
    private readonly failed: (error: unknown) => void = () => undefined,
    private readonly nowMs: () => number = () => Number(process.hrtime.bigint() / 1_000_000n),
  ) {}

  /** Makes the map when there is none. @throws KernelError */
  of(spec: LimitSpec): LimitMap {
    let known = this.#maps.get(spec.id);
    if (known === undefined) {
      known = { spec, map: spec.kind === 'hash' ? keyedMap(spec) : singleMap(spec), baseMs: this.nowMs() };
      this.#maps.set(spec.id, known);
      this.#timer ??= setInterval(() => this.#trySweep(), SWEEP_MS).unref();
    }
    const sizes = { keySize: 4, valueSize: 8, maxEntries: 1 };
    this.#full ??= native().createMap({ type: MapType.percpuArray, name: 'limit_full', ...sizes });
    return { fd: known.map.fd, full: this.#full.fd, baseMs: known.baseMs };
  }

  /** Packets that were dropped because a limit's table was full, since this was made. */
  get tableFull(): number {
    const value = this.#full?.lookup(new Uint8Array(4));
    return value ? sumPerCpu(value, 1)[0] : 0;
  }

  /** Lets go of the others: programs that use them still do. */
  keepOnly(limits: readonly LimitSpec[]): void {
    for (const [id, { map }] of this.#maps) {
      if (limits.some((spec) => spec.id === id)) continue;
      this.#maps.delete(id);
      map.close();
    }
    if (this.#maps.size === 0) this.#stop();
  }

  /**
   * Frees the places of keys that are forgotten, in a part of each map. To the program they are forgotten already, so a packet that comes in between
   * loses nothing.
   */
  sweep(): void {
    const now = this.nowMs();
    for (const { spec, map, baseMs } of this.#maps.values()) {
      if (spec.kind !== 'hash') continue;
      const { gcIntervalMs } = spec.shared.run;
      const slices = Math.max(1, Math.floor(gcIntervalMs / SWEEP_MS));
      const count = Math.min(Math.max(Math.ceil(map.maxEntries / slices), SWEEP_LEAST), SWEEP_MOST);
      map.deleteUpTo(LimitEntry.expires, now - ((now - baseMs) % gcIntervalMs), count);
    }
  }

  /** Keys of a limit now; for tests. */
  count(spec: LimitSpec): number {
    return this.#maps.get(spec.id)?.map.keys().length ?? 0;
  }

  close(): void {
    this.keepOnly([]);
    this.#full?.close();
    this.#full = null;
  }

  #trySweep(): void {
    try {
      this.sweep();
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.failed(error);
      this.#failing = true;
    }
  }

  #stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}

function keyedMap({ shared: { run, table } }: LimitSpec & { kind: 'hash' }): BpfMap {
  const words = keyWords(run.mode);
  return native().createMap({
    ...{ type: MapType.hash, name: 'limit', keySize: words * 4, valueSize: LimitEntry.BYTES, flags: NO_PREALLOC },
    maxEntries: new Int32Array(table)[TableHeader.capacity],
    btf: entryTypes(words),
  });
}

function singleMap(spec: LimitSpec): BpfMap {
  const sizes = { keySize: 4, valueSize: LimitEntry.BYTES, maxEntries: 1 };
  const map = native().createMap({ type: MapType.array, name: 'limit', ...sizes, btf: entryTypes(0) });
  const value = new Uint8Array(LimitEntry.BYTES);
  new BigUint64Array(value.buffer)[LimitEntry.credit / 8] = creditOf(spec)!.cap;
  map.update(new Uint8Array(4), value);
  return map;
}

/** `words` of the key, 0: an array's index. */
function entryTypes(words: number): { types: Uint8Array; key: number; value: number } {
  const btf = new BtfBuilder();
  const u32 = btf.int('u32', 4);
  const u64 = btf.int('u64', 8);
  const key = words === 0 ? u32 : btf.array(u32, u32, words);
  // The kernel knows it by this name.
  const lock = btf.struct('bpf_spin_lock', 4, [{ name: 'val', type: u32, offset: 0 }]);
  const value = btf.struct('limit', LimitEntry.BYTES, [
    { name: 'lock', type: lock, offset: LimitEntry.lock },
    { name: 'left', type: u32, offset: LimitEntry.left },
    { name: 'credit', type: u64, offset: LimitEntry.credit },
    { name: 'since', type: u64, offset: LimitEntry.since },
    { name: 'expires', type: u64, offset: LimitEntry.expires },
  ]);
  return { types: btf.build(), key, value };
}

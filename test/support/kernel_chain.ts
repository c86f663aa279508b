/** One chain of sets and rules twice: as workers run it, and as the kernel's program with its maps. */
import { Assembler, encode } from '../../src/control/ebpf/assembler.js';
import type { Access } from '../../src/control/ebpf/from_cbpf.js';
import { Alu, Reg } from '../../src/control/ebpf/instruction.js';
import { Copy } from '../../src/control/ebpf/offload/kinds.js';
import { planOffload } from '../../src/control/ebpf/offload/plan.js';
import { COUNTER_BYTES, emitRules } from '../../src/control/ebpf/offload/rules_program.js';
import type { SanityBefore } from '../../src/control/ebpf/offload/sanity.js';
import { SET_COUNTER_BYTES, type KernelSets } from '../../src/control/ebpf/offload/set_maps.js';
import { encodeU32, sumPerCpu } from '../../src/control/bpf_layout.js';
import { AllowMaps } from '../../src/control/manager/allow_maps.js';
import { SetMirror } from '../../src/control/manager/set_mirror.js';
import { RuleShelf, type RuleTables } from '../../src/control/rule_tables.js';
import type { IpSet } from '../../src/control/sets/index.js';
import { buildChain } from '../../src/dataplane/filter/build.js';
import type { FilterChain } from '../../src/dataplane/filter/chain.js';
import { NO_MITIGATION } from '../../src/dataplane/filter/mitigation.js';
import { AllowList } from '../../src/dataplane/mitigate/allow_list.js';
import { native, type BpfMap, type BpfProgram } from '../../src/native.js';
import { parsePrefix } from '../../src/shared/addr.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { CounterBlock, RuleCounter, type FilterSpec, type Tables } from '../../src/shared/layout.js';
import { buildLpm } from '../../src/shared/lpm.js';
import { sidesOf } from '../../src/shared/set_config.js';
import { SetSides, type SetDrop, type SetTable } from '../../src/shared/sets/index.js';
import { parsed } from './packets.js';

/** Second of the sets' clock at which packets come. */
export const NOW = 1000;

const PERCPU_ARRAY = 6;
const [DROPPED, LEFT] = [1, 2];

export interface ChainParts {
  sets: readonly IpSet[];
  rules?: readonly RuleConfig[];
  sanity?: SanityBefore | null;
  /** Prefixes. */
  allow?: readonly string[];
  /** Positions in `sets`. */
  allowSets?: readonly number[];
  drops?: readonly SetDrop[];
}

/** The data plane's chain of one worker. */
class WorkerChain {
  private readonly block = new Float64Array(CounterBlock.SIZE);
  private readonly chain: FilterChain;

  constructor(
    private readonly parts: ChainParts,
    private readonly sets: readonly SetTable[],
    private readonly worker: number,
    tables: Parameters<typeof buildChain>[0],
    allow: AllowList | null,
  ) {
    const mitigation = { ...NO_MITIGATION, allow };
    this.chain = buildChain(tables, this.block, { worker, nowMs: () => NOW * 1000 + 50, mitigation });
  }

  /** DropReason, 0: none. What the parser refuses, the chain does not see. */
  run(frame: Uint8Array): number {
    const packet = parsed(frame);
    if (packet.malformed !== 0) return 0;
    return this.chain.run(packet, NOW * 1000) === -1 ? 0 : this.chain.reason;
  }

  /** Of rules in the order of RuleCounter, of sets packets and bytes, and the same of each of their entries. */
  counts(): number[] {
    const rules = (this.parts.rules ?? []).length * RuleCounter.SIZE;
    const counts = [...this.block.slice(CounterBlock.rules, CounterBlock.rules + rules)];
    this.sets.forEach(({ matches, counters }, i) => {
      counts.push(...new Float64Array(matches[this.worker]));
      const own = counters[this.worker];
      if (own === null) return;
      for (const [family, shared] of [[4, own.ipv4], [6, own.ipv6]] as const) {
        counts.push(...new Float64Array(shared!).slice(2, 2 * this.parts.sets[i].entriesOf(family)!.top));
      }
    }); // prettier-ignore
    return counts;
  }
}

export class UserChain {
  readonly tables: RuleTables;
  readonly allow: {
    ipv4: SharedArrayBuffer | null;
    ipv6: SharedArrayBuffer | null;
    prefixes: ReturnType<typeof parsePrefix>[];
  };
  /** All in user space; and what the kernel leaves. */
  readonly whole: WorkerChain;
  readonly rest: WorkerChain;
  private readonly sets: SetTable[];

  constructor(readonly parts: ChainParts) {
    this.sets = parts.sets.map((set) => ({
      name: set.options.name,
      buffers: set.buffers,
      counters: [0, 1].map((worker) => set.countersFor(worker)),
      matches: [0, 1].map(() => new SharedArrayBuffer(16)),
    }));
    const names = new Map(this.sets.map(({ name }, i) => [name, i]));
    this.tables = new RuleShelf().build(parts.rules ?? [], (name) => Number(name), {
      sets: this.sets,
      set: ({ name, key }) => ({ index: names.get(name)!, key: sidesOf(key) }),
    });
    const prefixes = (parts.allow ?? []).map((text) => parsePrefix(text));
    this.allow = { prefixes, ipv4: lpmOf(prefixes, 4), ipv6: lpmOf(prefixes, 6) };
    const allow = prefixes.length === 0 ? null : new AllowList(this.allow);
    const [whole, rest] = [0, 1].map((worker) => new WorkerChain(parts, this.sets, worker, this.chainTables(), allow));
    [this.whole, this.rest] = [whole, rest];
  }

  private chainTables(): Parameters<typeof buildChain>[0] {
    const { sanity, drops = [], allowSets = [] } = this.parts;
    const checks: FilterSpec[] = sanity
      ? [{ kind: 'sanity', checks: [...sanity.checks], protocols: sanity.protocols && [...sanity.protocols] }]
      : [];
    const setClock = new SharedArrayBuffer(8);
    return {
      ...this.tables,
      filters: [...checks, { kind: 'rules' }],
      setDrops: [...drops],
      setAllows: [...allowSets],
      setClock,
    };
  }

  /** Packets that were found in sets, by the chain that has all. */
  matches(): number {
    return this.sets.reduce((sum, { matches }) => sum + new Float64Array(matches[0])[0], 0);
  }
}

function lpmOf(prefixes: readonly ReturnType<typeof parsePrefix>[], family: 4 | 6): SharedArrayBuffer | null {
  const some = prefixes.filter((prefix) => prefix.family === family);
  if (some.length === 0) return null;
  const words = buildLpm(some.map(({ words, length }) => ({ words, length, value: 0 })), family); // prettier-ignore
  const shared = new SharedArrayBuffer(words.byteLength);
  new Int32Array(shared).set(words);
  return shared;
}

/** The kernel's half of a chain. */
export class KernelChain {
  private program: BpfProgram | null = null;
  private readonly ruleCounters: BpfMap;
  private readonly setCounters: BpfMap;
  private readonly copies: BpfMap;
  private readonly allow: AllowMaps;
  private zeroNs = 0n;

  private constructor(
    private readonly chain: UserChain,
    private readonly mirrors: readonly SetMirror[],
    private readonly access: Access,
  ) {
    const array = (valueSize: number, maxEntries: number): BpfMap =>
      native().createMap({ type: PERCPU_ARRAY, name: 'test_chain', keySize: 4, valueSize, maxEntries });
    this.ruleCounters = array(COUNTER_BYTES, Math.max(1, (chain.parts.rules ?? []).length));
    this.setCounters = array(SET_COUNTER_BYTES, Math.max(1, mirrors.length));
    this.copies = array(Copy.SIZE, 1);
    this.allow = new AllowMaps(chain.allow as NonNullable<Tables['mitigation']['allow']>);
  }

  static async load(chain: UserChain, access: Access): Promise<KernelChain> {
    const failed = (why: string, error: unknown): void => {
      throw new Error(why, { cause: error });
    };
    const mirrors = chain.parts.sets.map((set) => new SetMirror(set, { changed: () => undefined, failed }));
    for (const mirror of mirrors) await mirror.fill();
    const kernel = new KernelChain(chain, mirrors, access);
    kernel.at(NOW + 0.05);
    return kernel;
  }

  /** From here on it is that second of the sets' clock. */
  at(second: number): void {
    this.zeroNs = process.hrtime.bigint() - BigInt(Math.round(second * 1e9));
    this.reload();
  }

  /** With the maps that the mirrors have now. */
  reload(): void {
    this.program?.close();
    const { parts, tables } = this.chain;
    const sets = this.mirrors.map(({ kernel }, slot) => ({ ...kernel, slot }));
    const all: KernelSets = {
      sets,
      allow: [
        { set: this.allow.kernel, sides: SetSides.source },
        ...(parts.allowSets ?? []).map((i) => ({ set: sets[i], sides: SetSides.source })),
      ],
      drops: (parts.drops ?? []).map(({ set, sides }) => ({ set: sets[set], sides })),
      counters: this.setCounters.fd,
      zeroNs: this.zeroNs,
    };
    const asm = new Assembler();
    const end = (action: number): void => {
      asm.alu32(Alu.MOV, Reg.r0, action);
      asm.exit();
    };
    emitRules(asm, planOffload(tables, new Set(), all), {
      access: this.access,
      counters: this.ruleCounters.fd,
      copies: this.copies.fd,
      vips: null,
      sanity: parts.sanity ?? null,
      sets: all,
      dropped: () => end(DROPPED),
      left: () => end(LEFT),
    });
    const instructions = encode(asm.instructions());
    this.program = native().loadProgram({ type: 'xdp', name: 'test_chain', license: 'Apache-2.0', instructions });
  }

  /** Which frames were dropped. */
  run(frames: readonly Uint8Array[]): boolean[] {
    let end = 0;
    const ends = Uint32Array.from(frames, ({ length }) => (end += length));
    return [...this.program!.runFrames(Buffer.concat(frames), ends)].map((verdict) => verdict === DROPPED);
  }

  /** What was changed of the sets goes into the maps, as it does when a command ends. */
  settle(): void {
    for (const mirror of this.mirrors) mirror.flush();
  }

  /** As WorkerChain.counts has them. */
  counts(): number[] {
    const read = (map: BpfMap, index: number, fields: number): number[] =>
      sumPerCpu(map.lookup(encodeU32(index))!, fields);
    const counts = (this.chain.parts.rules ?? []).flatMap((_, i) => read(this.ruleCounters, i, RuleCounter.SIZE));
    this.mirrors.forEach((mirror, i) => {
      counts.push(...read(this.setCounters, i, 2));
      if (!mirror.set.options.counters) return;
      for (const family of [4, 6] as const) {
        const entries = mirror.set.entriesOf(family)!;
        for (let entry = 1; entry < entries.top; entry++) {
          const { packets, bytes } = mirror.counted(family, entries.addressOf(entry), entries.scopeOf(entry));
          counts.push(packets, bytes);
        }
      }
    });
    return counts;
  }

  async close(): Promise<void> {
    this.program?.close();
    for (const mirror of this.mirrors) await mirror.close();
    this.allow.close();
    for (const map of [this.ruleCounters, this.setCounters, this.copies]) map.close();
  }
}

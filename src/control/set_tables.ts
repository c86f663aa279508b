/** Named sets to the part of the tables that is theirs, and what workers count of them. */
import { SluiceError } from '../errors.js';
import type { Config, SetConfig } from '../shared/config.js';
import type { Tables } from '../shared/layout.js';
import { sidesOf } from '../shared/set_config.js';
import { SecondsClock, SetClockWord, type SetTable } from '../shared/sets/index.js';
import { nearest } from './config/nearest.js';
import type { RuleParts } from './rule_tables.js';
import { makeSets } from './set_content.js';
import type { IpSet } from './sets/index.js';

/** Seconds for timeouts, which workers read on from. `nowMs`: the clock of their bursts. */
export class SetClock {
  /** Tables.setClock. */
  readonly shared = new SharedArrayBuffer(SetClockWord.SIZE * Int32Array.BYTES_PER_ELEMENT);
  readonly #words = new Int32Array(this.shared);
  readonly #clock: SecondsClock;

  constructor(private readonly nowMs: () => number) {
    const zeroMs = nowMs() | 0;
    this.#clock = new SecondsClock(0, zeroMs);
    this.#words[SetClockWord.zeroMs] = zeroMs;
  }

  /** The second now. At least once in 24 days. */
  seconds(): number {
    const seconds = this.#clock.advance(this.nowMs());
    Atomics.store(this.#words, SetClockWord.seconds, seconds);
    return seconds;
  }
}

/** Packets that were found in a set, by its name: also when `swap` or a reload put another set under it. */
export class SetMatches {
  readonly #byName = new Map<string, SharedArrayBuffer[]>();
  /** What the kernel has found under a name, as one more worker. */
  inKernel: (name: string) => { packets: number; bytes: number } = () => ({ packets: 0, bytes: 0 });

  /** Of each worker; number `workers` - 1 is the highest. */
  of(name: string, workers: number): SharedArrayBuffer[] {
    const counts = this.#byName.get(name) ?? [];
    this.#byName.set(name, counts);
    while (counts.length < workers) counts.push(new SharedArrayBuffer(2 * Float64Array.BYTES_PER_ELEMENT));
    return counts;
  }

  total(name: string): { packets: number; bytes: number } {
    const total = { ...this.inKernel(name) };
    for (const shared of this.#byName.get(name) ?? []) {
      const [packets, bytes] = new Float64Array(shared);
      total.packets += packets;
      total.bytes += bytes;
    }
    return total;
  }
}

/** Sets to be published. */
export interface SetStock {
  clock: SetClock;
  matches: SetMatches;
  /** By name. */
  sets(): Iterable<[string, IpSet]>;
  /** Is told which version of a set goes out with a generation. */
  publishes?(set: IpSet, version: number, generation: number): void;
}

/** The sets of a configuration where nobody changes them, under a clock of packets that begins at 0 ms. */
export function fixedSets(configs: readonly SetConfig[]): SetStock {
  const clock = new SetClock(() => 0);
  const sets = makeSets(configs, { seconds: () => clock.seconds() });
  return { clock, matches: new SetMatches(), sets: () => sets };
}

export type PublishedSets = Pick<Tables, 'sets' | 'setDrops' | 'setAllows' | 'setClock'>;

interface Shelved {
  set: IpSet;
  version: number;
  workers: number;
  table: SetTable;
}

const NO_CLOCK = new SharedArrayBuffer(SetClockWord.SIZE * Int32Array.BYTES_PER_ELEMENT);

/** Makes the sets' tables; of a set that is as before, the same object as before. */
export class SetShelf {
  #last: ReadonlyMap<string, Shelved> = new Map();

  /** `workers`: their numbers, ascending. Throws SluiceError (SLUICE_CONFIG) for a set that the allow list names and that is not there. */
  build(
    stock: SetStock | undefined,
    { sets: configs, allow }: Pick<Config, 'sets' | 'allow'>,
    workers: readonly number[],
    generation: number,
  ): { tables: PublishedSets; parts: Pick<RuleParts, 'set' | 'sets'> } {
    const shelf = new Map<string, Shelved>();
    for (const [name, set] of stock?.sets() ?? []) {
      const { version } = set;
      const count = (workers.at(-1) ?? 0) + 1;
      const last = this.#last.get(name);
      stock!.publishes?.(set, version, generation);
      if (last?.set === set && last.version === version && last.workers === count) {
        shelf.set(name, last);
        continue;
      }
      const counters = Array.from({ length: count }, (_, worker) => (workers.includes(worker) ? set.countersFor(worker) : null)); // prettier-ignore
      const table = { name, buffers: set.buffers, counters, matches: stock!.matches.of(name, count).slice(0, count) };
      shelf.set(name, { set, version, workers: count, table });
    }
    this.#last = shelf;
    const positions = new Map([...shelf.keys()].map((name, i) => [name, i]));
    const sets = [...shelf.values()].map(({ table }) => table);
    const setDrops = configs.flatMap(({ name, drop }) =>
      drop === null || !positions.has(name) ? [] : [{ set: positions.get(name)!, sides: sidesOf(drop) }],
    );
    const setAllows = allow.sets.map((name) => find(positions, name, 'the allow list'));
    const tables = { sets, setDrops, setAllows, setClock: stock?.clock.shared ?? NO_CLOCK };
    const set: RuleParts['set'] = ({ name, key }, rule) => {
      return { index: find(positions, name, `rule ${rule.name}`), key: sidesOf(key) };
    };
    return { tables, parts: { sets, set } };
  }
}

/** `who` asks for it. */
function find(positions: ReadonlyMap<string, number>, name: string, who: string): number {
  const index = positions.get(name);
  if (index !== undefined) return index;
  const near = nearest(name, [...positions.keys()]);
  const remedy = near === null ? `Sets: ${[...positions.keys()].join(', ') || 'none'}.` : `Did you mean ${near}?`;
  throw new SluiceError('SLUICE_CONFIG', `${who}: there is no set ${name}`, remedy);
}

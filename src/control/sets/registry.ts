/** The sets of a daemon by name. */
import { SluiceError } from '../../errors.js';
import { IpSet, type SetSurroundings } from './ip_set.js';
import { completeOptions, type SetOptions } from './options.js';

type Options = Partial<SetOptions> & Pick<SetOptions, 'name' | 'type'>;

/**
 * Rules name sets, and workers have their buffers: after `swap`, `rename`, `destroy`, or when a set's `version` is another, the sets' buffers are to be
 * handed over again, all with one generation of the tables, so that a swap is one step for every worker.
 */
export class SetRegistry {
  private readonly sets = new Map<string, IpSet>();

  constructor(private readonly surroundings: SetSurroundings) {}

  get names(): string[] {
    return [...this.sets.keys()];
  }

  has(name: string): boolean {
    return this.sets.has(name);
  }

  /** Throws SluiceError (SLUICE_STATE) when there is none of that name. */
  get(name: string): IpSet {
    const set = this.sets.get(name);
    if (set === undefined) {
      throw new SluiceError(
        'SLUICE_STATE',
        `there is no set ${JSON.stringify(name.slice(0, 64))}`,
        `Sets: ${this.names.join(', ') || 'none'}.`,
      );
    }
    return set;
  }

  /** With `exist`, a set of that name and the same options may be there. */
  create(options: Options, exist = false, expected = 0): IpSet {
    const there = this.sets.get(options.name);
    if (there !== undefined) {
      if (exist && sameOptions(there.options, completeOptions(options))) return there;
      throw new SluiceError(
        'SLUICE_STATE',
        `set ${options.name} is there already${exist ? ', with other options' : ''}`,
      );
    }
    const set = new IpSet(options, { ...this.surroundings, expected });
    this.sets.set(options.name, set);
    return set;
  }

  destroy(name: string): void {
    this.get(name);
    this.sets.delete(name);
  }

  rename(from: string, to: string): void {
    const set = this.get(from);
    if (this.sets.has(to)) throw new SluiceError('SLUICE_STATE', `set ${to} is there already`);
    this.put(to, set);
    this.sets.delete(from);
  }

  /** Exchanges the contents of two sets of one type and family: entries, counters and all options. Throws SluiceError (SLUICE_STATE). */
  swap(one: string, other: string): void {
    const a = this.get(one);
    const b = this.get(other);
    if (a.options.type !== b.options.type || a.options.family !== b.options.family) {
      throw new SluiceError(
        'SLUICE_STATE',
        `sets ${one} and ${other} cannot be swapped: ${a.options.type} ${a.options.family}, ${b.options.type} ${b.options.family}`,
        'Type and family must be the same.',
      );
    }
    this.put(other, a);
    this.put(one, b);
  }

  /** Collects what has ended, in all sets; see IpSet.expire. */
  expire(): number {
    let ended = 0;
    for (const set of this.sets.values()) ended += set.expire();
    return ended;
  }

  /** Gives a set a name, which another may have had until now. */
  put(to: string, set: IpSet): void {
    this.sets.set(to, set);
    set.rename(to);
  }

  /** Another registry with the same sets in it: to try out what goes wrong perhaps. Whichever is given up, the other then has to `claim`. */
  copy(): SetRegistry {
    const copy = new SetRegistry(this.surroundings);
    for (const [name, set] of this.sets) copy.sets.set(name, set);
    return copy;
  }

  /** The sets have the names again that this registry knows them by. */
  claim(): void {
    for (const [name, set] of this.sets) set.rename(name);
  }

  /** By name. */
  entries(): IterableIterator<[string, IpSet]> {
    return this.sets.entries();
  }
}

function sameOptions(a: SetOptions, b: SetOptions): boolean {
  return JSON.stringify(inOrder(a)) === JSON.stringify(inOrder(b));
}

function inOrder(options: SetOptions): [string, unknown][] {
  return Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** One set as its single writer has it: entries come and go one by one while workers look up. Semantics are ipset's (ipset(8), net/netfilter/ipset/). */
import { randomInt } from 'node:crypto';
import { SluiceError } from '../../errors.js';
import type { SetBuffers, SetCounters } from '../../shared/sets/layout.js';
import { entryOf, NO_ENTRY, SetView } from '../../shared/sets/set_view.js';
import { elementError, formatElement, parseElement, type Element } from './element_text.js';
import { EntryExtras, type AddFields, type SetEntry } from './entry_extras.js';
import { expand } from './expand.js';
import { checkTimeout, completeOptions, ENTRIES_MOST, hasPortType, isNetType, maskOf, type SetOptions } from './options.js'; // prettier-ignore
import { NO_READERS, type Readers } from './reclaim.js';
import type { EntryTable } from './entry_table.js';
import { SetTable } from './set_table.js';

/** What a set needs of its surroundings. */
export interface SetSurroundings {
  /** Seconds of the clock that workers give their look-ups; see SecondsClock. */
  seconds: () => number;
  /** The workers, or what knows them for a set; NO_READERS where look-ups are made by the writer's own thread. */
  readers?: Readers | ((set: IpSet) => Readers);
  /** Entries that are expected soon. */
  expected?: number;
}

/** Keeps a copy of the entries elsewhere: hears of each change right after it is made. `scope` and `state` as in a record; `words` are read at once. */
export interface SetObserver {
  /** An entry is there, or begins again; its counters are at 0. */
  put(family: 4 | 6, words: ArrayLike<number>, scope: number, state: number): void;
  removed(family: 4 | 6, words: ArrayLike<number>, scope: number): void;
  /** All are gone. */
  cleared(): void;
  /** What was counted there for an entry. */
  counted(family: 4 | 6, words: ArrayLike<number>, scope: number): { packets: number; bytes: number };
}

type Options = Partial<SetOptions> & Pick<SetOptions, 'name' | 'type'>;

/** One family: its table, and what the workers need not see. */
interface Family {
  family: 4 | 6;
  table: SetTable;
  extras: EntryExtras;
}

export class IpSet {
  readonly options: SetOptions;
  private readonly families: Family[];
  private readonly seconds: () => number;
  private readonly isNet: boolean;
  private view: { version: number; view: SetView } | null = null;
  /** Where the next walk for what has ended goes on: family and slot. */
  private cursor = { family: 0, slot: 0 };
  observer: SetObserver | null = null;

  /** Throws SluiceError (SLUICE_FORMAT) for options that do not fit together. */
  constructor(given: Options, { seconds, readers: known = NO_READERS, expected = 0 }: SetSurroundings) {
    const readers = typeof known === 'function' ? known(this) : known;
    const options = (this.options = completeOptions(given));
    this.seconds = seconds;
    this.isNet = isNetType(options.type);
    const wanted =
      options.family === 'both' ? ([4, 6] as const) : [options.family === 'inet' ? (4 as const) : (6 as const)];
    const most = Math.min(options.maxelem, ENTRIES_MOST);
    this.families = wanted.map((family) => {
      const table = new SetTable({
        family,
        isNet: this.isNet,
        hasPort: hasPortType(options.type),
        most,
        expected: Math.min(expected, most),
        mask: maskOf(options, family),
        seed: randomInt(-(2 ** 31), 2 ** 31),
        readers,
      });
      return { family, table, extras: new EntryExtras(table.entries.capacity, options.counters) };
    });
  }

  /** For SetRegistry, which knows sets by name. */
  rename(name: string): void {
    this.options.name = name;
  }

  /** Entries, those included that have ended and are not collected. */
  get count(): number {
    return this.families.reduce((sum, { table }) => sum + table.entries.count, 0);
  }

  /** Bytes of shared memory that hold something. */
  get bytes(): number {
    return this.families.reduce((sum, { table }) => sum + table.bytes, 0);
  }

  /** Changes when workers must get `buffers` again. */
  get version(): number {
    return this.families.reduce((sum, { table }) => sum + table.version, 0);
  }

  /** What workers make their SetView of. */
  get buffers(): SetBuffers {
    const of = (family: 4 | 6) => this.families.find((one) => one.family === family)?.table.buffers ?? null;
    return { version: this.version, type: this.options.type, ipv4: of(4), ipv6: of(6) };
  }

  /** The counters of one worker, the same at each call; null when the set has none. */
  countersFor(worker: number): SetCounters | null {
    if (!this.options.counters) return null;
    const of = (family: 4 | 6) =>
      this.families.find((one) => one.family === family)?.extras.countersFor(worker) ?? null;
    return { ipv4: of(4), ipv6: of(6) };
  }

  /** Those of a family, null: the set has none of it. For who keeps a copy. */
  entriesOf(family: 4 | 6): EntryTable | null {
    return this.families.find((one) => one.family === family)?.table.entries ?? null;
  }

  /** Counts of an entry that come from elsewhere for good. */
  credit(family: 4 | 6, entry: number, packets: number, bytes: number): void {
    this.families.find((one) => one.family === family)?.extras.credit(entry, packets, bytes);
  }

  /**
   * Adds all entries that an element stands for. Throws SluiceError: SLUICE_FORMAT for what cannot be, SLUICE_STATE for an entry that is there (unless
   * `exist`, which gives it the new timeout, nomatch, counters and comment) or when the set is full; the entries before that one stay, as in ipset.
   */
  add(text: string, fields: AddFields = {}, exist = false): void {
    const element = this.parse(text);
    this.checkFields(fields);
    const family = this.familyOf(element);
    const mask = maskOf(this.options, element.family);
    const state = this.stateFor(fields);
    expand(element, this.isNet, mask, (words, scope) => {
      this.checkZero(family, words, scope);
      this.addOne(family, words, scope, state, fields, exist);
    });
  }

  /** Takes all entries out that an element stands for. Throws SluiceError (SLUICE_STATE) for one that is not there, unless `exist`. */
  del(text: string, exist = false): void {
    const element = this.parse(text);
    const family = this.familyOf(element);
    expand(element, this.isNet, maskOf(this.options, element.family), (words, scope) => {
      this.checkZero(family, words, scope);
      const entry = this.findLive(family, words, scope);
      if (entry !== 0) this.drop(family, entry);
      else if (!exist) throw this.stateError(`${this.textOf(family, words, scope)} is not in set ${this.options.name}`);
    });
  }

  /**
   * Whether an address matches, or, of networks with a length, whether that very entry is there. With `nomatch` the question is for an entry of
   * that kind. Counts nothing.
   */
  test(text: string, nomatch = false): boolean {
    const element = this.parse(text);
    const family = this.familyOf(element);
    const isHost = element.length === (element.family === 4 ? 32 : 128);
    if (element.last !== null || element.firstPort !== element.lastPort || !(this.isNet || isHost)) {
      throw elementError(`${JSON.stringify(text)} is more than one element`, 'Ask for one.');
    }
    const [a0, a1, a2, a3] = element.words;
    const key = (element.protocol << 16) | element.firstPort;
    if (!this.isNet || isHost) {
      const result =
        element.family === 4
          ? this.currentView().lookup4(a0, key, this.seconds())
          : this.currentView().lookup6(a0, a1, a2, a3, key, this.seconds());
      return nomatch ? result < NO_ENTRY : result > 0;
    }
    const entry = this.findLive(family, element.words, (element.length << 24) | key);
    return entry !== 0 && ((family.table.entries.stateOf(entry) & 1) === 1) === nomatch;
  }

  /** As `test`, with the entry that decided: one that matches, or a network of `nomatch`; null: none did. */
  find(text: string): { matches: boolean; entry: SetEntry | null } {
    const matches = this.test(text);
    const { family, words, length, protocol, firstPort } = this.parse(text);
    const [a0, a1, a2, a3] = words;
    const port = (protocol << 16) | firstPort;
    const isHost = length === (family === 4 ? 32 : 128);
    let number: number;
    if (isHost) {
      const view = this.currentView();
      const now = this.seconds();
      number = entryOf(family === 4 ? view.lookup4(a0, port, now) : view.lookup6(a0, a1, a2, a3, port, now));
    } else {
      number = this.findLive(this.familyOf(this.parse(text)), words, (length << 24) | port);
    }
    return { matches, entry: number === 0 ? null : this.entry(family, number) };
  }

  flush(): void {
    for (const { table, extras } of this.families) {
      table.clear();
      extras.clear();
    }
    this.observer?.cleared();
  }

  /**
   * From here until the returned function is called, look-ups of networks may not find what is added, which costs a third of adding one by one; it
   * has no effect unless the set is empty.
   */
  startBulk(): () => void {
    for (const { table } of this.families) table.postpone();
    return () => {
      for (const { table } of this.families) table.settle();
    };
  }

  /** Takes out what has ended, looking at so many slots, each time at the next ones. To be called about once a second. Returns how many. */
  expire(slots = 1 << 18): number {
    if (this.options.timeout === null) return 0;
    const now = this.seconds();
    let ended = 0;
    for (let left = slots; left > 0; left--) {
      const family = this.families[this.cursor.family];
      const { entries } = family.table;
      if (this.cursor.slot >= entries.slots.length) {
        const last = this.cursor.family === this.families.length - 1;
        this.cursor = { family: last ? 0 : this.cursor.family + 1, slot: 0 };
        if (last) break;
        continue;
      }
      const entry = entries.entryAt(this.cursor.slot++);
      if (entry === 0 || !hasEnded(entries.stateOf(entry), now)) continue;
      this.drop(family, entry);
      ended++;
    }
    return ended;
  }

  /** All entries that have not ended. Changes while walking may or may not be seen. */
  *list(): Generator<SetEntry> {
    const now = this.seconds();
    for (const family of this.families) {
      for (const entry of family.table.entries.entries()) {
        const state = family.table.entries.stateOf(entry);
        if (!hasEnded(state, now)) yield this.describe(family, entry, state, now);
      }
    }
  }

  /** The entry that a look-up returned; null: there is none (any more). */
  entry(family: 4 | 6, number: number): SetEntry | null {
    const found = this.families.find((one) => one.family === family);
    if (found === undefined || number <= 0 || number >= found.table.entries.top) return null;
    return this.describe(found, number, found.table.entries.stateOf(number), this.seconds());
  }

  private describe(family: Family, entry: number, state: number, now: number): SetEntry {
    const { entries } = family.table;
    const until = state >>> 1;
    const { counters, comment, timeout } = this.options;
    return {
      text: this.textOf(family, entries.addressOf(entry), entries.scopeOf(entry)),
      timeout: timeout === null ? null : until === 0 ? 0 : Math.max(1, until - now - 1),
      nomatch: (state & 1) === 1,
      counters: counters ? this.countedOf(family, entry) : null,
      comment: comment ? family.extras.commentOf(entry) : null,
    };
  }

  private countedOf({ family, table, extras }: Family, entry: number): { packets: number; bytes: number } {
    const { packets, bytes } = extras.counted(entry);
    if (this.observer === null) return { packets, bytes };
    const more = this.observer.counted(family, table.entries.addressOf(entry), table.entries.scopeOf(entry));
    return { packets: packets + more.packets, bytes: bytes + more.bytes };
  }

  private addOne(
    family: Family,
    words: readonly [number, number, number, number],
    scope: number,
    state: number,
    fields: AddFields,
    exist: boolean,
  ): void {
    const { table, extras } = family;
    const entry = this.findLive(family, words, scope);
    if (entry !== 0) {
      if (!exist) throw this.stateError(`${this.textOf(family, words, scope)} is already in set ${this.options.name}`);
      table.setState(entry, state);
      extras.start(entry, fields);
      this.observer?.put(family.family, words, scope, state);
      return;
    }
    if (this.count >= this.options.maxelem || table.entries.count >= ENTRIES_MOST) this.makeRoom(family);
    table.add(words, scope, state, (fresh) => extras.start(fresh, fields));
    this.observer?.put(family.family, words, scope, state);
  }

  /** The kernel has no place for the address 0 in a set of hosts. */
  private checkZero(family: Family, words: readonly [number, number, number, number], scope: number): void {
    if (this.isNet || (words[0] | words[1] | words[2] | words[3]) !== 0) return;
    throw elementError(`${this.textOf(family, words, scope)} cannot be in a set of ${this.options.type}`);
  }

  private makeRoom(family: Family): void {
    const { forceadd, name, maxelem } = this.options;
    this.cursor = { family: 0, slot: 0 };
    if (this.expire(Infinity) > 0) return;
    if (!forceadd) {
      const most = Math.min(maxelem, ENTRIES_MOST);
      throw this.stateError(
        `set ${name} is full: it has ${most} entries`,
        'Make it with a higher maxelem, or with forceadd.',
      );
    }
    const from = family.table.entries.count > 0 ? family : this.families.find(({ table }) => table.entries.count > 0)!;
    const { entries } = from.table;
    let slot = randomInt(entries.slots.length);
    while (entries.entryAt(slot) === 0) slot = (slot + 1) & (entries.slots.length - 1);
    this.drop(from, entries.entryAt(slot));
  }

  private drop({ family, table, extras }: Family, entry: number): void {
    extras.end(entry);
    table.remove(entry);
    // Its record stays as it is until its number is given away.
    this.observer?.removed(family, table.entries.addressOf(entry), table.entries.scopeOf(entry));
  }

  /** The entry, 0 when it is not there; one that has ended goes. */
  private findLive(family: Family, words: ArrayLike<number>, scope: number): number {
    const { entries } = family.table;
    const entry = entries.find(words, scope);
    if (entry === 0 || !hasEnded(entries.stateOf(entry), this.seconds())) return entry;
    this.drop(family, entry);
    return 0;
  }

  private parse(text: string): Element {
    return parseElement(text, this.options.type);
  }

  private familyOf(element: Element): Family {
    const found = this.families.find(({ family }) => family === element.family);
    if (found === undefined) {
      throw elementError(
        `an IPv${element.family} element in set ${this.options.name}, which has family ${this.options.family}`,
      );
    }
    return found;
  }

  private stateFor({ timeout, nomatch }: AddFields): number {
    const seconds = timeout ?? this.options.timeout ?? 0;
    // One more: the second that has begun does not count.
    return ((seconds === 0 ? 0 : this.seconds() + seconds + 1) << 1) | (nomatch ? 1 : 0);
  }

  private checkFields({ timeout, nomatch, packets, bytes, comment }: AddFields): void {
    const { options } = this;
    const without = (what: string) => elementError(`set ${options.name} was made without ${what}`);
    if (timeout !== undefined) {
      if (options.timeout === null) throw without('timeout');
      checkTimeout(timeout);
    }
    if (nomatch && !this.isNet)
      throw elementError(`nomatch is for networks, set ${options.name} is of ${options.type}`);
    if ((packets !== undefined || bytes !== undefined) && !options.counters) throw without('counters');
    if (comment !== undefined && !options.comment) throw without('comment');
  }

  private currentView(): SetView {
    for (const { table } of this.families) table.settle();
    if (this.view?.version !== this.version) this.view = { version: this.version, view: new SetView(this.buffers) };
    return this.view.view;
  }

  private textOf({ family }: Family, words: readonly [number, number, number, number], scope: number): string {
    return formatElement(family, words, scope, this.options.type);
  }

  private stateError(message: string, remedy = ''): SluiceError {
    return new SluiceError('SLUICE_STATE', message, remedy);
  }
}

function hasEnded(state: number, now: number): boolean {
  return state >>> 1 !== 0 && state >>> 1 <= now;
}

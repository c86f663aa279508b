/** The part of the control protocol that is about sets at run time. */
import type { SetEntry } from '../sets/index.js';

export type { SetEntry };

/** Most entries of one request. */
export const MAX_SET_ENTRIES = 50_000;

export interface ListedSet {
  name: string;
  type: string;
  family: string;
  /** Entries, those included that ended within the last second. */
  entries: number;
  maxelem: number;
  /** Seconds, 0: for ever; null: entries do not end. */
  timeout: number | null;
  counters: boolean;
  /** Bytes of shared memory in use. */
  bytes: number;
  origin: 'config' | 'runtime';
  /** Path of the file that the configuration fills it from; '' when it does not. */
  file: string;
  /** Its content was changed since the configuration filled it. */
  changed: boolean;
  /** What packets are dropped by; null: only rules ask it. */
  drop: string | null;
  /** Packets that were found in it, by its name, since the daemon started. */
  packets: number;
  packetBytes: number;
  /** Why the kernel does not have it although rules that run there could ask it; '' when it has it; null: nothing there would ask it. */
  kernel: string | null;
}

export interface SetListing {
  pid: number;
  generation: number;
  sets: ListedSet[];
}

export interface SetChangeResult {
  set: string;
  /** Lines of the request that were carried out. */
  changed: number;
  /** Entries that it has now. */
  entries: number;
  generation: number;
}

export interface SetTestResult {
  set: string;
  matches: boolean;
  /** What decided: the entry that matches, or a network of `nomatch`; null: none. */
  entry: SetEntry | null;
}

export interface SetSwapResult {
  sets: string[];
  generation: number;
}

export interface SetRestoreResult {
  /** To be given with the next part; '' when the text is whole and was carried out. */
  upload: string;
  /** Sets that are new or have new content. */
  sets: string[];
  /** Entries that were added. */
  added: number;
  /** What was left out, by line. */
  notes: { line: number; message: string }[];
  generation: number;
}

/** What an entry is added with that does not say it itself. */
export interface SetAddDefaults {
  timeout?: number;
  nomatch?: boolean;
  comment?: string;
}

/**
 * Changes of the sets: in effect when the answer comes, kept over reloads (but of a set whose file changed, see docs/sets.md), gone with the daemon. Throws
 * SluiceError, SLUICE_STATE for a set that is not there.
 */
export interface SetTarget {
  list(): SetListing;
  entries(set: string): SetEntry[];
  /** Entries as behind the name of an `add` line of ipset; what is there already gets its new fields. Ends at the first that is wrong; those before it are in. */
  add(set: string, entries: readonly string[], defaults: SetAddDefaults): Promise<SetChangeResult>;
  /** Likewise; `exist`: what is not there is no mistake. */
  del(set: string, entries: readonly string[], exist: boolean): Promise<SetChangeResult>;
  test(set: string, entry: string): SetTestResult;
  flush(set: string): Promise<SetChangeResult>;
  /** One step for every worker. */
  swap(one: string, other: string): Promise<SetSwapResult>;
  /** Text of `ipset save`; null: of all sets. */
  save(set: string | null): string;
  /**
   * Text of `ipset save`, in parts when it is long. Its sets are made aside, then put in the place of those of the same name, all with one generation, or
   * none when something is wrong.
   */
  restore(text: string, upload: string | null, more: boolean): Promise<SetRestoreResult>;
}

export interface SetMethods {
  'sets.list': { params: Record<string, never>; result: SetListing };
  'sets.entries': { params: { set: string }; result: { set: string; entries: SetEntry[] } };
  /** Requests with one `bulk`, a name that the client picks, are one line of the audit log, written after the one without `more`. */
  'sets.add': {
    params: { set: string; entries: readonly string[]; bulk?: string; more?: boolean } & SetAddDefaults;
    result: SetChangeResult;
  };
  'sets.del': {
    params: { set: string; entries: readonly string[]; exist?: boolean; bulk?: string; more?: boolean };
    result: SetChangeResult;
  };
  'sets.test': { params: { set: string; entry: string }; result: SetTestResult };
  'sets.flush': { params: { set: string }; result: SetChangeResult };
  'sets.swap': { params: { set: string; with: string }; result: SetSwapResult };
  'sets.save': { params: { set?: string }; result: { text: string } };
  'sets.restore': { params: { text: string; upload?: string; more?: boolean }; result: SetRestoreResult };
}

/** Requests about sets. Each change is a line of the log with `"audit": true`; one made of many requests is one line. */
import { SluiceError } from '../../errors.js';
import type { Log } from '../log.js';
import type { ControlTarget } from './contract.js';
import { MAX_SET_ENTRIES, type SetAddDefaults, type SetMethods, type SetTarget } from './contract_sets.js';
import { onlyKeys, stringParam, type Handler, type Params } from './params.js';

/** Entries in a log line; of more there is only the number. */
const MAX_LOGGED = 20;
/** A change of many requests whose last never comes is logged after this time without another, ms. */
const BULK_IDLE_MS = 5000;

export const SET_HANDLERS: Record<keyof SetMethods, Handler> = {
  'sets.list': (params, target) => (onlyKeys(params, []), setsOf(target).list()),
  'sets.entries'(params, target) {
    onlyKeys(params, ['set']);
    const set = stringParam(params, 'set');
    return { set, entries: setsOf(target).entries(set) };
  },
  async 'sets.add'(params, target, log) {
    onlyKeys(params, ['set', 'entries', 'timeout', 'nomatch', 'comment', 'bulk', 'more']);
    const set = stringParam(params, 'set');
    const entries = entriesParam(params);
    const bulk = bulkParam(params);
    const result = await setsOf(target).add(set, entries, defaultsParam(params));
    audit(log, 'set entries added', set, entries, bulk);
    return result;
  },
  async 'sets.del'(params, target, log) {
    onlyKeys(params, ['set', 'entries', 'exist', 'bulk', 'more']);
    const set = stringParam(params, 'set');
    const entries = entriesParam(params);
    const bulk = bulkParam(params);
    const result = await setsOf(target).del(set, entries, flagParam(params, 'exist'));
    audit(log, 'set entries deleted', set, entries, bulk);
    return result;
  },
  'sets.test'(params, target) {
    onlyKeys(params, ['set', 'entry']);
    return setsOf(target).test(stringParam(params, 'set'), stringParam(params, 'entry'));
  },
  async 'sets.flush'(params, target, log) {
    onlyKeys(params, ['set']);
    const set = stringParam(params, 'set');
    const result = await setsOf(target).flush(set);
    log.info('control: set flushed', { audit: true, set });
    return result;
  },
  async 'sets.swap'(params, target, log) {
    onlyKeys(params, ['set', 'with']);
    const result = await setsOf(target).swap(stringParam(params, 'set'), stringParam(params, 'with'));
    log.info('control: sets swapped', { audit: true, ...result });
    return result;
  },
  'sets.save'(params, target) {
    onlyKeys(params, ['set']);
    return { text: setsOf(target).save(params.set === undefined ? null : stringParam(params, 'set')) };
  },
  async 'sets.restore'(params, target, log) {
    onlyKeys(params, ['text', 'upload', 'more']);
    const { text } = params;
    if (typeof text !== 'string') throw new SluiceError('SLUICE_USAGE', 'parameter "text" must be a string');
    const upload = params.upload === undefined ? null : stringParam(params, 'upload');
    const more = flagParam(params, 'more');
    const result = await setsOf(target).restore(text, upload, more);
    if (!more) {
      const { sets, added, generation } = result;
      log.info('control: sets restored', {
        audit: true,
        sets: sets.slice(0, MAX_LOGGED),
        number: sets.length,
        added,
        generation,
      });
    }
    return result;
  },
};

function setsOf(target: ControlTarget): SetTarget {
  if (target.sets) return target.sets;
  throw new SluiceError('SLUICE_STATE', 'this daemon has no sets');
}

/** Which change of many requests one belongs to, '' for none; and whether another follows. */
interface BulkPart {
  bulk: string;
  more: boolean;
}

interface Bulk {
  number: number;
  entries: string[];
  timer: NodeJS.Timeout;
}

/** Changes of several requests that are under way, by log. */
const bulks = new WeakMap<Log, Map<string, Bulk>>();

function audit(log: Log, what: string, set: string, entries: readonly string[], { bulk, more }: BulkPart): void {
  const open = bulks.get(log) ?? new Map<string, Bulk>();
  bulks.set(log, open);
  const key = `${what} ${set} ${bulk}`;
  const before = open.get(key);
  if (before) clearTimeout(before.timer);
  const number = (before?.number ?? 0) + entries.length;
  const shown = [...(before?.entries ?? []), ...entries.slice(0, MAX_LOGGED)].slice(0, MAX_LOGGED);
  const write = (): void => {
    open.delete(key);
    log.info(`control: ${what}`, { audit: true, set, number, entries: shown });
  };
  if (more) open.set(key, { number, entries: shown, timer: setTimeout(write, BULK_IDLE_MS).unref() });
  else write();
}

function entriesParam({ entries }: Params): string[] {
  if (!Array.isArray(entries) || !(entries as unknown[]).every((entry) => typeof entry === 'string' && entry !== '')) {
    throw new SluiceError('SLUICE_USAGE', 'parameter "entries" must be a list of entries');
  }
  if (entries.length <= MAX_SET_ENTRIES) return entries as string[];
  throw new SluiceError('SLUICE_USAGE', `${entries.length} entries at once`, `Send at most ${MAX_SET_ENTRIES}.`);
}

function flagParam(params: Params, key: string): boolean {
  const value = params[key] ?? false;
  if (typeof value === 'boolean') return value;
  throw new SluiceError('SLUICE_USAGE', `parameter "${key}" must be true or false`);
}

function bulkParam(params: Params): BulkPart {
  const bulk = params.bulk === undefined ? '' : stringParam(params, 'bulk').slice(0, 64);
  return { bulk, more: bulk !== '' && flagParam(params, 'more') };
}

function defaultsParam(params: Params): SetAddDefaults {
  const { timeout, comment } = params;
  if (timeout !== undefined && !(Number.isInteger(timeout) && Number(timeout) >= 0)) {
    throw new SluiceError('SLUICE_USAGE', 'parameter "timeout" must be a whole number of seconds');
  }
  if (comment !== undefined && typeof comment !== 'string') {
    throw new SluiceError('SLUICE_USAGE', 'parameter "comment" must be a string');
  }
  return {
    ...(timeout === undefined ? {} : { timeout: timeout as number }),
    ...(comment === undefined ? {} : { comment }),
    ...(flagParam(params, 'nomatch') ? { nomatch: true } : {}),
  };
}

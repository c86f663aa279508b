/** The part of the schema that says what a set is, and how rules refer to one. */
import { z } from 'zod';
import { isSetKey, type SetKeyName } from '../../shared/set_config.js';
import { TIMEOUT_MOST } from '../sets/index.js';
import { show } from './problem.js';
import * as s from './scalars.js';
import { filled, required, short } from './schema_parts.js';

/** Names as ipset allows them, which are shown in metrics and logs. */
export function readSetName(raw: unknown): string {
  if (typeof raw === 'string' && /^[A-Za-z0-9][A-Za-z0-9._:-]{0,30}$/.test(raw)) return raw;
  throw new s.Refusal(
    `${show(raw)} is not a name for a set`,
    'A name has 1 to 31 letters, digits and ". _ : -", and starts with a letter or digit.',
  );
}

const setName = s.value(readSetName);

const key = s.value((raw): SetKeyName => {
  const text = typeof raw === 'string' ? raw.replaceAll(' ', '') : '';
  if (isSetKey(text)) return text;
  throw new s.Refusal(
    `${show(raw)} is not what a set is asked for`,
    'Write src or dst, or for address and port src,dst.',
  );
});

/** "600", or "10m". */
const seconds = s.value((raw): number => {
  const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86400 };
  const match = typeof raw === 'string' ? /^(\d{1,8}) ?([smhd])$/.exec(raw) : null;
  const value = match !== null ? Number(match[1]) * units[match[2]] : raw;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= TIMEOUT_MOST) return value;
  throw new s.Refusal(
    `${show(raw)} is not a time of 0 to ${TIMEOUT_MOST} seconds`,
    'Write seconds, or 10m; 0: for ever.',
  );
});

/** As it stands behind the name in ipset's add: "192.0.2.0/24 timeout 60". check_sets.ts looks at it. */
const entry = s.value((raw): string => {
  if (typeof raw === 'string' && raw.trim() !== '') return raw;
  throw new s.Refusal(
    `${show(raw)} is not an entry`,
    'Write an address, a network, or both with a port: 192.0.2.1,tcp:80.',
  );
});

export const setSchema = z.strictObject(
  filled({
    name: setName.optional(),
    type: z.enum(['hash:ip', 'hash:net', 'hash:ip,port', 'hash:net,port']).optional(),
    file: s.filePath.optional(),
    entries: z.array(entry).optional(),
    family: z.enum(['inet', 'inet6', 'both']).optional(),
    timeout: seconds.optional(),
    counters: z.boolean().optional(),
    comment: z.boolean().optional(),
    forceadd: z.boolean().optional(),
    maxelem: s.integer(1, 0xffffffff).optional(),
    drop: key.optional(),
  }),
);

export type RawSet = z.output<typeof setSchema>;

/** A set, with what could be read of it. */
export interface RecoveredSet extends Partial<Omit<RawSet, 'entries'>> {
  entries?: (string | undefined)[];
}

const reference = short(
  (raw) => (typeof raw === 'string' ? { name: raw } : raw),
  z.strictObject(filled({ name: required(setName, 'bad'), key: key.default('src') })),
);

/** In a match: "bad", {name: bad, key: dst}, or a list of these, all of which the packet must be in. */
export const setReferences = short((raw) => (Array.isArray(raw) ? raw : [raw]), z.array(reference));

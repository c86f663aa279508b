/** Fields of two configurations beside each other, as sentences. */
import { isDeepStrictEqual } from 'node:util';
import { formatPrefix } from '../../shared/addr.js';
import type { Prefix } from '../../shared/config.js';
import { formatServerId, type ServerId } from '../../shared/server_ids.js';

/** Compares the fields that `keys` names; its values are what they are called in the file. */
export function diffFields<T extends object>(
  path: string,
  old: T,
  next: T,
  keys: Partial<Record<keyof T & string, string>>,
  out: string[],
): void {
  for (const [field, key] of Object.entries(keys) as [keyof T & string, string][]) {
    if (isDeepStrictEqual(old[field], next[field])) continue;
    out.push(`${path}.${key}: ${valueText(old[field])} → ${valueText(next[field])}`);
  }
}

/** A value as a configuration would have it. */
export function valueText(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (Array.isArray(value)) return `[${value.map(valueText).join(', ')}]`;
  if (typeof value !== 'object') return String(value as string | number | boolean);
  if ('text' in value) return 'length' in value ? formatPrefix(value as Prefix) : String(value.text);
  if ('words' in value) return formatServerId(value as ServerId);
  if ('first' in value) return rangeText(value as unknown as { first: number; last: number });
  return `{${Object.entries(value)
    .map(([key, entry]) => `${key}: ${valueText(entry)}`)
    .join(', ')}}`;
}

function rangeText({ first, last }: { first: number; last: number }): string {
  return first === last ? String(first) : `${first}-${last}`;
}

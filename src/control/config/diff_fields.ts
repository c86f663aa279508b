/** Fields of two configurations beside each other, as sentences. */
import { isDeepStrictEqual } from 'node:util';
import { formatPrefix } from '../../shared/addr.js';
import type { Prefix } from '../../shared/config.js';
import { formatRate, type Rate } from '../../shared/limits/rate.js';
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

/** Compares two lists whose entries have unique names, by name. */
export function diffNamed<T extends { name: string }>(
  path: string,
  old: readonly T[],
  next: readonly T[],
  out: string[],
  inside: (before: T, after: T, path: string) => string[] = (_before, _after, path) => [`${path}: changed`],
): void {
  const before = new Map(old.map((entry) => [entry.name, entry]));
  for (const entry of next) {
    const was = before.get(entry.name);
    before.delete(entry.name);
    const at = `${path}[${entry.name}]`;
    if (was === undefined) out.push(`${at}: added`);
    else if (!isDeepStrictEqual(was, entry)) out.push(...inside(was, entry, at));
  }
  for (const name of before.keys()) out.push(`${path}[${name}]: removed`);
}

/** A value as a configuration would have it. */
export function valueText(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (Array.isArray(value)) return `[${value.map(valueText).join(', ')}]`;
  if (typeof value !== 'object') return String(value as string | number | boolean);
  if ('text' in value) return 'length' in value ? formatPrefix(value as Prefix) : String(value.text);
  if ('words' in value) return formatServerId(value as ServerId);
  if ('amount' in value) return formatRate(value as Rate);
  if ('first' in value) return rangeText(value as unknown as { first: number; last: number });
  return `{${Object.entries(value)
    .map(([key, entry]) => `${key}: ${valueText(entry)}`)
    .join(', ')}}`;
}

function rangeText({ first, last }: { first: number; last: number }): string {
  return first === last ? String(first) : `${first}-${last}`;
}

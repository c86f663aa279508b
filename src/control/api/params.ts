/** What a request gives with its method, checked: whoever may write to the socket may write anything. */
import { SluiceError } from '../../errors.js';
import type { Log } from '../log.js';
import { nearest } from '../config/nearest.js';
import type { ControlTarget } from './contract.js';

export type Params = Record<string, unknown>;

/** Checks the params, asks the target, and logs what was changed. */
export type Handler = (params: Params, target: ControlTarget, log: Log) => unknown;

export function onlyKeys(params: Params, known: readonly string[]): void {
  for (const key of Object.keys(params)) {
    if (known.includes(key)) continue;
    const meant = nearest(key, known);
    const remedy = meant === null ? `It takes: ${known.join(', ') || 'none'}.` : `Did you mean "${meant}"?`;
    throw new SluiceError('SLUICE_USAGE', `there is no parameter "${key.slice(0, 64)}"`, remedy);
  }
}

export function stringParam(params: Params, key: string): string {
  const value = params[key];
  if (typeof value === 'string' && value !== '') return value;
  throw new SluiceError('SLUICE_USAGE', `parameter "${key}" must be a non-empty string`);
}

/** Names, at least one, each once. */
export function namesParam(params: Params, key: string): string[] {
  const value = params[key];
  const names = Array.isArray(value) ? (value as unknown[]) : [];
  if (names.length > 0 && names.every((name) => typeof name === 'string' && name !== '')) {
    return [...new Set(names as string[])];
  }
  throw new SluiceError('SLUICE_USAGE', `parameter "${key}" must be a list of names`);
}

export function isObject(value: unknown): value is Params {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What commands that go on printing have in common. */
import { InvalidArgumentError } from 'commander';
import type { Env } from './env.js';
import { print } from './output.js';

/** Seconds between the two readings that rates are made from. */
export const RATE_SECONDS = 0.5;
export const WATCH_SECONDS = 1;

/** Home, then clear to the end: a page that is drawn over does not flicker. */
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

/** One page over the other on a terminal; elsewhere one below the other. */
export function draw(env: Env, lines: readonly string[], first: boolean): void {
  if (!env.isTTY || env.getenv('TERM') === 'dumb') return print(env, ...(first ? [] : ['']), ...lines);
  const clear = first ? `\u001b[2J` : '';
  env.stdout.write(`${clear}${HOME}${lines.map((line) => `${line}${CLEAR_LINE}\n`).join('')}${CLEAR_BELOW}`);
}

/** An option's seconds between readings. */
export function intervalSeconds(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0.1 && value <= 3600))
    throw new InvalidArgumentError('It must be from 0.1 to 3600.');
  return value;
}

/** An option's number of readings. */
export function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('It must be a whole number from 1.');
  return value;
}

import { ChildError } from '../process.js';

/** Runs the compared benches here and in another revision, in turn. */
export function compareWith(revision: string, _options: unknown, _print: (line: string) => void): Promise<number> {
  return Promise.reject(new ChildError(`--compare ${revision}: trials of two revisions in turn are not wired up`));
}

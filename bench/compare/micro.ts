/** The micro benches of two revisions: each file as a whole, in turn. Their bodies check their own results. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MICRO_FILES, microLines } from '../micro/run.js';
import type { Compared, Sides } from './rounds.js';

/** Sources that a revision must have. */
export const MICRO_FILES_NEEDED = ['bench/micro/run.ts', 'bench/micro/harness.ts'];

/** Files that both have. Which rows those have shows when they run. */
export function compareMicro(sides: Sides, seconds: number): Compared[] {
  const script = (benches: string, file: string): string => join(benches, 'micro', `${file}.js`);
  return MICRO_FILES.filter((file) => existsSync(script(sides.before, file))).map((file) => ({
    name: file,
    trial: async (side) => {
      const rows = (await microLines(script(sides[side], file), seconds)).flatMap((line) =>
        'skipped' in line ? [] : [line],
      );
      return new Map(rows.map(({ name, ns }) => [`${file}: ${name}`, ns]));
    },
  }));
}

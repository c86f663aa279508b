/** How long tables take to build, off the path: in a process of its own, pinned as the path is. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Say } from '../bench.js';
import { ChildError, PIN, run } from '../process.js';
import { spread, type Spread } from '../statistics.js';

/** A line of the child. */
export interface BuildLine {
  name: string;
  /** CPU time of the first build in the process, which V8 had not compiled yet, and of those after it, ms. */
  firstMs: number;
  ms: number[];
}

export interface BuildResult extends BuildLine {
  spread: Spread;
}

/** All tables, each built so often, in the order of the child. `small`: without those that take seconds. */
export async function runTables(builds: number, small: boolean, say: Say): Promise<BuildResult[]> {
  const child = join(dirname(fileURLToPath(import.meta.url)), 'child.js');
  const size = small ? 'small' : 'whole';
  const lines = (await run([...PIN, process.execPath, child, String(builds), size]))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as BuildLine);
  if (lines.length === 0) throw new ChildError('bench/tables/child.ts measured nothing');
  say(`${lines.length} tables measured`);
  return lines.map((line) => ({ ...line, spread: spread(line.ms) }));
}

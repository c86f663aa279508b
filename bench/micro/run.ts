/** Runs each micro file in a process of its own: what V8 learns of one's types is not another's business. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Say } from '../bench.js';
import { ChildError, PIN, run } from '../process.js';
import type { MicroLine, MicroResult } from './harness.js';

/** Of this folder, in the order in which they run. */
export const MICRO_FILES = [
  'parse',
  'filter',
  'match',
  'balance',
  'encap',
  'checksum',
  'limits',
  'sets',
  'sets_path',
  'capture',
  'port',
] as const;

export interface MicroRow extends MicroResult {
  file: string;
}

/** All rows, in the order of the files, each for at most so many seconds. What cannot run here is said and left out. */
export async function runMicro(seconds: number, say: Say): Promise<MicroRow[]> {
  const directory = dirname(fileURLToPath(import.meta.url));
  const rows: MicroRow[] = [];
  for (const [n, file] of MICRO_FILES.entries()) {
    const lines = await microLines(join(directory, `${file}.js`), seconds);
    for (const line of lines) {
      if ('skipped' in line) say(`${file}: skipped: ${line.skipped}`);
      else rows.push({ file, ...line });
    }
    say(`${file}: ${lines.filter((line) => !('skipped' in line)).length} measured`, (n + 1) / MICRO_FILES.length);
  }
  return rows;
}

/** What a file prints: its rows, each for at most so many seconds. */
export async function microLines(script: string, seconds: number): Promise<MicroLine[]> {
  const output = await run([...PIN, process.execPath, script, String(seconds)]);
  const lines = output.split('\n').filter((line) => line !== '');
  if (lines.length === 0) throw new ChildError(`${script} measured nothing`);
  return lines.map((line) => JSON.parse(line) as MicroLine);
}

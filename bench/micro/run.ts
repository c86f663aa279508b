/** Runs each micro file in a process of its own: what V8 learns of one's types is not another's business. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Say } from '../bench.js';
import { ChildError, PIN, run } from '../process.js';
import type { MicroLine, MicroResult } from './harness.js';

const FILES = [
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
  for (const [n, file] of FILES.entries()) {
    const command = [...PIN, process.execPath, join(directory, `${file}.js`), String(seconds)];
    const lines = (await run(command))
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as MicroLine);
    if (lines.length === 0) throw new ChildError(`bench/micro/${file}.ts measured nothing`);
    for (const line of lines) {
      if ('skipped' in line) say(`${file}: skipped: ${line.skipped}`);
      else rows.push({ file, ...line });
    }
    say(`${file}: ${lines.filter((line) => !('skipped' in line)).length} measured`, (n + 1) / FILES.length);
  }
  return rows;
}

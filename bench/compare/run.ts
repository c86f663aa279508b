/** `npm run bench -- --compare REVISION`: what this checkout takes as a ratio to another revision, their trials in turn. */
import { writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { EffortName } from '../bench.js';
import { describeMachine, watchNoise } from '../machine.js';
import { Progress } from '../progress.js';
import { machineLines, noiseLines } from '../report.js';
import { formatSpread, formatTable } from '../statistics.js';
import { checkOut, type Needs } from './checkout.js';
import { COMPARED } from './compared.js';
import { compareMicro, MICRO_FILES_NEEDED } from './micro.js';
import { KINDS } from './kinds.js';
import { comparePath } from './path.js';
import { compareRounds, verdict, type Compared, type ComparedRow, type Sides } from './rounds.js';

export interface CompareOptions {
  chosen: readonly { bench: { name: string } }[];
  effort: EffortName;
  threshold: number;
  json: string | null;
}

/** Rounds, how long a trial of the path measures, ms, and a row of micro at most, s. */
const EFFORTS: Readonly<Record<EffortName, { rounds: number; ms: number; seconds: number }>> = {
  full: { rounds: 9, ms: 1000, seconds: 0.3 },
  quick: { rounds: 5, ms: 300, seconds: 0.09 },
  smoke: { rounds: 1, ms: 50, seconds: 0.03 },
};

/** About how long a round of a bench takes beside its trials' own time, s. */
const ROUND_SECONDS: Readonly<Record<string, number>> = { path: 12, ways: 60, filters: 40, micro: 60 };

function needs(names: readonly string[]): Needs {
  const files = names.flatMap((name) => (name in KINDS ? KINDS[name].files : MICRO_FILES_NEEDED));
  return { files, native: names.includes('micro') };
}

/** Returns the exit code: 1 when a case became slower. @throws ChildError where the revision cannot be built or has no such bench */
export async function compareWith(
  name: string,
  { chosen, effort, threshold, json }: CompareOptions,
  print: (line: string) => void,
): Promise<number> {
  const names = COMPARED.filter((each) => chosen.some(({ bench }) => bench.name === each));
  const { rounds, ms, seconds } = EFFORTS[effort];
  const machine = describeMachine();
  for (const line of machineLines(machine)) print(line);
  const before = await checkOut(name, needs(names), print);
  const after = dirname(dirname(fileURLToPath(import.meta.url)));
  const progress = new Progress(names.map((each) => ({ name: each, seconds: ROUND_SECONDS[each] * rounds })));
  const noise = watchNoise();
  const rows: ComparedRow[] = [];
  for (const bench of names) {
    print(`\n${progress.next()}`);
    const sides: Sides = { before: before.benches, after };
    const all = await casesOf(bench, sides, ms, seconds);
    for (const [n, compared] of all.entries()) {
      rows.push(...(await compareRounds(compared, rounds)));
      progress.reach((n + 1) / all.length);
      print(`${progress.stamp} ${compared.name}: ${rounds} rounds`);
    }
  }
  const observed = noise();
  print(`\n${compareTable(rows, `${name} (${before.commit.slice(0, 12)})`, threshold)}`);
  for (const line of noiseLines(observed)) print(line);
  if (json !== null) {
    const report = { revision: name, commit: before.commit, machine, noise: observed, effort, threshold, rows };
    writeFileSync(json, `${JSON.stringify(report, null, 1)}\n`);
    print(`written to ${json}`);
  }
  if (effort === 'smoke') return 0;
  const slower = rows.filter((row) => verdict(row, threshold) === 'slower');
  for (const row of slower) console.error(`bench: slower than ${name}: ${row.name}: ${formatSpread(row.ratio, 3)}`);
  if (slower.length === 0)
    print(`\nno case is slower than ${name}, by the median above ${threshold} and all rounds above 1`);
  return slower.length > 0 ? 1 : 0;
}

function casesOf(bench: string, sides: Sides, ms: number, seconds: number): Promise<Compared[]> | Compared[] {
  return bench in KINDS ? comparePath(KINDS[bench], sides, ms) : compareMicro(sides, seconds);
}

/** The rows as text. */
export function compareTable(rows: readonly ComparedRow[], before: string, threshold: number): string {
  const cells = rows.map((row) => [
    row.name,
    formatSpread(row.beforeNs, 1),
    formatSpread(row.afterNs, 1),
    formatSpread(row.ratio, 2),
    [verdict(row, threshold), row.note].filter((text) => text !== '').join('; '),
  ]);
  return formatTable([['ns, median [min..max]', before, 'here', 'here / before', ''], ...cells]);
}

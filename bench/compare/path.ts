/** The path of two revisions: their children in turn, each over fixtures that its own revision wrote. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packetsToCompare, type PathCase } from '../path/cases.js';
import { compareFiles } from '../path/compare.js';
import type { FixtureOptions } from '../path/fixture.js';
import { didAsMeant, type Trial } from '../path/run.js';
import { ChildError, PIN, run, temporaryDirectory } from '../process.js';
import type { Compared, Side, Sides } from './rounds.js';

/** What a revision's modules have, as far as it is needed here. */
interface PathModules {
  PATH_CASES: readonly PathCase[];
  wayCases: (smoke: boolean) => readonly PathCase[];
  writeFixture: (path: string, options: FixtureOptions) => void;
}

/** Sources that a revision must have. */
export const PATH_FILES = ['bench/path/child.ts', 'bench/path/cases.ts', 'bench/path/fixture.ts'];

/** Packets that both write before they are timed; all flows of a million would take longer than the rest. */
const MOST_PACKETS = 262_144;

async function modulesOf(benches: string): Promise<PathModules> {
  const load = async (name: string): Promise<Partial<PathModules>> =>
    (await import(pathToFileURL(join(benches, 'path', `${name}.js`)).href)) as Partial<PathModules>;
  const { PATH_CASES, wayCases } = await load('cases');
  const { writeFixture } = await load('fixture');
  if (!PATH_CASES || !wayCases || !writeFixture)
    throw new ChildError(`${benches}: its path bench has other cases and fixtures than this one knows`);
  return { PATH_CASES, wayCases, writeFixture };
}

/** Cases that both have, each ready to be timed. `ways`: those of the bench of ways. */
export async function comparePath(sides: Sides, ways: boolean, ms: number): Promise<Compared[]> {
  const modules = { before: await modulesOf(sides.before), after: await modulesOf(sides.after) };
  const casesOf = (side: Side): readonly PathCase[] =>
    ways ? modules[side].wayCases(false) : modules[side].PATH_CASES;
  const directory = temporaryDirectory();
  const compared: Compared[] = [];
  for (const after of casesOf('after')) {
    const before = casesOf('before').find(({ name }) => name === after.name);
    if (before === undefined) continue;
    const cases = { before, after };
    const stem = join(directory, String(compared.length));
    const fixtures = { before: `${stem}.before`, after: `${stem}.after` };
    const child = (side: Side): string[] => [process.execPath, join(sides[side], 'path/child.js'), fixtures[side]];
    let note = '';
    compared.push({
      names: [after.name],
      prepare: async () => {
        for (const side of ['before', 'after'] as const) modules[side].writeFixture(fixtures[side], cases[side]);
        note = await difference(child, Math.min(packetsToCompare(after), MOST_PACKETS), stem);
      },
      trial: async (side) => {
        const trial = JSON.parse(await run([...PIN, ...child(side), String(ms)])) as Trial;
        if (!(trial.ns > 0) || !didAsMeant(trial, cases[side]))
          throw new ChildError(
            `${after.name}: the trial of ${side} did other work than meant: ${JSON.stringify(trial)}`,
          );
        return new Map([[after.name, trial.ns]]);
      },
      note: () => note,
      done: () => Object.values(fixtures).forEach((fixture) => rmSync(fixture, { force: true })),
    });
  }
  return compared;
}

/** Where the bytes differ that both write; '' where they do not. A change may mean them to. */
async function difference(child: (side: Side) => string[], packets: number, stem: string): Promise<string> {
  const outputs = { before: `${stem}.before.out`, after: `${stem}.after.out` };
  try {
    for (const side of ['before', 'after'] as const)
      await run([...child(side), '--write', outputs[side], String(packets)]);
    const found = compareFiles(outputs.before, outputs.after);
    if (found.bytes === 0) throw new ChildError('nothing was written, so nothing was verified');
    return found.difference === null ? '' : `writes other packets: ${found.difference}`;
  } finally {
    for (const output of Object.values(outputs)) rmSync(output, { force: true });
  }
}

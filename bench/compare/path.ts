/** The path of two revisions: their children in turn, each over fixtures that its own revision wrote. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { compareFiles } from '../path/compare.js';
import { ChildError, PIN, run, temporaryDirectory } from '../process.js';
import type { Kind } from './kinds.js';
import type { Compared, Side, Sides } from './rounds.js';

/** Packets that both write before they are timed; all flows of a million would take longer than the rest. */
const MOST_PACKETS = 262_144;

/** Cases that both have, each trial so many ms of measuring. */
export async function comparePath(kind: Kind, sides: Sides, ms: number): Promise<Compared[]> {
  const [olds, news] = [await kind.casesOf(sides.before), await kind.casesOf(sides.after)];
  const directory = temporaryDirectory();
  return news.flatMap((after, n) => {
    const before = olds.find(({ name }) => name === after.name);
    if (before === undefined) return [];
    const cases = { before, after };
    const place = join(directory, String(n));
    const child = (side: Side): string[] => [process.execPath, join(sides[side], kind.child), join(place, side)];
    let note = '';
    const compared: Compared = {
      name: after.name,
      prepare: async () => {
        mkdirSync(place);
        for (const side of ['before', 'after'] as const) cases[side].write(join(place, side));
        note = await difference(child, Math.min(after.packets, MOST_PACKETS), place);
      },
      trial: async (side) => {
        const line = await run([...PIN, ...child(side), String(ms)]);
        const trial = JSON.parse(line) as { ns: number };
        if (!cases[side].didAsMeant(trial))
          throw new ChildError(`${after.name}: the trial of ${side} did other work than meant: ${line}`);
        return new Map([[after.name, trial.ns]]);
      },
      note: () => note,
      done: () => rmSync(place, { recursive: true, force: true }),
    };
    return [compared];
  });
}

/** Where the bytes differ that both write; '' where they do not. A change may mean them to. */
async function difference(child: (side: Side) => string[], packets: number, place: string): Promise<string> {
  const outputs = { before: join(place, 'before.out'), after: join(place, 'after.out') };
  for (const side of ['before', 'after'] as const)
    await run([...child(side), '--write', outputs[side], String(packets)]);
  const found = compareFiles(outputs.before, outputs.after);
  for (const output of Object.values(outputs)) rmSync(output);
  if (found.bytes === 0) throw new ChildError('nothing was written, so nothing was verified');
  return found.difference === null ? '' : `writes other packets: ${found.difference}`;
}

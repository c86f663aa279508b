/** Runs the cases of filter_cases.ts as run.ts runs those of the path: both sides compared before they are timed, then rounds of one trial of each. */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../src/native.js';
import type { Say } from '../bench.js';
import { ChildError, PIN, run, temporaryDirectory } from '../process.js';
import { formatSpread, spread, type Spread } from '../statistics.js';
import { compareFiles } from './compare.js';
import type { FilterCase } from './filter_cases.js';
import { writeFilterFixture } from './filter_fixture.js';
import { FRAME_BYTES, PLAIN_WAY, outerBytes } from './fixture.js';

/** One trial's line, as both children print it. */
export interface FilterTrial {
  /** Median over the trial's slices, CPU time. */
  ns: number;
  packets: number;
  dropped: number;
  sent: number;
  /** Packets that a rule dropped, that were in the set, and whose flow was known. */
  byRules: number;
  bySet: number;
  hits: number;
}

export interface FilterResult extends FilterCase {
  /** Of what either side wrote in the check. */
  verifiedBytes: number;
  rounds: { typescriptNs: number; cppNs: number; ratio: number }[];
  typescriptNs: Spread;
  cppNs: Spread;
  ratio: Spread;
}

export interface FilterEffort {
  cases: readonly FilterCase[];
  /** One trial of each side a round. */
  rounds: number;
  trialMs: number;
}

type Side = 'typescript' | 'cpp';

/** What packets verdicts are compared of: each flow twice, so that the second finds what the first left. */
export function packetsToCompare({ flows }: FilterCase): number {
  return 2 * flows;
}

/** Size of what each side writes: a byte a packet, the bytes of those that leave, and at the end a word made of what was parsed. */
export function bytesToCompare(bench: FilterCase): number {
  const leaves = bench.ends === 'balancer' ? FRAME_BYTES + outerBytes(PLAIN_WAY) : 0;
  return packetsToCompare(bench) * (1 + leaves) + 4;
}

/** ChildError, with nothing measured, when the reference does not compile or the two sides differ in a case. */
export async function runFilters({ cases, rounds, trialMs }: FilterEffort, say: Say): Promise<FilterResult[]> {
  const directory = temporaryDirectory();
  const sides: Record<Side, string[]> = {
    typescript: [process.execPath, join(dirname(fileURLToPath(import.meta.url)), 'filter_child.js')],
    cpp: [await compile(directory)],
  };
  const fixture = join(directory, 'filters.fixture');
  const results: FilterResult[] = [];
  for (const bench of cases) {
    // One at a time: those of a million flows are large.
    writeFilterFixture(fixture, bench);
    const verifiedBytes = await verify(sides, bench, fixture, directory);
    const done: FilterResult['rounds'] = [];
    for (let n = 0; n < rounds; n++) {
      const ns: Record<Side, number> = { typescript: 0, cpp: 0 };
      const order: Side[] = n % 2 === 1 ? ['cpp', 'typescript'] : ['typescript', 'cpp'];
      for (const side of order) ns[side] = await trial(sides[side], bench, fixture, trialMs, side);
      done.push({ typescriptNs: ns.typescript, cppNs: ns.cpp, ratio: ns.typescript / ns.cpp });
    }
    const ratio = spread(done.map((each) => each.ratio));
    say(`${bench.name}: ${rounds} rounds, ratio ${formatSpread(ratio, 2)}`, (results.length + 1) / cases.length);
    results.push({
      ...bench,
      verifiedBytes,
      rounds: done,
      typescriptNs: spread(done.map((each) => each.typescriptNs)),
      cppNs: spread(done.map((each) => each.cppNs)),
      ratio,
    });
  }
  return results;
}

/** Returns the program's path. */
async function compile(directory: string): Promise<string> {
  const program = join(directory, 'path_filter');
  try {
    await run(['g++', '-O2', '-std=c++17', '-o', program, join(packageRoot, 'bench/reference/path_filter.cc')]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new ChildError('g++ is not installed, and filters are compared with C++. Run: npm run setup');
  }
  return program;
}

/** Both sides write verdicts and packets; returns the bytes that each wrote. */
async function verify(
  sides: Record<Side, string[]>,
  bench: FilterCase,
  fixture: string,
  directory: string,
): Promise<number> {
  const outputs = { typescript: join(directory, 'filters.ts.out'), cpp: join(directory, 'filters.cpp.out') };
  const packets = String(packetsToCompare(bench));
  for (const side of ['typescript', 'cpp'] as const) {
    await run([...sides[side], fixture, '--write', outputs[side], packets]);
  }
  const { bytes, difference } = compareFiles(outputs.typescript, outputs.cpp);
  for (const output of Object.values(outputs)) rmSync(output);
  if (difference !== null) throw new ChildError(`${bench.name}: the two sides do not do the same work: ${difference}`);
  const expected = bytesToCompare(bench);
  if (bytes !== expected) throw new ChildError(`${bench.name}: both sides wrote ${bytes} bytes, not ${expected}`);
  return bytes;
}

async function trial(
  side: readonly string[],
  bench: FilterCase,
  fixture: string,
  trialMs: number,
  name: Side,
): Promise<number> {
  const line = await run([...PIN, ...side, fixture, String(trialMs)]);
  const done = JSON.parse(line) as FilterTrial;
  if (!filtersDidAsMeant(done, bench))
    throw new ChildError(`${bench.name}: the ${name} trial did something else: ${line}`);
  return done.ns;
}

/** Whether every packet of a trial ended where the case has it. */
export function filtersDidAsMeant(trial: FilterTrial, { ends, flows }: FilterCase): boolean {
  const { ns, packets, dropped, sent, byRules, bySet, hits } = trial;
  if (!(ns > 0 && packets > 0)) return false;
  switch (ends) {
    case 'parser':
      return dropped === packets && byRules === 0 && bySet === 0;
    case 'rule':
      return dropped === packets && byRules === packets && bySet === 0;
    case 'set':
      return dropped === packets && byRules === 0 && bySet === packets;
    case 'balancer':
      // Each flow's first packet finds nothing; of a million flows, one or two may push out another. The last burst is looked up, and not settled.
      return sent === packets && byRules === 0 && bySet === 0 && hits > 0 && hits >= packets - flows * 1.001;
  }
}

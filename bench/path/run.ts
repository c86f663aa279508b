/**
 * The path bench: what a packet costs in TypeScript, against the same work in C++ over the same frames and tables, in turn. Each
 * trial is a process of its own; before any of them is timed, both sides must have written the same bytes.
 */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../src/native.js';
import type { Say } from '../bench.js';
import { ChildError, PIN, run, temporaryDirectory } from '../process.js';
import { formatSpread, spread, type Spread } from '../statistics.js';
import { compareFiles } from './compare.js';
import { packetsToCompare, type PathCase } from './cases.js';
import { FRAME_BYTES, outerBytes, writeFixture } from './fixture.js';

/** One trial's line, as both children print it. */
export interface Trial {
  /** Median over the trial's slices, CPU time. */
  ns: number;
  best: number;
  hits: number;
  misses: number;
  /** In the table at the end. */
  flows: number;
  /** Of flows that were still alive. */
  evictions: number;
}

export interface Round {
  typescriptNs: number;
  cppNs: number;
  ratio: number;
}

export interface PathResult extends PathCase {
  /** Of what either side wrote in the check. */
  verifiedBytes: number;
  rounds: Round[];
  typescriptNs: Spread;
  cppNs: Spread;
  ratio: Spread;
}

/** What to measure, and how long. */
export interface PathEffort {
  cases: readonly PathCase[];
  /** One trial of each side a round. */
  rounds: number;
  /** Time that a trial measures for, ms; start-up and warm-up come on top. */
  trialMs: number;
}

type Side = 'typescript' | 'cpp';

/** ChildError, with nothing measured, when the reference does not compile or the two sides differ in a case. */
export async function runCases({ cases, rounds, trialMs }: PathEffort, say: Say): Promise<PathResult[]> {
  const directory = temporaryDirectory();
  const sides = { typescript: typescriptChild(), cpp: [await compileReference(directory)] };
  const ready: { bench: PathCase; fixture: string; verifiedBytes: number }[] = [];
  for (const [n, bench] of cases.entries()) {
    const fixture = join(directory, `${n}.fixture`);
    writeFixture(fixture, bench);
    const verifiedBytes = await verify(sides, bench, fixture, directory);
    say(`${bench.name}: both sides wrote the same ${verifiedBytes.toLocaleString('en')} bytes`);
    ready.push({ bench, fixture, verifiedBytes });
  }
  const results: PathResult[] = [];
  for (const { bench, fixture, verifiedBytes } of ready) {
    const done: Round[] = [];
    for (let n = 0; n < rounds; n++) done.push(await round(sides, bench, fixture, trialMs, n % 2 === 1));
    const ratio = spread(done.map((each) => each.ratio));
    say(`${bench.name}: ${rounds} rounds, ratio ${formatSpread(ratio, 2)}`, (results.length + 1) / ready.length);
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

function typescriptChild(): string[] {
  return [process.execPath, join(dirname(fileURLToPath(import.meta.url)), 'child.js')];
}

/** Returns the program's path. */
async function compileReference(directory: string): Promise<string> {
  const program = join(directory, 'path');
  const source = join(packageRoot, 'bench/reference/path.cc');
  try {
    await run(['g++', '-O2', '-std=c++17', '-o', program, source]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new ChildError(
      'g++ is not installed, and the path is compared with C++. Run: npm run setup (or: npm run bench -- micro)',
    );
  }
  return program;
}

/** Both sides write packets as they leave; returns the bytes that each wrote. */
async function verify(
  sides: Record<Side, string[]>,
  bench: PathCase,
  fixture: string,
  directory: string,
): Promise<number> {
  const outputs = { typescript: join(directory, 'typescript.out'), cpp: join(directory, 'cpp.out') };
  const packets = packetsToCompare(bench);
  for (const side of ['typescript', 'cpp'] as const) {
    await run([...sides[side], fixture, '--write', outputs[side], String(packets)]);
  }
  const { bytes, difference } = compareFiles(outputs.typescript, outputs.cpp);
  for (const output of Object.values(outputs)) rmSync(output);
  if (difference !== null) throw new ChildError(`${bench.name}: the two sides do not do the same work: ${difference}`);
  const expected = packets * (FRAME_BYTES + outerBytes(bench.way));
  if (bytes !== expected) {
    throw new ChildError(`${bench.name}: both sides wrote ${bytes} bytes; ${packets} packets have ${expected}`);
  }
  return bytes;
}

/** One trial of each side, the C++ first when `reversed`: A B B A A B … so that a slow drift meets both alike. */
async function round(
  sides: Record<Side, string[]>,
  bench: PathCase,
  fixture: string,
  trialMs: number,
  reversed: boolean,
): Promise<Round> {
  const ns: Record<Side, number> = { typescript: 0, cpp: 0 };
  const order: Side[] = reversed ? ['cpp', 'typescript'] : ['typescript', 'cpp'];
  for (const side of order) {
    const trial = JSON.parse(await run([...PIN, ...sides[side], fixture, String(trialMs)])) as Trial;
    checkTrial(trial, bench, side);
    ns[side] = trial.ns;
  }
  return { typescriptNs: ns.typescript, cppNs: ns.cpp, ratio: ns.typescript / ns.cpp };
}

/** What was timed did what it was meant to do. */
function checkTrial(trial: Trial, bench: PathCase, side: Side): void {
  if (trial.ns > 0 && didAsMeant(trial, bench)) return;
  const { ns, hits, misses, flows, evictions } = trial;
  throw new ChildError(
    `${bench.name}: the ${side} trial had ${flows} flows, ${hits} hits, ${misses} misses, ${evictions} evictions in ${ns} ns a packet; ` +
      `expected ${bench.flows} flows, each packet a ${bench.finding}`,
  );
}

/** Whether a trial found its flows, or did not, as the case has it. */
export function didAsMeant({ hits, misses, flows, evictions }: Trial, bench: PathCase): boolean {
  switch (bench.finding) {
    case 'hit': {
      // Each flow entered the table once and was found ever after. Of a million, one or two may push out another, which then comes in again.
      const lost = bench.flows - flows;
      const again = misses - bench.flows;
      return hits > 0 && lost >= 0 && lost <= bench.flows / 10_000 && again >= 0 && again <= hits / 1000;
    }
    case 'miss':
      // The table is full, and nothing that it gave up is found.
      return hits <= misses / 1000 && flows > bench.flowSlots * 0.99 && evictions > misses / 2;
    case 'ring':
      return hits === 0 && flows === 0 && misses > 0;
  }
}

/** Names and ratios of the cases above the gate. */
export function aboveGate(results: readonly Pick<PathResult, 'name' | 'ratio'>[], gate: number): string[] {
  return results
    .filter(({ ratio }) => ratio.median > gate)
    .map(({ name, ratio }) => `${name}: ${ratio.median.toFixed(3)} > ${gate}`);
}

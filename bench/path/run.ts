/**
 * The path bench: what a packet costs in TypeScript, against the same work in C++ over the same frames and tables, in turn. Each
 * trial is a process of its own; before any of them is timed, both sides must have written the same bytes.
 */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../src/native.js';
import type { Effort } from '../options.js';
import { ChildError, PIN, run, temporaryDirectory } from '../process.js';
import { formatSpread, formatTable, spread, type Spread } from '../statistics.js';
import { compareFiles } from './compare.js';
import { FRAME_BYTES, writeFixture } from './fixture.js';

export interface PathCase {
  name: string;
  /** A multiple of the burst. */
  flows: number;
  /** Slots of the flow table. */
  flowSlots: number;
}

/** From all in the first-level cache to a table that no cache holds: 64 B × 2 Mi slots. */
export const PATH_CASES: readonly PathCase[] = [
  { name: '64 flows', flows: 64, flowSlots: 65_536 },
  { name: '4,096 flows', flows: 4096, flowSlots: 65_536 },
  { name: '1,000,000 flows', flows: 1_000_000, flowSlots: 2_097_152 },
];

/** Stands for the last in a smoke run: writing and comparing a million packets takes longer than all the rest. */
const SMOKE_CASE: PathCase = { name: '262,144 flows', flows: 262_144, flowSlots: 524_288 };

/** What IP in IP adds to a frame. */
const OUTER_BYTES = 20;

/** One trial's line, as both children print it. */
interface Trial {
  /** Median over the trial's slices, CPU time. */
  ns: number;
  best: number;
  hits: number;
  misses: number;
  /** In the table at the end. */
  flows: number;
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

type Side = 'typescript' | 'cpp';

/** Runs all cases. ChildError, with nothing measured, when the reference does not compile or the two sides differ. */
export async function runPath(effort: Effort, say: (line: string) => void): Promise<PathResult[]> {
  const directory = temporaryDirectory();
  const sides = { typescript: typescriptChild(), cpp: [await compileReference(directory)] };
  const ready: { bench: PathCase; fixture: string; verifiedBytes: number }[] = [];
  for (const bench of effort.name === 'smoke' ? [...PATH_CASES.slice(0, -1), SMOKE_CASE] : PATH_CASES) {
    const fixture = join(directory, `${bench.flows}.fixture`);
    writeFixture(fixture, bench.flows, bench.flowSlots);
    const verifiedBytes = await verify(sides, bench, fixture, directory);
    say(`  ${bench.name}: both sides wrote the same ${verifiedBytes.toLocaleString('en')} bytes`);
    ready.push({ bench, fixture, verifiedBytes });
  }
  const results: PathResult[] = [];
  for (const { bench, fixture, verifiedBytes } of ready) {
    const rounds: Round[] = [];
    for (let n = 0; n < effort.rounds; n++)
      rounds.push(await round(sides, bench, fixture, effort.trialMs, n % 2 === 1));
    const ratio = spread(rounds.map((each) => each.ratio));
    say(`  ${bench.name}: ${effort.rounds} rounds, ratio ${formatSpread(ratio, 2)}`);
    results.push({
      ...bench,
      verifiedBytes,
      rounds,
      typescriptNs: spread(rounds.map((each) => each.typescriptNs)),
      cppNs: spread(rounds.map((each) => each.cppNs)),
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

/** Both sides write every flow's packets as they leave; returns the bytes that each wrote. */
async function verify(
  sides: Record<Side, string[]>,
  { name, flows }: PathCase,
  fixture: string,
  directory: string,
): Promise<number> {
  const outputs = { typescript: join(directory, 'typescript.out'), cpp: join(directory, 'cpp.out') };
  for (const side of ['typescript', 'cpp'] as const) await run([...sides[side], fixture, '--write', outputs[side]]);
  const { bytes, difference } = compareFiles(outputs.typescript, outputs.cpp);
  for (const output of Object.values(outputs)) rmSync(output);
  if (difference !== null) throw new ChildError(`${name}: the two sides do not do the same work: ${difference}`);
  // Each flow once, or several times in turn: its first packet goes another way than the others.
  const once = flows * (FRAME_BYTES + OUTER_BYTES);
  if (bytes === 0 || bytes % once !== 0) {
    throw new ChildError(`${name}: both sides wrote ${bytes} bytes; ${flows} encapsulated packets have ${once}`);
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

/**
 * What was timed did what it was meant to do: each flow entered the table once and was found ever after. Of a million, one or two
 * find their part of the table full and push out another, which then comes in again.
 */
function checkTrial({ ns, hits, misses, flows }: Trial, bench: PathCase, side: Side): void {
  const lost = bench.flows - flows;
  const again = misses - bench.flows;
  if (ns > 0 && hits > 0 && lost >= 0 && lost <= bench.flows / 10_000 && again >= 0 && again <= hits / 1000) return;
  throw new ChildError(
    `${bench.name}: the ${side} trial had ${flows} flows, ${hits} hits, ${misses} misses in ${ns} ns a packet; expected ` +
      `${bench.flows} flows and hardly more misses`,
  );
}

/** The results as text. */
export function pathTable(results: readonly PathResult[]): string {
  const rows = results.map(({ name, typescriptNs, cppNs, ratio }) => [
    name,
    formatSpread(typescriptNs, 1),
    formatSpread(cppNs, 1),
    formatSpread(ratio, 2),
  ]);
  return formatTable([['ns a packet, median [min..max]', 'TypeScript', 'C++', 'ratio a round'], ...rows]);
}

/** Names and ratios of the cases above the gate. */
export function aboveGate(results: readonly PathResult[], gate: number): string[] {
  return results
    .filter(({ ratio }) => ratio.median > gate)
    .map(({ name, ratio }) => `${name}: ${ratio.median.toFixed(3)} > ${gate}`);
}

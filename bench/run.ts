/** `npm run bench`: see USAGE in options.ts, and bench/README.md for what the numbers mean. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/native.js';
import type { EffortName, Rows } from './bench.js';
import { compareWith } from './compare/run.js';
import { describeMachine, watchNoise, type Machine } from './machine.js';
import { parseOptions, USAGE, UsageError, type BenchOptions, type Chosen } from './options.js';
import { ChildError, cleanUpAtExit, run } from './process.js';
import { duration, Progress } from './progress.js';
import { machineLines, noiseLines, render, saveReport, type Report } from './report.js';
import { formatTable } from './statistics.js';

function print(line: string): void {
  console.log(line);
}

/** Without root, benches that need it are left out, unless it is all that was asked for: then the bench says what is wrong. */
function runnable(chosen: readonly Chosen[]): readonly Chosen[] {
  if (chosen.length === 1 || process.geteuid?.() === 0) return chosen;
  for (const { bench } of chosen) if (bench.needsRoot) print(`${bench.name}: left out, it needs root`);
  return chosen.filter(({ bench }) => !bench.needsRoot);
}

async function runOne({ bench, words }: Chosen, effort: EffortName, machine: Machine, progress: Progress) {
  const noise = watchNoise();
  const before = progress.elapsed;
  print(`\n${progress.next()}`);
  const say = (line: string, done?: number): void => {
    if (done !== undefined) progress.reach(done);
    print(`${progress.stamp} ${line}`);
  };
  const results = await bench.run({ effort, words, say });
  const report: Report = {
    bench: bench.name,
    machine,
    effort,
    noise: noise(),
    seconds: progress.elapsed - before,
    results,
  };
  for (const rows of bench.tables(results)) print(`\n${formatTable(rows as Rows)}`);
  for (const line of noiseLines(report.noise)) print(line);
  return report;
}

/** Returns the exit code. A bench that fails does not keep the others from being run. */
async function bench({ chosen, effort, json, save, peers, gate }: BenchOptions): Promise<number> {
  if (peers) await run([process.execPath, join(packageRoot, 'setup.mjs'), '--only', 'peers'], true);
  const machine = describeMachine();
  for (const line of machineLines(machine)) print(line);
  const todo = runnable(chosen);
  const progress = new Progress(todo.map(({ bench: { name, seconds } }) => ({ name, seconds: seconds[effort] })));
  const reports: Report[] = [];
  const failed: string[] = [];
  for (const one of todo) {
    try {
      const report = await runOne(one, effort, machine, progress);
      reports.push(report);
      if (save) saveReport(report);
      const above = gate === null ? [] : (one.bench.aboveGate?.(report.results, gate) ?? []);
      for (const line of above) console.error(`bench: above the gate: ${line}`);
      if (above.length > 0) failed.push(one.bench.name);
    } catch (error) {
      if (!(error instanceof ChildError)) throw error;
      console.error(`bench: ${one.bench.name}: ${error.message}`);
      failed.push(one.bench.name);
    }
  }
  if (effort === 'smoke') print('\nThese are numbers of a smoke run: they show that it runs, nothing else.');
  if (save && reports.length > 0) print(`\nwritten to bench/results/: ${reports.map((report) => `${report.bench}.json`).join(', ')}, ${render().join(', ')}`); // prettier-ignore
  if (json !== null) {
    writeFileSync(json, `${JSON.stringify(reports, null, 1)}\n`);
    print(`\nwritten to ${json}`);
  }
  const times = reports.map((report) => `${report.bench} ${duration(report.seconds ?? 0)}`).join(', ');
  print(`\n${todo.length - failed.length} of ${todo.length} benches in ${duration(progress.elapsed)}: ${times}`);
  if (failed.length > 0) console.error(`bench: failed: ${failed.join(', ')}`);
  return failed.length > 0 ? 1 : 0;
}

async function main(): Promise<number> {
  cleanUpAtExit();
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options === null) {
      print(USAGE);
      return 0;
    }
    if (options.render) {
      print(`written to bench/results/: ${render().join(', ')}`);
      return 0;
    }
    return options.compare === null ? await bench(options) : await compareWith(options.compare, options, print);
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`bench: ${error.message}\n${USAGE}`);
      return 2;
    }
    if (!(error instanceof ChildError)) throw error;
    console.error(`bench: ${error.message}`);
    return 1;
  }
}

process.exitCode = await main();

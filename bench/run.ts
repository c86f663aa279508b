/** `npm run bench`: see USAGE in options.ts, and bench/README.md for what the numbers mean. */
import { writeFileSync } from 'node:fs';
import { describeMachine, noiseWarning, watchNoise, type Machine } from './machine.js';
import { dropTable, runDrop } from './drop/run.js';
import { tablesTable, runTables } from './tables/run.js';
import { microTable, runMicro } from './micro/run.js';
import { parseOptions, USAGE, UsageError, type BenchOptions, type Part } from './options.js';
import { aboveGate, pathTable, runPath, runWays } from './path/run.js';
import { ppsTable, runPps } from './pps/run.js';
import { ChildError, cleanUpAtExit } from './process.js';

function say(line: string): void {
  console.log(line);
}

function heading(machine: Machine): string {
  return [
    `${machine.cpu}, ${machine.cpus} CPUs, ${machine.hypervisor === 'none' ? 'no hypervisor' : machine.hypervisor || 'unknown'}, ` +
      `Linux ${machine.kernel}, huge pages: ${machine.hugepages || 'none'}`,
    `Node ${machine.node} (V8 ${machine.v8}), ${machine.compiler || 'no g++'}; ${machine.pinned ? 'pinned to CPU 1' : 'not pinned'}`,
    `commit ${machine.commit || 'unknown'}${machine.modified ? ' with changes' : ''}, ${machine.date}`,
  ].join('\n');
}

/** Without root it is left out, unless it is all that was asked for: then the bench says what is wrong. */
function mayRun(part: Part, parts: ReadonlySet<Part>, tell: typeof say): boolean {
  const leftOut = parts.has(part) && parts.size > 1 && process.geteuid?.() !== 0;
  if (leftOut) tell(`\n${part}: left out, it needs root`);
  return parts.has(part) && !leftOut;
}

/** Returns the exit code. */
async function bench({ parts, modes, effort, json, gate }: BenchOptions): Promise<number> {
  const machine = describeMachine();
  say(heading(machine));
  const noise = watchNoise();
  const path = parts.has('path') ? (say(`\npath, ${effort.name}:`), await runPath(effort, say)) : [];
  const ways = parts.has('ways') ? (say(`\nways, ${effort.name}:`), await runWays(effort, say)) : [];
  const tables = parts.has('tables') ? (say(`\ntables, ${effort.name}:`), await runTables(effort, say)) : [];
  const micro = parts.has('micro') ? (say(`\nmicro, ${effort.name}:`), await runMicro(effort, say)) : [];
  const drop = mayRun('drop', parts, say) ? (say(`\ndrop, ${effort.name}:`), await runDrop(effort, say)) : [];
  const pps = mayRun('pps', parts, say) ? (say(`\npps, ${effort.name}:`), await runPps(effort, modes, say)) : [];
  const observed = noise();
  if (path.length > 0) say(`\n${pathTable(path)}`);
  if (ways.length > 0) say(`\n${pathTable(ways)}`);
  if (tables.length > 0) say(`\n${tablesTable(tables)}`);
  if (micro.length > 0) say(`\n${microTable(micro)}`);
  if (drop.length > 0) say(`\n${dropTable(drop)}`);
  if (pps.length > 0) say(`\n${ppsTable(pps)}`);
  say(
    `\nload ${observed.loadBefore.toFixed(2)} before, ${observed.loadAfter.toFixed(2)} after; other programs took ` +
      `${observed.others.toFixed(2)} CPUs, the hypervisor ${observed.stolen.toFixed(2)}`,
  );
  const warning = noiseWarning(observed);
  if (warning !== '') say(warning);
  if (effort.name === 'smoke') say('These are numbers of a smoke run: they show that it runs, nothing else.');
  if (json !== null) {
    writeFileSync(
      json,
      `${JSON.stringify({ machine, noise: observed, effort, path, ways, tables, micro, drop, pps }, null, 2)}\n`,
    );
    say(`written to ${json}`);
  }
  const above = gate === null ? [] : aboveGate(path, gate);
  for (const line of above) console.error(`bench: above the gate: ${line}`);
  return above.length > 0 ? 1 : 0;
}

async function main(): Promise<number> {
  cleanUpAtExit();
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options !== null) return await bench(options);
    say(USAGE);
    return 0;
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

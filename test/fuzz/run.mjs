#!/usr/bin/env node
/**
 * Fuzzes the parsers for longer than `npm test` does.
 *
 *   node test/fuzz/run.mjs [--seconds N] [target]…
 *
 * N seconds (60) for each target; all of them without a name. What is found is told with the input, which belongs into test/fuzz/corpus/ then, and with the
 * seed: SEED repeats a run.
 */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
/** By the tier whose test has it. */
const TARGETS = {
  unit: ['bytecode', 'p0f', 'dns', 'iptables', 'ipset', 'tuple', 'config'],
  native: ['expression'],
};

let seconds = 60;
const names = [];
const args = process.argv.slice(2);
for (let i = 0; i < args.length; i++) {
  if (args[i] === '--seconds') seconds = Number(args[++i]);
  else names.push(args[i]);
}
const known = Object.values(TARGETS).flat();
const unknown = names.find((name) => !known.includes(name));
if (!(seconds > 0) || unknown !== undefined) {
  console.error(`usage: node test/fuzz/run.mjs [--seconds N] [${known.join('|')}]…`);
  process.exit(2);
}

let failed = 0;
for (const [tier, targets] of Object.entries(TARGETS)) {
  const chosen = names.length === 0 ? targets : targets.filter((name) => names.includes(name));
  if (chosen.length === 0) continue;
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const options = ['run', '--project', tier, '-t', `^parsers (${chosen.join('|')}):`, '--testTimeout', '0'];
  const { status } = spawnSync(process.execPath, [vitest, ...options, 'parsers_fuzz'], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, SLUICE_FUZZ_SECONDS: String(seconds) },
  });
  if (status !== 0) failed = 1;
}
process.exit(failed);

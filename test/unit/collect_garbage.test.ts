import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const MODULE = fileURLToPath(new URL('../../dist/shared/collect_garbage.js', import.meta.url));

/** Says how much of V8's young generation is in use before and after, bytes. */
const MEASURE = `
  const { getHeapSpaceStatistics } = require('node:v8');
  const young = () => getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_used_size;
  import(${JSON.stringify(MODULE)}).then(async ({ collectGarbage }) => {
    // Far less than makes V8 collect by itself.
    const live = Array.from({ length: 2000 }, (_, i) => ({ i, text: 'object ' + i }));
    const before = young();
    await collectGarbage();
    console.log(JSON.stringify({ before, after: young(), live: live.length }));
  });
`;
const IN_WORKER = `new (require('node:worker_threads').Worker)(${JSON.stringify(MEASURE)}, { eval: true });`;

it.each([
  ['the main thread', MEASURE, []],
  ['a worker', IN_WORKER, []],
  ['a process that makes no code of strings', MEASURE, ['--disallow-code-generation-from-strings']],
])('what setting up made is no longer young once garbage was collected, in %s', (_, code, flags) => {
  const said = execFileSync(process.execPath, [...flags, '-e', code], { encoding: 'utf8' });
  const { before, after, live } = JSON.parse(said) as { before: number; after: number; live: number };
  expect(live).toBe(2000);
  expect(before).toBeGreaterThan(64 * 1024);
  expect(after).toBeLessThan(32 * 1024);
});

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

interface Case {
  bytes: number;
  packets: number;
  hits: number;
  dropped: number;
}

it('a burst allocates nothing: known flows, new flows, rules that match and that do not', () => {
  const script = path('../support/path_allocation.mjs');
  const cases = JSON.parse(execFileSync(process.execPath, [script, path('../../dist')], { encoding: 'utf8' })) as Record<string, Case>; // prettier-ignore
  expect(Object.values(cases).map(({ packets, hits, dropped }) => [packets, hits, dropped])).toEqual([
    [64, 1, 0],
    [64, 0, 0],
    [64, 0, 1],
    [64, 0, 0],
  ]);
  // An object has 16 bytes or more. What is left is the sampled clock, once in many bursts.
  for (const [name, { bytes }] of Object.entries(cases)) expect(bytes, name).toBeLessThan(8);
}, 30_000);

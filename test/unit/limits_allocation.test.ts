import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

it('limits allocate nothing per packet, below and above', () => {
  const script = path('../support/limit_allocation.mjs');
  const text = execFileSync(process.execPath, [script, path('../../dist')], { encoding: 'utf8' });
  const bytesByCase = JSON.parse(text) as Record<string, number>;
  expect(Object.keys(bytesByCase)).toHaveLength(8);
  // One boxed number would be 16 bytes; what a window's end costs is less than one.
  for (const [name, bytes] of Object.entries(bytesByCase)) expect(bytes, name).toBeLessThan(2);
});

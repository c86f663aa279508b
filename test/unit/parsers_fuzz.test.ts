/** Parsers of what users write, fed with a corpus and mutations of it: test/fuzz/. Longer: node test/fuzz/run.mjs. */
import { describe, expect, it } from 'vitest';
import { fuzz } from '../fuzz/engine.js';
import { configTarget, ipsetTarget, iptablesTarget, tupleTarget } from '../fuzz/targets/documents.js';
import { bytecodeTarget, dnsTarget, p0fTarget } from '../fuzz/targets/programs.js';

describe('parsers', () => {
  it.each(
    [bytecodeTarget, p0fTarget, dnsTarget, iptablesTarget, ipsetTarget, tupleTarget, configTarget].map(
      (target) => [target.name, target] as const,
    ),
  )('%s: take a text or refuse it in words', (name, target) => {
    const { inputs, taken } = fuzz(target);
    if (process.env.SLUICE_FUZZ_SECONDS !== undefined) console.log(`${name}: ${inputs} inputs, ${taken} taken`);
    expect(inputs).toBeGreaterThan(10);
    // Mutations that nothing takes would test the first line of a parser only.
    expect(taken).toBeGreaterThan(inputs / 50);
    expect(taken).toBeLessThan(inputs);
  });
});

/** pcap-filter expressions, fed with a corpus and mutations of it: test/fuzz/. Needs sluice-pcap and no root. Longer: node test/fuzz/run.mjs. */
import { describe, expect, it } from 'vitest';
import { fuzz } from '../fuzz/engine.js';
import { expressionTarget } from '../fuzz/targets/expression.js';

describe('parsers', () => {
  it('expression: compile to a program that may run, or are refused in words', () => {
    const { inputs, taken } = fuzz(expressionTarget);
    if (process.env.SLUICE_FUZZ_SECONDS !== undefined) console.log(`expression: ${inputs} inputs, ${taken} taken`);
    expect(inputs).toBeGreaterThan(1000);
    expect(taken).toBeGreaterThan(inputs / 10);
    expect(taken).toBeLessThan(inputs);
  });
});

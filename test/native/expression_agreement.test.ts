/** Our bytecode against tcpdump's, instruction by instruction, for the whole corpus. Needs no root. */
import { describe, expect, it } from 'vitest';
import { compileExpressions, type ExpressionResult } from '../../src/control/expression/compile.js';
import { EXPRESSIONS, METADATA, NAMES, REFUSED, tcpdump } from '../support/expressions.js';

/** `tcpdump -ddd`: number of instructions, then one a line; null where tcpdump refuses the expression. */
async function wanted(expressions: readonly string[]): Promise<(string | null)[]> {
  const runs = await tcpdump(expressions.map((expression) => ['-ddd', '--', expression]));
  return runs.map(({ status, stdout }) => (status === 0 ? stdout.toString().trim() : null));
}

function decimal(result: ExpressionResult): string | null {
  if (!result.ok) return null;
  const { words } = result.program;
  const lines = Array.from({ length: words.length / 4 }, (_, i) => {
    const [code, jt, jf, k] = words.subarray(i * 4, i * 4 + 4);
    return `${code} ${jt} ${jf} ${k >>> 0}`;
  });
  return [String(lines.length), ...lines].join('\n');
}

describe('bytecode of expressions', () => {
  it('is what tcpdump -ddd prints, and there is none where tcpdump has none', async () => {
    const texts = [...EXPRESSIONS, ...REFUSED];
    const theirs = await wanted(texts);
    const ours = compileExpressions(texts);
    const differences = texts.filter((_, i) => decimal(ours[i]) !== theirs[i]);
    expect(differences).toEqual([]);
    // The corpus is large, and each half of it is what it says.
    expect(EXPRESSIONS.length).toBeGreaterThan(700);
    expect(ours.filter(({ ok }) => ok)).toHaveLength(EXPRESSIONS.length);
  });

  it('does not exist for what a frame does not tell', async () => {
    for (const result of compileExpressions(METADATA))
      expect(result).toMatchObject({ ok: false, error: expect.stringMatching(/^inbound,/) as string });
    expect(await wanted(METADATA)).not.toContain(null);
  });

  it('does not exist for names of hosts and networks, not even those of this machine', async () => {
    compileExpressions(NAMES).forEach((result, i) => {
      expect(result, NAMES[i]).toMatchObject({ ok: false });
      expect(result.ok ? '' : result.error, NAMES[i]).toMatch(/never looked up|it needs a name/);
    });
    // The comparison means something: tcpdump finds these, in /etc/hosts and /etc/networks.
    expect(await wanted(['host localhost', 'net loopback'])).not.toContain(null);
  });
});

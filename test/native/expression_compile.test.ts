/** `sluice rules compile`. Needs no root. */
import { describe, expect, it } from 'vitest';
import { rulesCommand } from '../../src/cli/commands/rules.js';
import { link } from '../../src/shared/cbpf/link.js';
import { readBytecode } from '../../src/shared/cbpf/bytecode_text.js';
import { EXPRESSIONS, tcpdump } from '../support/expressions.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';

async function rules(...args: string[]): Promise<{ code: number; out: string; error: string }> {
  const env = new FakeEnv();
  const { code, error } = await runCommand(rulesCommand(env), ['compile', ...args]);
  return { code, out: env.out, error: error?.message ?? '' };
}

const SOME = EXPRESSIONS.filter((text, i) => i % 8 === 0 && !text.startsWith('-'));

describe('sluice rules compile', () => {
  it('prints instructions as tcpdump -d, and numbers as tcpdump -ddd', async () => {
    const wanted = await tcpdump(
      SOME.flatMap((text) => [
        ['-d', '--', text],
        ['-ddd', '--', text],
      ]),
    );
    for (const [i, text] of SOME.entries()) {
      expect([text, (await rules('--only', 'cbpf', text)).out]).toEqual([text, wanted[i * 2].stdout.toString()]);
      const numbers = wanted[i * 2 + 1].stdout.toString().trim().replaceAll('\n', ',');
      expect([text, (await rules('--only', 'bytecode', text)).out]).toEqual([text, `${numbers}\n`]);
    }
  });

  it('prints all forms, which agree', async () => {
    const { out } = await rules('--json', 'udp', 'port', '53');
    const all = JSON.parse(out) as {
      expr: string;
      ok: boolean;
      instructions: number[][];
      bytecode: string;
      cbpf: string;
      javascript: string;
    };
    expect(all).toMatchObject({ expr: 'udp port 53', ok: true });
    expect([...readBytecode(all.bytecode, 'ethernet').words]).toEqual(all.instructions.flat().map((n) => n | 0));
    expect(link(all.javascript)).toHaveLength(1);
    const plain = (await rules('udp port 53')).out;
    for (const form of [all.cbpf, all.bytecode, all.javascript]) expect(plain).toContain(form);
    expect(plain).toMatch(new RegExp(`^cBPF, ${all.instructions.length} instructions\n`));
  });

  it('says that a loop has no JavaScript', async () => {
    expect(JSON.parse((await rules('--json', 'ip6 protochain 6')).out)).toMatchObject({ ok: true, javascript: null });
    expect((await rules('--only', 'javascript', 'ip6 protochain 6')).out).toMatch(/^None: it has a loop/);
  });

  it('fails with the reason', async () => {
    const problem = 'syntax error at character 5: "foo"';
    expect(await rules('tcp foo')).toEqual({ code: 1, out: '', error: `"tcp foo": ${problem}` });
    const { code, out } = await rules('--json', 'tcp foo');
    expect([code, JSON.parse(out)]).toEqual([1, { expr: 'tcp foo', ok: false, error: problem }]);
    expect((await rules()).code).toBe(2);
  });
});

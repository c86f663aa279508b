/**
 * Expressions whose bytecode reads memory that it may not have stored: libpcap makes such of `geneve` with anything else beside it. tcpdump -d
 * takes them, no kernel does. Needs root for the kernel's engine.
 */
import { describe, expect, it } from 'vitest';
import { compileExpressions } from '../../src/control/expression/compile.js';
import { native } from '../../src/native.js';
import { unstoredCells } from '../../src/shared/cbpf/check.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { Code, programOf, type Instruction, type Program } from '../../src/shared/cbpf/program.js';
import { expressionFrames } from '../support/expression_frames.js';
import { tcpdump } from '../support/expressions.js';

const TEXTS = [
  'geneve or tcp',
  'not geneve and host 192.0.2.1',
  'geneve 0 or geneve 11',
  'udp port 53 and (geneve 11 or ip6) or not tcp',
  'host 2001:db8::1 or (not geneve 11 and not src net 192.0.2.0/24)',
];

function compiled(): Program[] {
  return compileExpressions(TEXTS).map((result) => {
    if (!result.ok) throw new Error(result.error);
    return result.program;
  });
}

/** `tcpdump -ddd`: its count and instructions. */
async function theirs(text: string): Promise<Program> {
  const [{ stdout }] = await tcpdump([['-ddd', '--', text]]);
  const lines = stdout.toString().trim().split('\n').slice(1);
  return programOf(
    'ethernet',
    lines.map(
      (line): Instruction => line.split(' ').map((word) => Number(word) | 0) as [number, number, number, number],
    ),
  );
}

describe('expressions that read memory unstored', () => {
  it('begin with 0 in these cells, and go on as tcpdump has them', async () => {
    for (const [i, { words }] of compiled().entries()) {
      const wanted = await theirs(TEXTS[i]);
      const cells = unstoredCells(wanted);
      expect(cells, TEXTS[i]).not.toBe(0);
      const first: number[] = [Code.LD_IMM, 0, 0, 0];
      for (let k = 0; k < 16; k++) if ((cells & (1 << k)) !== 0) first.push(Code.ST, 0, 0, k);
      expect([...words], TEXTS[i]).toEqual([...first, ...wanted.words]);
    }
  });

  it('mean the same to the kernel, the interpreter and JavaScript', () => {
    const frames = expressionFrames();
    let [found, all] = [0, 0];
    for (const [i, program] of compiled().entries()) {
      const [run] = link(compileJavaScript([program]));
      const filter = new (native().SocketFilter)(program.words);
      for (const { data } of frames) {
        const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
        const holds = interpret(program, view, 0, data.length, data.length) !== 0;
        expect(run(view, 0, data.length, data.length) !== 0, TEXTS[i]).toBe(holds);
        expect(filter.run(data) > 0, TEXTS[i]).toBe(holds && data.length > 0);
        all++;
        if (holds) found++;
      }
      filter.close();
    }
    // The frames tell them apart.
    expect(found).toBeGreaterThan(all / 20);
    expect(found).toBeLessThan(all / 2);
  });
});

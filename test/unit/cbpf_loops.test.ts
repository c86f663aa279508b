import { describe, expect, it } from 'vitest';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { necessary } from '../../src/shared/cbpf/facts.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { checkLoops, hasLoop } from '../../src/shared/cbpf/loops.js';
import { Code, programOf, type Instruction } from '../../src/shared/cbpf/program.js';
import { simplify } from '../../src/shared/cbpf/simplify.js';

const program = (...instructions: Instruction[]) => programOf('ethernet', instructions);
const run = (instructions: Instruction[], length: number) =>
  interpret(program(...instructions), new DataView(new ArrayBuffer(64)), 0, length, length);

/** X counts up to k, a turn for each, and is what the program returns. */
const countTo = (k: number): Instruction[] => [
  [Code.LDX_IMM, 0, 0, 0],
  [Code.TXA, 0, 0, 0],
  [Code.JEQ_K, 3, 0, k],
  [Code.ADD_K, 0, 0, 1],
  [Code.TAX, 0, 0, 0],
  [Code.JA, 0, 0, -5],
  [Code.RET_A, 0, 0, 0],
];

describe('programs with loops', () => {
  it('are told from those without', () => {
    expect(hasLoop(program(...countTo(3)))).toBe(true);
    expect(hasLoop(program([Code.JA, 0, 0, 0], [Code.RET_K, 0, 0, 1]))).toBe(false);
    // The same number as an operand is no jump.
    expect(hasLoop(program([Code.LD_IMM, 0, 0, -5], [Code.RET_A, 0, 0, 0]))).toBe(false);
  });

  it('are right for checkLoops, not for the kernel', () => {
    expect(checkLoops(program(...countTo(3)))).toBeNull();
    expect(checkProgram(program(...countTo(3)))).not.toBeNull();
  });

  it.each<[string, Instruction[], RegExp]>([
    [
      'a jump before the start',
      [
        [Code.JA, 0, 0, -2],
        [Code.RET_K, 0, 0, 0],
      ],
      /^instruction 0: a jump before the start/,
    ],
    [
      'a jump behind the end',
      [
        [Code.JA, 0, 0, 1],
        [Code.RET_K, 0, 0, 0],
      ],
      /behind the end/,
    ],
    [
      'no return at the end',
      [
        [Code.RET_K, 0, 0, 0],
        [Code.JA, 0, 0, -2],
        [Code.TAX, 0, 0, 0],
      ],
      /no return/,
    ],
    [
      'an unknown code',
      [
        [Code.JA, 0, 0, -1],
        [0x99, 0, 0, 0],
        [Code.RET_K, 0, 0, 0],
      ],
      /instruction 1/,
    ],
    [
      'a cell that nothing stored',
      [
        [Code.LD_MEM, 0, 0, 3],
        [Code.JA, 0, 0, -2],
        [Code.RET_K, 0, 0, 0],
      ],
      /./,
    ],
  ])('are wrong with %s', (_, instructions, problem) => {
    expect(checkLoops(program(...instructions))).toMatch(problem);
  });

  it('run, and end after as many turns as the packet has bytes', () => {
    expect(run(countTo(7), 64)).toBe(7);
    expect(run(countTo(64), 64)).toBe(64);
    expect(run(countTo(65), 64)).toBe(0);
    expect(run(countTo(7), 6)).toBe(0);
    expect(
      run(
        [
          [Code.JA, 0, 0, -1],
          [Code.RET_K, 0, 0, 1],
        ],
        64,
      ),
    ).toBe(0);
  });

  it('are kept away from what takes straight programs only', () => {
    const looping = program(...countTo(3));
    expect(simplify(looping)).toBe(looping);
    expect(() => compileJavaScript([program([Code.RET_K, 0, 0, 1]), looping])).toThrow(/loop/);
  });

  it('match nothing that their facts rule out: what comes to the loop may match', () => {
    // ip6 protochain 6, cut down: next header 6 matches, 60 walks on, anything else does not.
    const chain = program(
      [Code.LD_H_ABS, 0, 0, 12],
      [Code.JEQ_K, 0, 9, 0x86dd],
      [Code.LD_B_ABS, 0, 0, 20],
      [Code.LDX_IMM, 0, 0, 40],
      [Code.JEQ_K, 5, 0, 6],
      [Code.JEQ_K, 0, 5, 60],
      [Code.LD_B_IND, 0, 0, 14],
      [Code.LDX_IMM, 0, 0, 48],
      [Code.JA, 0, 0, -5],
      [Code.RET_K, 0, 0, 0],
      [Code.RET_K, 0, 0, 1],
      [Code.RET_K, 0, 0, 0],
    );
    expect(checkLoops(chain)).toBeNull();
    const facts = necessary(chain);
    expect([facts.ipv4, facts.other]).toEqual([[], false]);
    const protocols = facts.ipv6.flatMap((way) => way.protocols);
    for (const protocol of [6, 60]) expect(protocols.some(({ lo, hi }) => lo <= protocol && protocol <= hi)).toBe(true);
    expect(protocols.some(({ lo, hi }) => lo <= 17 && 17 <= hi)).toBe(false);
  });
});

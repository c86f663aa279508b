/** What is generated: how it looks, that nothing else is compiled, and programs made to be hard to compile. */
import { describe, expect, it } from 'vitest';
import { readBytecode } from '../../src/shared/cbpf/bytecode_text.js';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { Code, instructionCount, programOf, type Instruction, type Program } from '../../src/shared/cbpf/program.js';
import { simplify } from '../../src/shared/cbpf/simplify.js';
import { checkSource } from '../../src/shared/cbpf/tokens.js';
import { randomPacket, randomProgram, randomSource } from '../support/cbpf_programs.js';

/** tcpdump -ddd 'tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst net 10.0.0.0/8' */
const SYN = readBytecode(
  '15,40 0 0 12,21 0 12 2048,48 0 0 23,21 0 10 6,40 0 0 20,69 8 0 8191,177 0 0 14,80 0 0 27,84 0 0 18,21 0 4 2,' +
    '32 0 0 30,84 0 0 4278190080,21 0 1 167772160,6 0 0 262144,6 0 0 0',
  'ethernet',
);

/** Same results for these packets, from all engines. */
function expectEqual(program: Program, packets: readonly Uint8Array[]): void {
  const [match] = link(compileJavaScript([program]));
  const [all] = link(compileJavaScript([program, program], { together: true }));
  for (const bytes of packets) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const result = interpret(program, view, 0, bytes.length, bytes.length);
    expect(match(view, 0, bytes.length, bytes.length)).toBe(result);
    expect(all(view, 0, bytes.length, bytes.length)).toBe(result === 0 ? -1 : 0);
  }
}

describe('generated source', () => {
  it('is one straight piece for a straight program: no block, a check of length only where none was made', () => {
    const body = compileJavaScript([SYN]).split('\n').slice(6, -3);
    expect(body.map((line) => line.trim())).toEqual([
      'if (n < 14) return 0; a = v.getUint16(p + 12);',
      'if (a !== 2048) return 0;',
      'if (n < 24) return 0; a = v.getUint8(p + 23);',
      'if (a !== 6) return 0;',
      'a = v.getUint16(p + 20);',
      'if ((a & 8191) !== 0) return 0;',
      'x = ((v.getUint8(p + 14)) & 15) << 2;',
      'o = x + 27 | 0; if (o > n - 1) return 0; a = v.getUint8(p + o);',
      'a = a & 18;',
      'if (a !== 2) return 0;',
      'if (n < 34) return 0; a = v.getInt32(p + 30);',
      'a = a & (-16777216);',
      'if (a === 167772160) return 262144; return 0;',
    ]);
  });

  it('does a load once that several programs share', () => {
    const source = compileJavaScript([SYN, SYN, SYN], { together: true });
    expect(source.match(/getUint16\(p \+ 12\)/g)).toHaveLength(1);
    expect(source.match(/getInt32\(p \+ 30\)/g)).toHaveLength(1);
  });

  it('does a load again where only one of two paths has done it', () => {
    const program = programOf('ethernet', [
      [Code.LD_B_ABS, 0, 0, 1],
      [Code.JEQ_K, 3, 0, 1], // to the last load, without the one between
      [Code.LD_H_ABS, 0, 0, 2],
      [Code.JGT_K, 0, 1, 7], // to the last load, from behind the one between
      [Code.RET_K, 0, 0, 9],
      [Code.LD_H_ABS, 0, 0, 2],
      [Code.RET_A, 0, 0, 0],
    ]);
    expectEqual(
      program,
      [
        [0, 1, 0, 5],
        [0, 0, 0, 5],
        [0, 0, 0, 50],
        [0, 1, 0, 50],
      ].map((bytes) => Uint8Array.from(bytes)),
    );
  });

  it('begins every program with A and X as 0', () => {
    const leaves = programOf('ethernet', [
      [Code.LDX_MSH, 0, 0, 1],
      [Code.LD_B_IND, 0, 0, 0],
      [Code.JEQ_K, 0, 1, 200],
      [Code.RET_K, 0, 0, 1],
      [Code.RET_K, 0, 0, 0],
    ]);
    const reads = programOf('ethernet', [
      [Code.LD_LEN, 0, 0, 0],
      [Code.JGT_K, 1, 0, 9],
      [Code.LDX_MSH, 0, 0, 2],
      [Code.TXA, 0, 0, 0],
      [Code.RET_A, 0, 0, 0],
    ]);
    const [match] = link(compileJavaScript([leaves, reads], { together: true }));
    const view = new DataView(Uint8Array.of(0, 2, 3, 0, 0, 0, 0, 0, 7, 0, 0).buffer);
    expect(match(view, 0, 11, 11)).toBe(-1);
    expect(match(view, 0, 11, 9)).toBe(1);
  });

  it('has nothing to write for no programs', () => {
    expect(link(compileJavaScript([]))).toEqual([]);
    expect(link(compileJavaScript([], { together: true }))[0](new DataView(new ArrayBuffer(8)), 0, 8, 8)).toBe(-1);
  });
});

describe('source that is refused', () => {
  const good = compileJavaScript([SYN]);
  const together = compileJavaScript([SYN, SYN], { together: true });
  const within = (statement: string): string => good.replace('a = a & 18;', statement);

  it.each([
    'a = globalThis;',
    'a = process.exit();',
    'a = this;',
    'a = v.buffer;',
    'a = v.constructor;',
    'a = v.__proto__;',
    'a = v["getUint8"](0);',
    'a = "text";',
    "a = 'text';",
    'a = `text`;',
    'a = /x/;',
    'v.setUint8(p, 0);',
    'v.getUint8 = 0;',
    'v.byteLength = 0;',
    'a = v.getUint8;',
    'a = Math;',
    'a = Math.random();',
    'Math.imul = a;',
    'a = Math.imul;',
    'v = a;',
    'for (;;) {}',
    'while (1) {}',
    'do {} while (1);',
    'a = () => 0;',
    'a = async;',
    'a = await a;',
    'a = new Function(a);',
    'a = eval(a);',
    'a(0);',
    'v(0);',
    'p(0);',
    '(a)(0);',
    'a = h1(2);',
    'a = g0(v, p, n, w);',
    'a = function () {};',
    'function g0(v) { g0(v); }',
    'delete v.x;',
    'a = [0];',
    'a = [0][0];',
    'a = {};x = {};return {',
    'a = 0x10;',
    'a = 1n;',
    'a = 1e9;',
    'a = 1.5;',
    'a = 12345678901;',
    'a = m16;',
    'a = m01;',
    'a = t100000;',
    'var c = 0;',
    'throw a;',
    'try {} catch (a) {}',
    'debugger;',
    'import(a);',
    'a = a\u2028;',
    'a = \\u0061;',
    'a = a // b',
    'a = a /* b */;',
    'a = a <!-- b',
    'a = v?.x;',
    'a = a ? 1 : 0;',
    'a = a ~ 1;',
    'a = #x;',
    'a = @;',
    'a\0 = 1;',
    'a = arguments;',
    'a = constructor;',
    'a = __proto__;',
    'a = toString;',
    'break a;',
    'break;x = x',
    'a = a a;',
    '} } a = {',
  ])('%s', (statement) => {
    expect(within('a = a & 18;')).toBe(good);
    expect(checkSource(good)).toBeNull();
    // What a token check lets through has to be no JavaScript at all.
    if (checkSource(within(statement)) === null) expect(() => new Function(within(statement))).toThrow(SyntaxError);
    expect(() => link(within(statement))).toThrow();
  });

  it('has more behind its end, or less', () => {
    expect(checkSource(together)).toBeNull();
    for (const source of [good, together]) {
      for (const more of ['a', ';', '[', 'return', '}', 'g0(v)', '(0)'])
        expect(checkSource(source + more)).not.toBeNull();
      for (let cut = 1; cut < 12; cut++) {
        const shorter = source.slice(0, -cut - 1);
        if (!/;\s*$/.test(shorter)) expect(checkSource(shorter)).not.toBeNull();
      }
      expect(checkSource(source.replace('"use strict";', ''))).not.toBeNull();
      expect(checkSource(source.replace('return [', 'return 0; return ['))).not.toBeNull();
      expect(checkSource(source.replace('return [', 'return [g0, '))).not.toBeNull();
    }
    expect(checkSource('')).not.toBeNull();
    expect(checkSource('"use strict";\n')).not.toBeNull();
    expect(checkSource('"use strict";\n' + ' '.repeat(33 << 20))).toMatch(/at most/);
  });

  it('has a part that calls itself or a later one', () => {
    const parts = compileJavaScript(
      Array.from({ length: 100 }, () => SYN),
      { together: true },
    );
    expect(checkSource(parts)).toBeNull();
    for (const call of ['g0(v, p, n, w)', 'g1(v, p, n, w)']) {
      expect(checkSource(parts.replace('return -1;', `return ${call};`))).not.toBeNull();
    }
    expect(checkSource(parts.replace('r = g1(', 'r = g9('))).toMatch(/^character/);
  });

  it('is found, or harmless, when any of its tokens is another', () => {
    const random = randomSource(99);
    const tokens = good.match(/[A-Za-z0-9_$]+|===|!==|>>>|[^\s\w]/g)!;
    const strangers = [
      'v',
      'a',
      'g0',
      'Math',
      '.',
      '(',
      ')',
      '[',
      ']',
      '{',
      '}',
      '=',
      'return',
      'function',
      '0',
      ';',
      ':',
    ];
    let refused = 0;
    for (let round = 0; round < 2000; round++) {
      const changed = tokens.slice();
      changed[3 + random(tokens.length - 3)] = strangers[random(strangers.length)];
      const source = `"use strict";\n${changed.slice(4).join(' ')}`;
      if (checkSource(source) !== null) refused++;
      else if (/[[(]\s*\)|function a|v \. [^gb]/.test(source)) expect(() => new Function(source)).toThrow(SyntaxError);
    }
    expect(refused).toBeGreaterThan(500);
  });
});

describe('programs that are hard to compile', () => {
  const packets = (() => {
    const random = randomSource(5);
    return Array.from({ length: 200 }, () => randomPacket(random));
  })();
  const loads = (i: number): Instruction => [Code.LD_B_ABS, 0, 0, i % 60];

  const monsters: [string, (i: number, left: number) => Instruction][] = [
    ['tests only, each past the next', (i, left) => [Code.JEQ_K, Math.min(1, left - 1), 0, i % 256]],
    [
      'tests with the longest jumps',
      (i, left) => (i % 2 ? loads(i) : [Code.JGT_K, Math.min(255, left - 1), 0, i % 200]),
    ],
    [
      'jumps that cross',
      (i, left) => (i % 3 ? loads(i) : [Code.JSET_K, Math.min(200, left - 1), Math.min(100, left - 1), 1 << (i % 8)]),
    ],
    ['loads only', loads],
    ['indirect loads', (i) => (i % 2 ? [Code.LDX_MSH, 0, 0, i % 40] : [Code.LD_H_IND, 0, 0, i % 14])],
    ['arithmetic', (i) => (i % 2 ? [Code.LDX_MSH, 0, 0, i % 14] : [Code.ADD_X, 0, 0, 0])],
    ['jumps to the next', (i) => (i % 2 ? loads(i) : [Code.JA, 0, 0, 0])],
    ['tests that all fail to the last', (i, left) => (i % 2 || left > 255 ? loads(i) : [Code.JEQ_K, 0, left - 1, 0])],
  ];
  it.each(monsters)('4096 instructions: %s', (_name, instruction) => {
    const code = Array.from({ length: 4094 }, (_, i) => (i === 0 ? loads(0) : instruction(i, 4095 - i)));
    code.push([Code.RET_A, 0, 0, 0], [Code.RET_K, 0, 0, 7]);
    const program = programOf('ethernet', code);
    expect(checkProgram(program)).toBeNull();
    const start = performance.now();
    expectEqual(program, packets);
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  it('3,000 programs at once', () => {
    const random = randomSource(6);
    const programs = Array.from({ length: 300 }, () => randomProgram(random, packets[0], { length: 40 }));
    const all = Array.from({ length: 3000 }, (_, i) => programs[i % 300]);
    const [match] = link(compileJavaScript(all, { together: true }));
    for (const bytes of packets.slice(0, 20)) {
      const view = new DataView(bytes.buffer);
      const first = programs.findIndex((program) => interpret(program, view, 0, bytes.length, bytes.length) !== 0);
      expect(match(view, 0, bytes.length, bytes.length)).toBe(first);
    }
  });
});

describe('simplification', () => {
  const simplified = (...code: Instruction[]): number[] => [...simplify(programOf('ethernet', code)).words];

  it('folds what is constant, and the tests that it decides', () => {
    const code: Instruction[] = [
      [Code.LD_IMM, 0, 0, 40],
      [Code.ST, 0, 0, 3],
      [Code.LDX_MEM, 0, 0, 3],
      [Code.LD_IMM, 0, 0, 2],
      [Code.ADD_X, 0, 0, 0],
      [Code.JEQ_K, 1, 0, 42],
      [Code.RET_K, 0, 0, 0],
      [Code.RET_A, 0, 0, 0],
    ];
    expect(simplified(...code)).toEqual([Code.RET_K, 0, 0, 42]);
  });

  it('keeps a load that nobody reads where it may reject the packet', () => {
    const load = [Code.LD_B_ABS, 0, 0, 20] as const;
    const ret = [Code.RET_K, 0, 0, 1] as const;
    expect(simplified(load, ret)).toEqual([...load, ...ret]);
    expect(simplified([Code.LD_W_ABS, 0, 0, 30], load, ret)).toEqual([Code.LD_W_ABS, 0, 0, 30, ...ret]);
  });

  it('keeps the header length that only one of two paths has in X', () => {
    const code: Instruction[] = [
      [Code.LDX_MSH, 0, 0, 1],
      [Code.LD_B_ABS, 0, 0, 0],
      [Code.JEQ_K, 1, 0, 1],
      [Code.LDX_MSH, 0, 0, 2],
      [Code.LDX_MSH, 0, 0, 1],
      [Code.TXA, 0, 0, 0],
      [Code.ADD_K, 0, 0, 1],
      [Code.RET_A, 0, 0, 0],
    ];
    expectEqual(programOf('ethernet', code), [Uint8Array.of(0, 1, 2), Uint8Array.of(1, 1, 2)]);
    code[4] = [Code.JEQ_K, 0, 1, 3];
    code.splice(5, 0, [Code.LDX_MSH, 0, 0, 2], [Code.LDX_MSH, 0, 0, 1]);
    expectEqual(
      programOf('ethernet', code),
      [0, 1, 3].map((first) => Uint8Array.of(first, 1, 2)),
    );
  });

  it('keeps a load that A has from one of two paths only', () => {
    for (const [first, second] of [
      [1, 2],
      [2, 1],
    ]) {
      const program = programOf('ethernet', [
        [Code.LD_B_ABS, 0, 0, 0],
        [Code.JEQ_K, 0, 2, 1],
        [Code.LD_B_ABS, 0, 0, first],
        [Code.JEQ_K, 3, 2, 9],
        [Code.LD_B_ABS, 0, 0, second],
        [Code.JEQ_K, 1, 0, 9],
        [Code.LD_B_ABS, 0, 0, 2],
        [Code.RET_A, 0, 0, 0],
      ]);
      expectEqual(program, [
        Uint8Array.of(0, 5, 6),
        Uint8Array.of(1, 5, 6),
        Uint8Array.of(1, 9, 6),
        Uint8Array.of(0, 9, 9),
      ]);
    }
  });

  it('of tests that are left out one after another (found by random programs)', () => {
    const text =
      '69,32 0 0 3,7 0 0 0,40 0 0 23,0 0 0 33,2 0 0 2,40 0 0 6,2 0 0 3,48 0 0 34,21 3 0 0,1 0 0 153,12 0 0 0,0 0 0 212,29 6 1 -1,53 1 1 15,' +
      '80 0 0 12,84 0 0 10376,48 0 0 32,48 0 0 46,21 3 1 1,37 5 0 175,21 5 0 0,77 5 3 1,21 4 0 615644424,40 0 0 47,40 0 0 38,' +
      '37 20 0 -1820830042,21 6 1 0,32 0 0 0,32 0 0 4,53 23 1 255,12 0 0 0,45 20 0 -16646399,64 0 0 16,72 0 0 40676,' +
      '21 2 2 65281,21 2 1 -14,5 0 0 15,48 0 0 18,4 0 0 7,64 0 0 18,21 0 0 0,61 2 7 1,22 0 0 0,1 0 0 235,21 15 2 0,76 0 0 0,' +
      '100 0 0 13,36 0 0 -1639736440,21 1 0 0,48 0 0 30,96 0 0 3,48 0 0 33,40 0 0 36,69 2 1 32,1 0 0 4,53 1 1 104,37 1 0 3,' +
      '21 6 4 -1,177 0 0 14,72 0 0 65536,21 1 1 -2147483647,7 0 0 0,21 0 1 -2,52 0 0 256,172 0 0 0,22 0 0 0,22 0 0 0,22 0 0 0,22 0 0 0';
    const program = programOf(
      'ethernet',
      text
        .split(',')
        .slice(1)
        .map((line) => line.split(' ').map(Number) as [number, number, number, number]),
    );
    const hex =
      '01ff0a000000761799ff000086dd6001880100002c4020010db8ff01ad010100000a00aa00b920010db80a0a0af700000100190a0069007b0035' +
      '7d0003003c6e010176480401000001c4ff0a00010002f4ff010a0a000100002350ff0eff0a00ff8201f41300ff01ff0a03ac0a0001000a00f6000a00' +
      'b601009cc700000a53020a00ff26ff58070140000a0000ff000afb00ff3e000000000000ff00000aa800f200c14e0a6951ff0a006c01';
    expectEqual(program, [Uint8Array.from(Buffer.from(hex, 'hex'))]);
  });

  it('knows what a test has decided when the same comes again', () => {
    const code: Instruction[] = [
      [Code.LD_H_ABS, 0, 0, 12],
      [Code.JEQ_K, 0, 2, 0x800],
      [Code.JEQ_K, 1, 0, 0x86dd],
      [Code.JGT_K, 1, 2, 0x7ff],
      [Code.RET_K, 0, 0, 3],
      [Code.RET_K, 0, 0, 2],
      [Code.RET_K, 0, 0, 1],
    ];
    const program = simplify(programOf('ethernet', code));
    expect(instructionCount(program)).toBeLessThan(code.length);
    expect(checkProgram(program)).toBeNull();
  });
});

/** Programs of rules as a worker holds them. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ProgramShelf } from '../../src/dataplane/filter/programs.js';
import { Code, programOf, type Program } from '../../src/shared/cbpf/program.js';
import type { RuleProgram } from '../../src/shared/layout.js';

/** Matches packets whose first byte is this. */
function byteIs(value: number): Program {
  return programOf('ip', [
    [Code.LD_B_ABS, 0, 0, 0],
    [Code.JEQ_K, 0, 1, value],
    [Code.RET_K, 0, 0, 1],
    [Code.RET_K, 0, 0, 0],
  ]);
}

/** Counts down from its first byte: no straight code can be made of it. */
const LOOP = programOf('ip', [
  [Code.LD_B_ABS, 0, 0, 0],
  [Code.JEQ_K, 2, 0, 0],
  [Code.SUB_K, 0, 0, 1],
  [Code.JA, 0, 0, -3],
  [Code.RET_K, 0, 0, 1],
]);

/** As it comes with a publication: in shared memory of its own each time. */
function published({ link, words }: Program): RuleProgram {
  const shared = new SharedArrayBuffer(words.byteLength);
  new Int32Array(shared).set(words);
  return { link, words: shared };
}

const many = (count: number, first = 0) => Array.from({ length: count }, (_, i) => published(byteIs(first + i)));
const view = (first: number) => new DataView(Uint8Array.of(first, 0, 0, 0).buffer);

describe('programs of rules', () => {
  it('keep their function as long as they are there, by what they are', () => {
    const shelf = new ProgramShelf();
    const [one, two] = shelf.load([published(byteIs(1)), published(byteIs(2))]).map(({ match }) => match);
    const again = shelf.load([published(byteIs(2)), published(byteIs(3)), published(byteIs(1))]);
    expect(again[0].match).toBe(two);
    expect(again[2].match).toBe(one);
    expect(again.map(({ match }) => match(view(3), 0, 4, 4))).toEqual([0, 1, 0]);
    shelf.load([]);
    expect(shelf.load([published(byteIs(1))])[0].match).not.toBe(one);
  });

  it('are different things over the frame and over layer 3', () => {
    const shelf = new ProgramShelf();
    const { link: _, ...words } = published(byteIs(1));
    const loaded = shelf.load([
      { link: 'ip', ...words },
      { link: 'ethernet', ...words },
    ]);
    expect(loaded.map(({ wantsFrame }) => wantsFrame)).toEqual([false, true]);
  });

  it('are all compiled before packets flow, later some at a time, and match all the while', () => {
    const shelf = new ProgramShelf();
    shelf.load(many(100));
    expect(shelf.interpreted).toBe(0);
    const loaded = shelf.load(many(256));
    const waiting: number[] = [];
    for (let i = 0; i < 4; i++) {
      waiting.push(shelf.interpreted);
      loaded.forEach(({ match }, byte) =>
        expect([match(view(byte), 0, 4, 4), match(view(byte + 1), 0, 4, 4)]).toEqual([1, 0]),
      );
      shelf.compileSome();
    }
    expect(waiting).toEqual([92, 28, 0, 0]);
  });

  it('that are gone are not compiled any more', () => {
    const shelf = new ProgramShelf();
    shelf.load(many(1));
    shelf.load(many(200));
    shelf.load(many(3));
    shelf.compileSome();
    expect(shelf.interpreted).toBe(0);
  });

  it('with a loop are interpreted', () => {
    const shelf = new ProgramShelf();
    const [loop, straight] = shelf.load([published(LOOP), published(byteIs(3))]);
    expect(shelf.interpreted).toBe(1);
    expect(shelf.compiles).toBe(true);
    expect([loop.match(view(3), 0, 4, 4), straight.match(view(3), 0, 4, 4)]).toEqual([1, 1]);
  });

  it.each([
    [[], { compiles: true, interpreted: 0, matches: [1, 0] }],
    [['--disallow-code-generation-from-strings'], { compiles: false, interpreted: 2, matches: [1, 0] }],
  ])('run in a process started with %j', (flags, expected) => {
    const shelf = JSON.stringify(fileURLToPath(new URL('../../dist/dataplane/filter/programs.js', import.meta.url)));
    const words = JSON.stringify([1, 2].map((value) => [...byteIs(value).words]));
    const script = `
      const { ProgramShelf } = await import(${shelf});
      const shelf = new ProgramShelf();
      const programs = ${words}.map((words) => {
        const shared = new SharedArrayBuffer(words.length * 4);
        new Int32Array(shared).set(words);
        return { link: 'ip', words: shared };
      });
      const view = new DataView(Uint8Array.of(1, 0, 0, 0).buffer);
      const matches = shelf.load(programs).map(({ match }) => match(view, 0, 4, 4));
      console.log(JSON.stringify({ compiles: shelf.compiles, interpreted: shelf.interpreted, matches }));`;
    const { stdout, stderr } = spawnSync(process.execPath, [...flags, '--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual(expected);
  });
});

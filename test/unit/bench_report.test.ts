/** The bench's own arithmetic and refusals: a number that is wrong here is believed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { noiseWarning } from '../../bench/machine.js';
import { BENCHES } from '../../bench/benches.js';
import { parseOptions, UsageError } from '../../bench/options.js';
import { compareFiles } from '../../bench/path/compare.js';
import { known } from '../../bench/path/cases.js';
import { aboveGate, type PathResult } from '../../bench/path/run.js';
import { Progress } from '../../bench/progress.js';
import { formatSpread, formatTable, markdownTable, scaled, spread } from '../../bench/statistics.js';

describe('statistics', () => {
  it('gives the middle and the extremes, in any order of trials', () => {
    expect(spread([3, 100, 1])).toEqual({ median: 3, min: 1, max: 100 });
    expect(spread([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 });
    expect(spread([10, 9])).toEqual({ median: 9.5, min: 9, max: 10 });
    expect(() => spread([])).toThrow(RangeError);
  });

  it('does not sort what it was given', () => {
    const values = [3, 1, 2];
    spread(values);
    expect(values).toEqual([3, 1, 2]);
  });

  it('writes tables whose columns line up', () => {
    const text = formatTable([
      ['name', 'ns'],
      ['a', '1.25'],
      ['longer', '100.00'],
    ]);
    expect(text.split('\n')).toEqual(['name        ns', '──────  ──────', 'a         1.25', 'longer  100.00']);
    expect(formatSpread({ median: 1.234, min: 1, max: 2 }, 2)).toBe('1.23 [1.00..2.00]');
    expect(scaled({ median: 1e6, min: 5e5, max: 2e6 }, 1e-6)).toEqual({ median: 1, min: 0.5, max: 2 });
  });

  it('writes the same as Markdown, where a bar in a cell is no border', () => {
    const text = markdownTable([['a|b', 'ns'], ['<c>', '1']]); // prettier-ignore
    expect(text.split('\n')).toEqual(['| a\\|b | ns |', '| --- | ---: |', '| &lt;c> | 1 |']);
  });
});

describe('the command line', () => {
  const chosen = (...args: string[]) => parseOptions(args)!.chosen.map(({ bench }) => bench.name);
  const words = (...args: string[]) => parseOptions(args)!.chosen.map(({ words: some }) => [...some]);

  it('does micro, path and pps when nothing is named, and everything where it is only to run', () => {
    expect(chosen()).toEqual(['path', 'micro', 'pps']);
    expect(chosen('--quick')).toEqual(['path', 'micro', 'pps']);
    const all = BENCHES.map(({ name }) => name);
    expect(chosen('--smoke')).toEqual(all);
    expect(chosen('all')).toEqual(all);
    expect(words('pps')).toEqual([['rxdrop', 'txonly', 'l2fwd', 'forward', 'lb', 'filter']]);
  });

  it('takes benches in their order, words of theirs, an effort, a gate and a file', () => {
    const options = parseOptions(['path', '--quick', '--gate', '1.3', '--json', 'out.json']);
    expect(options).toMatchObject({ effort: 'quick', gate: 1.3, json: 'out.json', save: false, compare: null });
    expect(chosen('pps', 'micro', 'path')).toEqual(['path', 'micro', 'pps']);
    expect(words('pps', 'lb', 'rxdrop')).toEqual([['lb', 'rxdrop']]);
    expect(parseOptions(['--help', 'nonsense'])).toBeNull();
  });

  it('compares the path with a revision, or what is named', () => {
    expect(parseOptions(['--compare', 'HEAD~3'])).toMatchObject({ compare: 'HEAD~3', threshold: 1.1 });
    expect(chosen('--compare', 'main')).toEqual(['path']);
    expect(chosen('micro', 'ways', '--compare', 'main')).toEqual(['ways', 'micro']);
    expect(parseOptions(['--compare', 'main', '--threshold', '1.05'])?.threshold).toBe(1.05);
  });

  it('has names of its own for all benches, and none that is also a word', () => {
    const names = BENCHES.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(BENCHES.flatMap((bench) => bench.words ?? []).filter((word) => names.includes(word))).toEqual([]);
  });

  it.each([
    [['pss'], 'pss'],
    [['lb'], 'a word of pps'],
    [['path', 'lb', 'rxdrop'], 'lb: a word of pps'],
    [['--gate', 'fast'], 'fast'],
    [['--gate', '0'], '--gate'],
    [['micro', '--gate', '1.3'], 'path'],
    [['--quick', '--smoke'], '--quick'],
    [['--smoke', '--save'], '--save'],
    [['pps', 'lb', '--save'], 'a part of it'],
    [['--render', 'path'], '--render'],
    [['--threshold', '1.2'], '--compare'],
    [['pps', '--compare', 'main'], 'not pps'],
    [['--compare', 'main', '--save'], '--save'],
    [['--compare', 'main', '--threshold', 'x'], '--threshold'],
    [['--fast'], '--fast'],
  ])('refuses %j and says what it stumbled over', (args, word) => {
    expect(() => parseOptions(args)).toThrow(UsageError);
    expect(() => parseOptions(args)).toThrow(word);
  });
});

describe('the time that is left', () => {
  const planned = [
    { name: 'a', seconds: 100 },
    { name: 'b', seconds: 50 },
  ];

  it('is what was planned, until the bench says how far it is', () => {
    let now = 1000;
    const progress = new Progress(planned, () => now);
    expect(progress.left).toBe(150);
    expect(progress.next()).toBe('a (1 of 2): about 2 min');
    now += 30;
    expect(progress.stamp).toBe('[ 0:30,  2:00 left]');
    progress.reach(0.5);
    expect(progress.left).toBe(30 + 50);
    now += 500;
    expect(progress.next()).toBe('b (2 of 2): about 50 s');
    now += 70;
    expect(progress.left).toBe(0);
  });
});

describe('the gate', () => {
  const result = (name: string, median: number): PathResult => ({
    ...known(name, 64, 64),
    verifiedBytes: 1,
    rounds: [],
    typescriptNs: { median: 1, min: 1, max: 1 },
    cppNs: { median: 1, min: 1, max: 1 },
    ratio: { median, min: 0.5, max: 9 },
  });

  it('looks at the median, names the case, and lets equal pass', () => {
    expect(aboveGate([result('fine', 1.3), result('slow', 1.31)], 1.3)).toEqual(['slow: 1.310 > 1.3']);
    expect(aboveGate([result('fine', 1.29)], 1.3)).toEqual([]);
  });
});

describe('comparing what both sides wrote', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-compare-'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  /** Longer than a block of the comparison, and no multiple of it. */
  const bytes = Buffer.alloc((1 << 20) + 4321, 7);

  function files(change: (other: Buffer) => Buffer): ReturnType<typeof compareFiles> {
    const [a, b] = ['a', 'b'].map((name) => join(directory, name));
    writeFileSync(a, bytes);
    writeFileSync(b, change(Buffer.from(bytes)));
    return compareFiles(a, b);
  }

  it('finds equal files equal', () => {
    expect(files((other) => other)).toEqual({ bytes: bytes.length, difference: null });
  });

  it.each([0, (1 << 20) - 1, 1 << 20, bytes.length - 1])('finds a difference at byte %i', (at) => {
    const { difference } = files((other) => {
      other[at] = 9;
      return other;
    });
    expect(difference).toBe(`byte ${at} is 0x07 against 0x09`);
  });

  it('finds a file that ends early', () => {
    expect(files((other) => other.subarray(0, -1)).difference).toContain(`${bytes.length - 1}`);
  });
});

describe('what disturbed a run', () => {
  const quiet = { loadBefore: 0.2, loadAfter: 1.1, others: 0.03, stolen: 0 };

  it('is silent about the load that the bench makes itself', () => {
    expect(noiseWarning(quiet)).toBe('');
  });

  it.each([
    [{ loadBefore: 1.5 }, 'at the start'],
    [{ loadAfter: 3 }, 'at the end'],
    [{ others: 0.6 }, 'other programs took 0.60'],
    [{ stolen: 0.2 }, 'hypervisor'],
  ])('names %j', (change, words) => {
    expect(noiseWarning({ ...quiet, ...change })).toContain(words);
  });
});

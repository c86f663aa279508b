/** Comparing two revisions: order of the trials, what the ratios say, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missingFiles, resolveCommit } from '../../bench/compare/checkout.js';
import { compareRounds, verdict, type Compared, type Side } from '../../bench/compare/rounds.js';
import { compareTable } from '../../bench/compare/run.js';
import { ChildError } from '../../bench/process.js';

const spreadOf = (min: number, median: number, max: number) => ({ ratio: { min, median, max } });

describe('a verdict', () => {
  it.each([
    [spreadOf(1.05, 1.2, 1.4), 'slower'],
    [spreadOf(0.99, 1.2, 1.4), ''],
    [spreadOf(1.01, 1.1, 1.2), ''],
    [spreadOf(0.7, 0.8, 0.99), 'faster'],
    [spreadOf(0.7, 0.8, 1.01), ''],
    [spreadOf(0.9, 0.95, 0.99), ''],
    [spreadOf(1, 1, 1), ''],
  ])('needs the median beyond the threshold and all rounds on one side: %j', (row, expected) => {
    expect(verdict(row, 1.1)).toBe(expected);
  });

  it('has the threshold that was asked for', () => {
    expect(verdict(spreadOf(1.01, 1.06, 1.2), 1.05)).toBe('slower');
  });
});

/** Takes 100 ns before and 150 after, and notes who was asked. */
function fake(asked: string[], parts: Partial<Compared> = {}): Compared {
  return {
    name: 'a',
    prepare: () => Promise.resolve(void asked.push('prepare')),
    trial: (side) => {
      asked.push(side);
      const rows: [string, number][] = [['a', side === 'before' ? 100 : 150]];
      return Promise.resolve(new Map([...rows, [`only ${side}`, 1]]));
    },
    note: () => 'noted',
    done: () => void asked.push('done'),
    ...parts,
  };
}

describe('rounds', () => {
  it('take both in turn, there and back, and have a ratio each', async () => {
    const asked: string[] = [];
    const [row, ...others] = await compareRounds(fake(asked), 3);
    expect(asked.join(' ')).toBe('prepare before after after before before after done');
    expect(others).toEqual([]);
    expect(row.rounds).toEqual([1, 2, 3].map(() => ({ beforeNs: 100, afterNs: 150, ratio: 1.5 })));
    expect(row.ratio).toEqual({ median: 1.5, min: 1.5, max: 1.5 });
    const text = compareTable([row], 'main (abc)', 1.1);
    expect(text.split('\n')[0]).toMatch(/main \(abc\) +here +here \/ before/);
    expect(text).toContain('1.50 [1.50..1.50]  slower; noted');
  });

  it('clean up after a trial that failed', async () => {
    const asked: string[] = [];
    const trial = (side: Side) => Promise.reject(new ChildError(`${side} did other work`));
    await expect(compareRounds(fake(asked, { trial }), 3)).rejects.toThrow('before did other work');
    expect(asked).toEqual(['prepare', 'done']);
  });

  it('are an error where there is nothing that both have', async () => {
    const trial = (side: Side) => Promise.resolve(new Map([[side, 1]]));
    await expect(compareRounds(fake([], { trial }), 1)).rejects.toThrow('a: the two have nothing in common');
  });
});

describe('a revision', () => {
  let root: string;
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', root, '-c', 'user.name=t', '-c', 'user.email=t@example.net', ...args], {
      encoding: 'utf8',
    });
  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), 'sluice-revision-'));
    git('init', '--quiet');
    writeFileSync(join(root, 'old.ts'), '');
    git('add', '.');
    git('commit', '--quiet', '-m', 'first');
    git('tag', 'v1');
  });
  afterAll(() => rmSync(root, { recursive: true }));

  it('is what git understands', () => {
    const commit = git('rev-parse', 'HEAD').trim();
    expect([resolveCommit('v1', root), resolveCommit('HEAD', root)]).toEqual([commit, commit]);
  });

  it.each(['nonsense', 'HEAD~7', '--all', 'v1:old.ts'])('is refused when git knows none: %s', (name) => {
    expect(() => resolveCommit(name, root)).toThrow(`git knows no revision "${name}" here`);
  });

  it('must have the bench', () => {
    expect(missingFiles('v1', ['old.ts', 'new.ts', 'a/b.ts'], root)).toEqual(['new.ts', 'a/b.ts']);
    expect(missingFiles('v1', ['old.ts'], root)).toEqual([]);
  });
});

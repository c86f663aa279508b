/**
 * The tables of docs/compatibility.md: each is written by the test whose results it shows, and held to them in every run.
 *
 *     UPDATE_COMPATIBILITY=1 npx vitest run --project unit --no-file-parallelism test/unit/katran_vectors.test.ts test/unit/glb_vectors.test.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

const PAGE = join(dirname(fileURLToPath(import.meta.url)), '../../docs/compatibility.md');

/** Cases that do not come out the same, and why. */
export interface Deviation {
  /** Numbers in their suite. */
  cases: number[];
  /** Whether all is the same but for the part of the packet that `why` names, or something else happens to the packet. */
  kind: 'part' | 'other';
  /** A sentence or two. */
  why: string;
}

export interface SuiteResult {
  suite: string;
  cases: number;
  deviations: readonly Deviation[];
}

/** Fails when the page has another table for `section`; writes it when UPDATE_COMPATIBILITY is set. */
export function expectTable(section: string, results: readonly SuiteResult[]): void {
  const page = readFileSync(PAGE, 'utf8');
  const [begin, end] = [`<!-- generated: ${section} -->\n`, `<!-- end: ${section} -->`];
  const from = page.indexOf(begin) + begin.length;
  const to = page.indexOf(end);
  expect(page.includes(begin) && to >= from, `${PAGE} has a place for ${section}`).toBe(true);
  const text = render(results);
  if (process.env.UPDATE_COMPATIBILITY) writeFileSync(PAGE, page.slice(0, from) + text + page.slice(to));
  else expect(page.slice(from, to), 'docs/compatibility.md; see test/support/compatibility.ts').toBe(text);
}

function render(results: readonly SuiteResult[]): string {
  const rows = results.map(({ suite, cases, deviations }) => {
    const of = (kind: Deviation['kind']): number =>
      deviations.reduce((sum, one) => sum + (one.kind === kind ? one.cases.length : 0), 0);
    return { suite: `\`${suite}\``, numbers: [cases, cases - of('part') - of('other'), of('part'), of('other')] };
  });
  const sums = [0, 1, 2, 3].map((column) => rows.reduce((sum, { numbers }) => sum + numbers[column], 0));
  const table = [
    '| Suite | Cases | Same | Same but for a part | Other |',
    '|---|---:|---:|---:|---:|',
    ...[...rows, { suite: 'all', numbers: sums }].map(
      ({ suite, numbers }) => `| ${suite} | ${numbers.map((n, i) => (i > 1 && n === 0 ? '' : n)).join(' | ')} |`,
    ),
  ];
  const reasons = results.flatMap(({ suite, deviations }) =>
    deviations.map(({ cases, kind, why }) => `| \`${suite}\` ${cases.join(', ')} | ${kind} | ${why} |`),
  );
  const list = reasons.length === 0 ? [] : ['', '| Case | | Why |', '|---|---|---|', ...reasons];
  return `${[...table, ...list].join('\n')}\n`;
}

import type { Findings } from './findings.js';
import type { Path } from './problem.js';

/** Reports each name that an earlier entry of the list has already. Entries without a name are passed over. */
export function checkNames(
  entries: readonly ({ name?: string } | undefined)[],
  at: Path,
  what: string,
  findings: Findings,
): void {
  const first = new Map<string, number>();
  entries.forEach((entry, i) => {
    const name = entry?.name;
    if (name === undefined) return;
    const before = first.get(name);
    if (before === undefined) first.set(name, i);
    else {
      const line = findings.lineOf([...at, before]);
      findings.error(
        [...at, i, 'name'],
        `there is another ${what} of the name ${name}, on line ${line}`,
        'Give each its own name.',
      );
    }
  });
}

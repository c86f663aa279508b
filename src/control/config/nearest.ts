/** The word that was probably meant. */

/** Words further away than this many edits are no suggestion. */
const MAX_DISTANCE = 3;

/**
 * Edits (insert, delete, replace, swap of neighbours) that make `a` into `b`: the "optimal string alignment" distance.
 * Takes time of a.length × b.length, so callers cut long input.
 */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(last[j] + 1, row[j - 1] + 1, replace);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, beforeLast[j - 2] + 1);
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length];
}

/**
 * The nearest of `known` to `word`, or null when none is near: at most three edits, and fewer than half of the word's
 * letters, so that short words do not turn into each other. Case and "-" for "_" do not count.
 */
export function nearest(word: string, known: readonly string[]): string | null {
  const plain = (text: string): string => text.toLowerCase().replaceAll('-', '_');
  const wanted = plain(word.slice(0, 64));
  let best: string | null = null;
  let bestDistance = MAX_DISTANCE + 1;
  for (const candidate of known) {
    const distance = editDistance(wanted, plain(candidate));
    if (distance < bestDistance && distance * 2 < Math.max(wanted.length, candidate.length)) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

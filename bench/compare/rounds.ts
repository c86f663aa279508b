/** Two revisions in turn, and what their ratios say. */
import { ChildError } from '../process.js';
import { spread, type Spread } from '../statistics.js';

export type Side = 'before' | 'after';

/** Where either side's compiled benches are. */
export type Sides = Readonly<Record<Side, string>>;

/** Something that both revisions can be timed at. */
export interface Compared {
  /** For messages; a trial may have several rows. */
  name: string;
  /** Before the first trial. */
  prepare?(): Promise<void>;
  /** One trial: ns by row. @throws ChildError when it did not do its work */
  trial(side: Side): Promise<Map<string, number>>;
  /** What else there is to say of it, '' for nothing. */
  note?(): string;
  /** After the last trial, also when one failed. */
  done?(): void;
}

export interface ComparedRow {
  name: string;
  rounds: { beforeNs: number; afterNs: number; ratio: number }[];
  beforeNs: Spread;
  afterNs: Spread;
  /** Of each round: after / before. Above 1 is slower. */
  ratio: Spread;
  note: string;
}

/** Rounds of one trial each, in the order A B B A A B …, so that a slow drift meets both alike. Rows that only one side has are left out. */
export async function compareRounds(compared: Compared, rounds: number): Promise<ComparedRow[]> {
  try {
    await compared.prepare?.();
    const trials: Record<Side, Map<string, number>[]> = { before: [], after: [] };
    for (let round = 0; round < rounds; round++) {
      const order: Side[] = round % 2 === 0 ? ['before', 'after'] : ['after', 'before'];
      for (const side of order) trials[side].push(await compared.trial(side));
    }
    const everywhere = (name: string): boolean =>
      [...trials.before, ...trials.after].every((trial) => (trial.get(name) ?? 0) > 0);
    const names = [...trials.after[0].keys()].filter(everywhere);
    if (names.length === 0) throw new ChildError(`${compared.name}: the two have nothing in common`);
    return names.map((name) => summary(name, trials, compared.note?.() ?? ''));
  } finally {
    compared.done?.();
  }
}

function summary(name: string, trials: Record<Side, Map<string, number>[]>, note: string): ComparedRow {
  const rounds = trials.before.map((trial, round) => {
    const [beforeNs, afterNs] = [trial.get(name) ?? NaN, trials.after[round].get(name) ?? NaN];
    return { beforeNs, afterNs, ratio: afterNs / beforeNs };
  });
  return {
    name,
    rounds,
    beforeNs: spread(rounds.map((each) => each.beforeNs)),
    afterNs: spread(rounds.map((each) => each.afterNs)),
    ratio: spread(rounds.map(({ ratio }) => ratio)),
    note,
  };
}

/** A case became slower when its median is above the threshold and no round says otherwise; faster the other way round. '' when nothing can be said. */
export function verdict({ ratio }: Pick<ComparedRow, 'ratio'>, threshold: number): 'slower' | 'faster' | '' {
  if (ratio.median > threshold && ratio.min > 1) return 'slower';
  return ratio.median < 1 / threshold && ratio.max < 1 ? 'faster' : '';
}

/** What a bench is to `npm run bench`: something with a name that is run, and whose results are shown. The list of them is in benches.ts. */
import type { Chart } from './chart/chart.js';

/** How much time to spend: what is to be quoted; a look; only whether it runs and does the right thing. */
export type EffortName = 'full' | 'quick' | 'smoke';

/** Tells the user what was done. `done`: part of the bench that is behind it by now, 0 to 1, for the time that is left. */
export type Say = (line: string, done?: number) => void;

export interface BenchContext {
  effort: EffortName;
  /** Those of the bench's words that stood on the command line; all where none did. */
  words: ReadonlySet<string>;
  say: Say;
}

/** Cells of a table, the first row is the header. */
export type Rows = readonly (readonly string[])[];

/**
 * A bench. `Results` is what is written as JSON and read again years later, so tables and charts are functions of it alone. Whether what was timed did its work
 * is `run`'s to verify.
 */
export interface Bench<Results = unknown> {
  /** On the command line, and of its files in results/. */
  name: string;
  /** A line of the usage. */
  about: string;
  /** Left out where it is not root that asks, unless it is the only one asked for. */
  needsRoot: boolean;
  /** Run when no bench is named. Smoke runs have all. */
  byDefault: boolean;
  /** About how long it takes on two CPUs, for what is said of the time left. */
  seconds: Readonly<Record<EffortName, number>>;
  /** Words that may follow the name, to have a part of it. */
  words?: readonly string[];
  /** @throws ChildError where it cannot run, or did not do what it should */
  run(context: BenchContext): Promise<Results>;
  tables(results: Results): Rows[];
  /** The first is written to results/NAME.svg, others to results/NAME-KEY.svg. */
  charts?(results: Results): Chart[];
  /** For `--gate`: a line for each case whose median ratio is above the limit. */
  aboveGate?(results: Results, limit: number): string[];
}

import type { ConfigProblem, Path } from './problem.js';
import { MAX_PROBLEMS, formatPath } from './problem.js';
import type { Source } from './source.js';

/** Collects what is wrong with one file while it is read, and puts each problem in its place. */
export class Findings {
  readonly errors: ConfigProblem[] = [];
  readonly warnings: ConfigProblem[] = [];
  /** Errors beyond MAX_PROBLEMS, counted but not kept. */
  more: number;

  constructor(
    private readonly file: string,
    private readonly source: Source,
  ) {
    for (const { place, path, message, remedy } of source.problems.slice(0, MAX_PROBLEMS)) {
      this.errors.push({ file, ...place, path: formatPath(path), message, remedy });
    }
    this.more = source.problems.length - this.errors.length;
  }

  /** A value (or with `what`, a key) that cannot stay as it is. */
  error(path: Path, message: string, remedy = '', what: 'key' | 'value' = 'value'): void {
    // Finding the place of each of 100,000 unknown keys would take minutes.
    if (this.errors.length >= MAX_PROBLEMS) this.more++;
    else this.errors.push(this.problem(path, what, message, remedy));
  }

  /** Something that works but is probably not meant. Those beyond MAX_PROBLEMS are not kept. */
  warn(path: Path, message: string, remedy = ''): void {
    if (this.warnings.length < MAX_PROBLEMS) this.warnings.push(this.problem(path, 'value', message, remedy));
  }

  /** Whether there is an error at this place or below it already. */
  touched(path: Path): boolean {
    const prefix = formatPath(path);
    return this.errors.some((error) => error.path.startsWith(prefix) && !/^\w/.test(error.path.slice(prefix.length)));
  }

  /** Line of a place, for messages that refer to another one. */
  lineOf(path: Path): number {
    return this.source.locate(path, 'key').line;
  }

  /** Sorts both lists as they stand in the file. */
  sort(): void {
    for (const list of [this.errors, this.warnings]) list.sort((a, b) => a.line - b.line || a.column - b.column);
  }

  private problem(path: Path, what: 'key' | 'value', message: string, remedy: string): ConfigProblem {
    const place = this.source.locate(path, what);
    const shown = what === 'value' ? this.written(path) : path;
    return { file: this.file, line: place.line, column: place.column, path: formatPath(shown), message, remedy };
  }

  /** The path as far as the file has it: `port: 70000` is `port`, though it is read as a list of one. */
  private written(path: Path): Path {
    let value: unknown = this.source.value;
    for (let i = 0; i < path.length; i++) {
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, path[i])) return path.slice(0, i);
      value = (value as Record<string | number, unknown>)[path[i]];
    }
    return path;
  }
}

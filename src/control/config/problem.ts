/** What is wrong with a configuration, and how that is told. */
import { SluiceError } from '../../errors.js';
import type { ConfigProblem } from '../../shared/config.js';

export type { ConfigProblem } from '../../shared/config.js';

/** Position in the tree of a configuration: keys and list indexes from the root. */
export type Path = readonly (string | number)[];

/** How many problems are kept and shown; a file with more than that is not a configuration with mistakes in it. */
export const MAX_PROBLEMS = 200;

/** Text of a value in a message is cut to this many characters. */
const MAX_SHOWN = 48;

/**
 * A configuration that cannot be used. `problems` holds all of them in the order of the file; `message` is their text, one
 * `file:line:column: path: what` a problem, each with its remedy indented below.
 */
export class ConfigError extends SluiceError {
  constructor(
    readonly problems: readonly ConfigProblem[],
    /** Problems found beyond those in `problems`. */
    readonly more = 0,
  ) {
    const lines = problems.map(formatProblem);
    if (more > 0) lines.push(`… and ${more} more problems`);
    super('SLUICE_CONFIG', lines.join('\n'));
  }
}

/** `sluice.yaml:12:7: services[0].port: 70000 is not a port (0-65535)`, and the remedy on a line below when there is one. */
export function formatProblem(problem: ConfigProblem): string {
  const position = problem.line > 0 ? `:${problem.line}:${problem.column}` : '';
  const path = problem.path === '' ? '' : `${problem.path}: `;
  const remedy = problem.remedy === '' ? '' : `\n  ${problem.remedy}`;
  return `${problem.file}${position}: ${path}${problem.message}${remedy}`;
}

/** "services[0].backends[1].weight"; keys that are no plain words are put in brackets and quotes. */
export function formatPath(path: Path): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else if (!/^[A-Za-z_][A-Za-z0-9_-]{0,63}$/.test(step)) text += `[${show(step)}]`;
    else text += text === '' ? step : `.${step}`;
  }
  return text;
}

/** A value as a message shows it: short, on one line, and without anything that could steer a terminal. */
export function show(value: unknown): string {
  if (typeof value === 'string') {
    const cut = value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}…` : value;
    // JSON.stringify escapes C0 controls; DEL, C1 controls and the separators U+2028 and U+2029 are left.
    return JSON.stringify(cut).replace(
      /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
      (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
  }
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  return String(value as number | boolean | bigint);
}

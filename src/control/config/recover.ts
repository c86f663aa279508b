/**
 * Holds a tree against a schema and keeps what is right of it.
 *
 * zod's own parse() gives up on a map when one of its keys is wrong, and then nothing that depends on two places can be
 * checked. Here maps and lists are walked, and only the values in them are parsed by zod: each problem is found in one go, each
 * unknown key gets its own line, and what could be read is there for the checks.
 */
import type { z } from 'zod';
import { nearest } from './nearest.js';
import { type Path, show } from './problem.js';

/** Takes a problem: where it is, whether the key or the value is meant, what it is, what to do. */
export type Report = (path: Path, what: 'key' | 'value', message: string, remedy: string) => void;

/**
 * The value as the schema reads it. In what comes back, a map lacks the keys that were refused, and a list has undefined in
 * their place; the whole is undefined when nothing is left.
 */
export function recover(schema: z.ZodType, value: unknown, path: Path, report: Report): unknown {
  // A key with nothing behind it counts as not there: "rules:" above a list that was commented out.
  const missing = value === undefined || value === null;
  // By `type`, since instanceof costs zod a set look-up in each of its traits: half of the time of a large file.
  const def = definition(schema);
  const type = def.type;
  if (value === null && (type === 'optional' || type === 'default' || type === 'prefault')) {
    const leaveOut = schema.meta()?.leaveOut;
    if (typeof leaveOut === 'string') {
      report(path, 'key', 'has no value', `Write one, or leave the key out ${leaveOut}`.trimEnd() + '.');
      return undefined;
    }
  }
  if (type === 'optional') return missing ? undefined : recover(def.innerType, value, path, report);
  if (type === 'default') return missing ? def.defaultValue : recover(def.innerType, value, path, report);
  if (type === 'prefault') return recover(def.innerType, missing ? def.defaultValue : value, path, report);
  if (missing) {
    reportMissing(schema, value, path, report);
    return undefined;
  }
  if (type === 'object') return recoverMap(schema as z.ZodObject, value, path, report);
  if (type === 'array') return recoverList(def.element, value, path, report);
  // A preprocess expands a short form; other pipes are readers of single values.
  if (type === 'pipe' && definition(def.in).type === 'transform') {
    return recover(def.out, def.in.parse(value), path, report);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const [message, remedy] = explain(issue, value);
    report(path, 'value', message, remedy);
  }
  return undefined;
}

/** What the walk looks at in a zod schema; which of it is there depends on `type`. */
interface Definition {
  type: string;
  innerType: z.ZodType;
  defaultValue: unknown;
  element: z.ZodType;
  in: z.ZodType;
  out: z.ZodType;
}

function definition(schema: z.ZodType): Definition {
  return schema.def as unknown as Definition;
}

function reportMissing(schema: z.ZodType, value: unknown, path: Path, report: Report): void {
  const key = path.at(-1);
  const example = schema.meta()?.example;
  const remedy = typeof key === 'string' && typeof example === 'string' ? `Write for example ${key}: ${example}` : '';
  report(path, 'key', value === undefined ? 'is missing' : 'has no value', remedy);
}

function recoverMap(schema: z.ZodObject, value: unknown, path: Path, report: Report): unknown {
  const known = Object.keys(schema.shape);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const keys = known.length === 0 ? '' : `Write keys and values; the keys here are ${known.join(', ')}.`;
    report(path, 'value', `is ${show(value)}, not a map`, keys);
    return undefined;
  }
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(schema.shape, key)) continue;
    report([...path, key], 'key', 'unknown key', suggest(key, known));
  }
  const result: Record<string, unknown> = {};
  for (const key of known) {
    const raw = Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
    result[key] = recover(schema.shape[key] as z.ZodType, raw, [...path, key], report);
  }
  return result;
}

function suggest(key: string, known: readonly string[]): string {
  if (key === '<<')
    return 'Merge keys are not read; use an alias for the whole value (key: *anchor) or write the keys out.';
  const near = nearest(key, known);
  if (near !== null) return `Did you mean ${near}?`;
  return known.length === 0 ? 'There are no keys here: take it out.' : `The keys here are ${known.join(', ')}.`;
}

function recoverList(element: z.ZodType, value: unknown, path: Path, report: Report): unknown {
  if (!Array.isArray(value)) {
    report(
      path,
      'value',
      `is ${show(value)}, not a list`,
      'Start each entry on its own line with "- ", or write [a, b].',
    );
    return undefined;
  }
  return value.map((entry, i) => {
    if (entry !== null) return recover(element, entry, [...path, i], report);
    report([...path, i], 'value', 'is an empty entry', 'Take the "-" out, or write something behind it.');
    return undefined;
  });
}

/** Our words for zod's issues. Those with a message of their own (the readers in scalars.ts) keep it. */
function explain(issue: z.core.$ZodIssue, input: unknown): [message: string, remedy: string] {
  if (issue.code === 'custom') {
    const remedy: unknown = issue.params?.remedy;
    return [issue.message, typeof remedy === 'string' ? remedy : ''];
  }
  if (issue.code === 'invalid_value') {
    const choices = issue.values.map(String);
    const near = typeof input === 'string' ? nearest(input, choices) : null;
    return [`${show(input)} is not one of ${choices.join(', ')}`, near === null ? '' : `Did you mean ${near}?`];
  }
  if (issue.code === 'invalid_type' && issue.expected === 'boolean') return [`${show(input)} is not true or false`, ''];
  return [issue.message, ''];
}

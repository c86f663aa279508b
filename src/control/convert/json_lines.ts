/** JSON with the line of every value, for messages. */
import { Unreadable } from './places.js';

export interface LinedJson {
  value: unknown;
  /** Line of a map or list of `value`, where it starts; of the map or list around it for single values. From 1. */
  lineOf(part: unknown, key?: string | number): number;
}

/** Deepest nesting that is looked into; a forwarding table has 5 levels. */
const MAX_DEPTH = 64;
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+|\n|"/g;

/** Reads JSON text. Throws Unreadable, with the line in the message. */
export function parseJson(text: string): LinedJson {
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\ufeff/, ''));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Unreadable(`is not JSON (line ${faultLine(text)}): ${message.replace(/\s+/g, ' ')}`);
  }
  const lines = new Map<unknown, Map<string | number, number>>();
  placeAll(text, value, lines);
  return {
    value,
    lineOf: (part, key = '') => lines.get(part)?.get(key) ?? lines.get(part)?.get('') ?? 0,
  };
}

interface Open {
  part: unknown;
  /** Position in a list; key of a map, null before it. */
  key: string | number | null;
}

/** Goes through the tokens of valid JSON and through its value in step. The line of a part itself is under ''. */
function placeAll(text: string, root: unknown, lines: Map<unknown, Map<string | number, number>>): void {
  const stack: Open[] = [];
  let line = 1;
  const child = (): unknown => {
    const top = stack.at(-1);
    if (!top) return root;
    if (typeof top.part !== 'object' || top.part === null || top.key === null) return undefined;
    return (top.part as Record<string | number, unknown>)[top.key];
  };
  const note = (): void => {
    const top = stack.at(-1);
    if (top?.key !== undefined && top.key !== null) lines.get(top.part)?.set(top.key, line);
  };
  for (const [token] of text.matchAll(TOKEN)) {
    const top = stack.at(-1);
    if (token === '\n') line++;
    else if (token === '{' || token === '[') {
      note();
      const part = child();
      stack.push({ part, key: token === '[' ? 0 : null });
      if (typeof part === 'object' && part !== null && stack.length <= MAX_DEPTH)
        lines.set(part, new Map([['', line]]));
    } else if (token === '}' || token === ']') stack.pop();
    else if (token === ',') {
      if (typeof top?.key === 'number') top.key++;
      else if (top) top.key = null;
    } else if (token !== ':') {
      if (top?.key === null && token.startsWith('"')) top.key = JSON.parse(token) as string;
      else note();
    }
  }
}

/** What may come next in JSON: by the token before it, and by whether that is in a map or a list. */
type Expected = 'value' | 'valueOrEnd' | 'key' | 'keyOrEnd' | 'colon' | 'commaOrEnd' | 'nothing';

/** Line of the first token that JSON (RFC 8259) does not have there; the last line when the text only ends too early. */
function faultLine(text: string): number {
  const open: string[] = [];
  let line = 1;
  let expected: Expected = 'value';
  const after = (): Expected => (open.length === 0 ? 'nothing' : 'commaOrEnd');
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '\n') line++;
    else if (token === '{' || token === '[') {
      if (!expected.startsWith('value')) return line;
      open.push(token);
      expected = token === '{' ? 'keyOrEnd' : 'valueOrEnd';
    } else if (token === '}' || token === ']') {
      if (!expected.endsWith('OrEnd') || open.pop() !== (token === '}' ? '{' : '[')) return line;
      expected = after();
    } else if (token === ',') {
      if (expected !== 'commaOrEnd') return line;
      expected = open.at(-1) === '{' ? 'key' : 'value';
    } else if (token === ':') {
      if (expected !== 'colon') return line;
      expected = 'value';
    } else {
      const key = expected.startsWith('key');
      if (!(key ? token.startsWith('"') : expected.startsWith('value')) || !isScalar(token)) return line;
      expected = key ? 'colon' : after();
    }
  }
  return line;
}

function isScalar(token: string): boolean {
  try {
    JSON.parse(token);
    return true;
  } catch {
    return false;
  }
}

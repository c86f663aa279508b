/**
 * From text to a plain tree, with the way back: for each place in the tree, where in the file it is.
 *
 * YAML is taken as its core: YAML 1.2, one document, string keys, no tags, no merge keys. Maps become objects without a
 * prototype, so that no key of a file can mean anything but itself.
 */
import { LineCounter, isAlias, isMap, isScalar, isSeq, parseDocument } from 'yaml';
import type { Alias, Document, Node, YAMLMap } from 'yaml';
import { type Path, show } from './problem.js';

/** Largest file that is read, bytes. 16,384 services with eight backends each take about 6 MB. */
export const MAX_BYTES = 16 * 1024 * 1024;
/** Values that aliases may add to those in the file ("billion laughs" is 10^9 of them in 1 kB). */
export const MAX_ALIASED = 1_000_000;
/** Depth of lists and maps. The surface needs 6, a filter's own options may need more. */
export const MAX_DEPTH = 64;

/** A place in the text: line and column count from 1. */
export interface Place {
  line: number;
  column: number;
}

/** A problem before it has a file name; `place` is where the text says it. */
export interface SourceProblem {
  place: Place;
  path: Path;
  message: string;
  remedy: string;
}

export interface Source {
  /**
   * The tree: null-prototype objects, arrays, strings, numbers, booleans, null. undefined when the text is not YAML or too
   * much of it; after lesser problems (a key twice, an alias to nothing) it is what the rest says.
   */
  value: unknown;
  problems: SourceProblem[];
  /** Where the value (or the key that names it) is; the nearest parent's place when there is no such thing. */
  locate(path: Path, what: 'key' | 'value'): Place;
}

/** Reads YAML text. Never throws: what is wrong is in `problems`. */
export function readSource(text: string): Source {
  const lines = new LineCounter();
  const deep = tooDeep(text);
  if (deep !== null)
    return unreadable(deep, 'lists or maps are nested too deeply', `At most ${MAX_DEPTH} levels are read.`);
  let document: Document.Parsed;
  try {
    // uniqueKeys compares each key with all before it, quadratic in the size of a map; Converter does it with a set.
    document = parseDocument(text, {
      lineCounter: lines,
      version: '1.2',
      schema: 'core',
      stringKeys: true,
      uniqueKeys: false,
      resolveKnownTags: false,
      prettyErrors: false,
      // 'silent' would also keep quiet about a second document.
      logLevel: 'error',
    });
  } catch (error) {
    return unreadable(0, `is not YAML: ${error instanceof Error ? error.message : String(error)}`, '');
  }
  const converter = new Converter(lines);
  for (const { pos, message, code } of [...document.errors, ...document.warnings]) {
    const [what, remedy] = explain(code, message, text.slice(pos[0], pos[0] + 1));
    converter.report(pos[0], [], what, remedy);
  }
  const directives = document.directives.yaml;
  if (directives.explicit === true && directives.version !== '1.2') {
    converter.report(
      0,
      [],
      `YAML ${directives.version} is not read`,
      'Take the %YAML line out: configurations are YAML 1.2.',
    );
  }
  let value: unknown;
  if (converter.problems.length === 0) value = converter.convert(document.contents, [], 0);
  return {
    value: converter.overflow ? undefined : value,
    problems: converter.problems,
    locate: (path, what) => converter.locate(document.contents, path, what),
  };
}

function unreadable(offset: number, message: string, remedy: string): Source {
  const place = { line: 1, column: offset + 1 };
  return { value: undefined, problems: [{ place, path: [], message, remedy }], locate: () => place };
}

/**
 * Brackets opened and not closed again, counted without regard to quotes: the parser recurses on them and takes 1.3 GB
 * for 3 MB of "[". Returns an offset when there are absurdly many, null when the parser may have the text.
 */
function tooDeep(text: string): number | null {
  let open = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x5b || c === 0x7b) {
      if (++open > 1000) return 0;
    } else if ((c === 0x5d || c === 0x7d) && open > 0) open--;
  }
  return /^[ ]*(?:[-?] +){65}/m.test(text) ? 0 : null;
}

/** Says in our words what the YAML parser says in its own, where its own do not lead anywhere. */
function explain(code: string, message: string, at: string): [message: string, remedy: string] {
  switch (code) {
    case 'TAG_RESOLVE_FAILED':
      return ['starts with "!", which is a tag in YAML', 'Put the value in quotes if the "!" belongs to it.'];
    case 'TAB_AS_INDENT':
      return ['is indented with a tab', 'Indent with spaces.'];
    case 'BLOCK_AS_IMPLICIT_KEY':
      return [
        'has a second ": " on the line',
        'Put the value in quotes if the ":" belongs to it, or start a new line.',
      ];
    case 'MULTIPLE_DOCS':
      return ['a second document starts here', 'Keep one document in the file: take the "---" out.'];
    case 'NON_STRING_KEY':
      return ['a key must be a plain word', ''];
    case 'BAD_SCALAR_START':
      return [`a value cannot start with ${show(at)}`, 'Put the value in quotes.'];
    default:
      return [`is not YAML: ${message.charAt(0).toLowerCase()}${message.slice(1)}`, ''];
  }
}

/** Walks the parsed document once, in its order, so that an anchor is known before the aliases that name it. */
class Converter {
  readonly problems: SourceProblem[] = [];
  private readonly anchors = new Map<string, Node>();
  private readonly targets = new Map<Alias, Node>();
  /** Anchored nodes that are being converted: an alias to one of them would never end. */
  private readonly open = new Set<Node>();
  /** Set when a limit was hit. */
  overflow = false;
  private aliasDepth = 0;
  private aliased = 0;

  constructor(private readonly lines: LineCounter) {}

  place(offset: number): Place {
    const { line, col } = this.lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  report(offset: number, path: Path, message: string, remedy: string): void {
    // What is wrong in an anchored value was said where it stands.
    if (this.aliasDepth > 0 && !this.overflow) return;
    this.problems.push({ place: this.place(offset), path, message, remedy });
  }

  convert(node: unknown, path: Path, depth: number): unknown {
    if (node === null || node === undefined) return null;
    const offset = offsetOf(node);
    if (this.overflow) return null;
    if (this.aliasDepth > 0 && ++this.aliased > MAX_ALIASED) {
      this.overflow = true;
      this.report(offset, path, `aliases add more than ${MAX_ALIASED} values`, 'Write the values out.');
      return null;
    }
    if (depth > MAX_DEPTH) {
      this.overflow = true;
      this.report(offset, path, 'lists or maps are nested too deeply', `At most ${MAX_DEPTH} levels are read.`);
      return null;
    }
    if (isAlias(node)) return this.convertAlias(node, path, depth);
    const anchor = (node as Node & { anchor?: string }).anchor;
    if (anchor !== undefined && this.aliasDepth === 0) this.anchors.set(anchor, node as Node);
    if (isScalar(node)) return node.value;
    this.open.add(node as Node);
    let value: unknown = null;
    if (isSeq(node)) value = node.items.map((item, i) => this.convert(item, [...path, i], depth + 1));
    else if (isMap(node)) value = this.convertMap(node, path, depth);
    this.open.delete(node as Node);
    return value;
  }

  private convertMap(map: YAMLMap, path: Path, depth: number): Record<string, unknown> {
    const object = Object.create(null) as Record<string, unknown>;
    const first = new Map<string, number>();
    for (const pair of map.items) {
      const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
      const offset = offsetOf(pair.key);
      const before = first.get(key);
      if (before !== undefined) {
        this.report(
          offset,
          [...path, key],
          `is here twice, first on line ${this.place(before).line}`,
          'Keep one of the two.',
        );
        continue;
      }
      first.set(key, offset);
      // Harmless here, but not in the objects that a filter module makes of its options.
      if (key === '__proto__') this.report(offset, [...path, key], 'unknown key', 'Take it out.');
      else object[key] = this.convert(pair.value, [...path, key], depth + 1);
    }
    return object;
  }

  private convertAlias(alias: Alias, path: Path, depth: number): unknown {
    // Known already when this alias is itself inside an anchored value: names may have moved on since.
    const target = this.targets.get(alias) ?? this.anchors.get(alias.source);
    const offset = offsetOf(alias);
    if (target === undefined) {
      this.report(
        offset,
        path,
        `there is no anchor &${alias.source} above`,
        `Put &${alias.source} in front of the value that is meant.`,
      );
      return null;
    }
    if (this.open.has(target)) {
      this.report(offset, path, `*${alias.source} contains itself`, '');
      return null;
    }
    this.targets.set(alias, target);
    this.aliasDepth++;
    const value = this.convert(target, path, depth);
    this.aliasDepth--;
    return value;
  }

  locate(root: unknown, path: Path, what: 'key' | 'value'): Place {
    let node = root;
    let offset = offsetOf(node);
    for (let i = 0; i < path.length; i++) {
      const holder: unknown = isAlias(node) ? this.targets.get(node) : node;
      const step = path[i];
      const last = i === path.length - 1;
      if (isMap(holder)) {
        const pair = holder.items.find((item) => isScalar(item.key) && String(item.key.value) === step);
        if (pair === undefined) break;
        const empty = pair.value === null || (isScalar(pair.value) && pair.value.value === null);
        node = pair.value;
        offset = offsetOf((last && what === 'key') || empty ? pair.key : pair.value);
      } else if (isSeq(holder) && typeof step === 'number' && step < holder.items.length) {
        node = holder.items[step];
        offset = offsetOf(node);
      } else break;
    }
    return this.place(offset);
  }
}

function offsetOf(node: unknown): number {
  return (node as { range?: [number, number, number] | null } | null)?.range?.[0] ?? 0;
}

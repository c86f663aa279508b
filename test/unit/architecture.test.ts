/**
 * The walls of the house, checked on resolved imports of src/: who may import whom, no cycles, files of a size that one
 * reads in one go. eslint.config.js has the same walls as patterns, for the editor.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** Longest file that we accept, and the median to keep, in lines. */
const LINES_MOST = 450;
const LINES_MEDIAN = 200;

/** Layers by path prefix, the longest match counts; `may` lists path prefixes that the layer imports beside itself. */
const LAYERS: { prefix: string; may: string[] }[] = [
  { prefix: 'src/errors.ts', may: [] },
  { prefix: 'src/native', may: ['src/errors.ts'] },
  { prefix: 'src/shared/', may: ['src/errors.ts'] },
  { prefix: 'src/pcap/', may: ['src/shared/', 'src/errors.ts'] },
  { prefix: 'src/dataplane/', may: ['src/shared/', 'src/native.ts', 'src/errors.ts'] },
  {
    prefix: 'src/dataplane/ports/pcap.ts',
    may: ['src/dataplane/', 'src/pcap/', 'src/shared/', 'src/native.ts', 'src/errors.ts'],
  },
  // verdict.ts has the names of verdicts and drop reasons, for metrics and logs.
  {
    prefix: 'src/control/',
    may: ['src/pcap/', 'src/shared/', 'src/native.ts', 'src/errors.ts', 'src/dataplane/verdict.ts'],
  },
  // Replay and explain run the data plane over a capture file.
  ...['src/control/replay.ts', 'src/control/replay_path.ts', 'src/control/explain/'].map((prefix) => ({
    prefix,
    may: ['src/control/', 'src/dataplane/', 'src/pcap/', 'src/shared/', 'src/native.ts', 'src/errors.ts'],
  })),
  {
    prefix: 'src/playground/',
    may: ['src/control/', 'src/shared/', 'src/pcap/', 'src/native.ts', 'src/errors.ts', 'src/dataplane/verdict.ts'],
  },
  { prefix: 'src/generator/', may: ['src/control/', 'src/pcap/', 'src/shared/', 'src/native.ts', 'src/errors.ts'] },
  // Jobs that are timed: programs over the library, and what a worker does.
  {
    prefix: 'src/bench/',
    may: [
      'src/library',
      'src/control/',
      'src/dataplane/',
      'src/generator/',
      'src/shared/',
      'src/native.ts',
      'src/errors.ts',
    ],
  },
  {
    prefix: 'src/cli/',
    may: [
      'src/bench/',
      'src/control/',
      'src/generator/',
      'src/playground/',
      'src/pcap/',
      'src/shared/',
      'src/native.ts',
      'src/errors.ts',
      'src/dataplane/verdict.ts',
    ],
  },
  // The library brings both planes together in one thread, and its face may show anything.
  {
    prefix: 'src/library',
    may: ['src/control/', 'src/dataplane/', 'src/shared/', 'src/native.ts', 'src/errors.ts'],
  },
  { prefix: 'src/ts.ts', may: ['src/dataplane/filter/'] },
  { prefix: 'src/public_enums.ts', may: ['src/dataplane/', 'src/shared/'] },
  { prefix: 'src/index.ts', may: ['src/'] },
];

function layerOf(file: string): (typeof LAYERS)[number] | undefined {
  return LAYERS.filter((layer) => file.startsWith(layer.prefix)).sort((a, b) => b.prefix.length - a.prefix.length)[0];
}

interface Import {
  target: string;
  /** Gone after compilation: `import type`. It counts for layers, but makes no cycle at run time. */
  typeOnly: boolean;
}

/** Relative imports of a source text, resolved to paths from the root. */
function importsOf(file: string, text: string): Import[] {
  const found: Import[] = [];
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const statement = /\b(?:import|export)\s+(type\s)?[^'";]*?\bfrom\s*'([^']+)'|\bimport\s*\(?\s*'([^']+)'/g;
  for (const match of code.matchAll(statement)) {
    const specifier = match[2] ?? match[3];
    if (!specifier.startsWith('.')) continue;
    const target = relative(root, join(root, dirname(file), specifier)).replace(/\.js$/, '.ts');
    found.push({ target, typeOnly: match[1] !== undefined });
  }
  return found;
}

/** Paths of files round each cycle of run-time imports, by depth-first search. */
function cycles(graph: Map<string, Import[]>): string[] {
  const found: string[] = [];
  const state = new Map<string, 'open' | 'done'>();
  const visit = (file: string, trail: string[]): void => {
    if (state.get(file) === 'done') return;
    if (state.get(file) === 'open') {
      found.push([...trail.slice(trail.indexOf(file)), file].join(' → '));
      return;
    }
    state.set(file, 'open');
    for (const { target, typeOnly } of graph.get(file) ?? []) if (!typeOnly) visit(target, [...trail, file]);
    state.set(file, 'done');
  };
  for (const file of graph.keys()) visit(file, []);
  return found;
}

function violations(graph: Map<string, Import[]>): string[] {
  const found: string[] = [];
  for (const [file, imports] of graph) {
    const layer = layerOf(file);
    if (!layer) found.push(`${file} is in no layer: give it one in test/unit/architecture.test.ts`);
    for (const { target } of imports) {
      const inside = layer && layerOf(target) === layer;
      if (!inside && !layer?.may.some((prefix) => target.startsWith(prefix))) found.push(`${file} imports ${target}`);
    }
  }
  return found;
}

const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => `src/${file}`)
  .sort();
const sources = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));
const graph = new Map(files.map((file) => [file, importsOf(file, sources.get(file)!)]));

describe('the house', () => {
  it('has walls: each layer imports only what it may', () => {
    expect(violations(graph)).toEqual([]);
  });

  it('has no import cycles', () => {
    expect(cycles(graph)).toEqual([]);
  });

  it('imports only files that are there', () => {
    const missing = [...graph].flatMap(([file, imports]) =>
      imports.filter(({ target }) => !existsSync(join(root, target))).map(({ target }) => `${file} imports ${target}`),
    );
    expect(missing).toEqual([]);
  });

  it('loads native code in src/native.ts only', () => {
    const loaders = files.filter((file) => /createRequire|process\.dlopen|\.node['"`]/.test(sources.get(file)!));
    expect(loaders).toEqual(['src/native.ts']);
  });

  it(`has no file over ${LINES_MOST} lines, and a median of ${LINES_MEDIAN} at most`, () => {
    const lines = files.map((file) => ({ file, count: sources.get(file)!.split('\n').length }));
    expect(lines.filter(({ count }) => count > LINES_MOST)).toEqual([]);
    const sorted = lines.map(({ count }) => count).sort((a, b) => a - b);
    expect(sorted[sorted.length >> 1]).toBeLessThanOrEqual(LINES_MEDIAN);
  });
});

describe('the checker itself', () => {
  const parse = (text: string) => importsOf('src/dataplane/poll.ts', text);

  it('reads every form of import, and none in comments', () => {
    expect(parse("import { a } from './a.js';")).toEqual([{ target: 'src/dataplane/a.ts', typeOnly: false }]);
    expect(parse("import type { A } from '../shared/a.js';")).toEqual([{ target: 'src/shared/a.ts', typeOnly: true }]);
    expect(parse("export {\n  a,\n  b,\n} from './a.js';")).toHaveLength(1);
    expect(parse("export * from './a.js';")).toHaveLength(1);
    expect(parse("import './a.js';")).toHaveLength(1);
    expect(parse("const a = await import('./a.js');")).toHaveLength(1);
    expect(parse("import fs from 'node:fs';\nimport { a } from './a.js';")).toHaveLength(1);
    expect(parse("// import { a } from './a.js';\n/* import './b.js'; */")).toEqual([]);
  });

  it('sees a cycle, but not one of types', () => {
    const edge = (target: string, typeOnly: boolean): Import[] => [{ target, typeOnly }];
    expect(
      cycles(
        new Map([
          ['a', edge('b', false)],
          ['b', edge('a', false)],
        ]),
      ),
    ).toEqual(['a → b → a']);
    expect(
      cycles(
        new Map([
          ['a', edge('b', false)],
          ['b', edge('a', true)],
        ]),
      ),
    ).toEqual([]);
  });

  it.each([
    ['src/dataplane/poll.ts', 'src/control/manager.ts'],
    ['src/dataplane/poll.ts', 'src/pcap/capture.ts'],
    ['src/control/manager.ts', 'src/dataplane/poll.ts'],
    ['src/control/manager.ts', 'src/cli/main.ts'],
    ['src/shared/addr.ts', 'src/native.ts'],
    ['src/native.ts', 'src/shared/layout.ts'],
    ['src/nowhere/x.ts', 'src/errors.ts'],
  ])('refuses %s importing %s', (file, target) => {
    expect(violations(new Map([[file, [{ target, typeOnly: true }]]]))).not.toEqual([]);
  });

  it.each([
    ['src/dataplane/ports/pcap.ts', 'src/pcap/capture.ts'],
    ['src/control/metrics/prometheus.ts', 'src/dataplane/verdict.ts'],
    ['src/control/replay.ts', 'src/dataplane/poll.ts'],
  ])('allows %s importing %s', (file, target) => {
    expect(violations(new Map([[file, [{ target, typeOnly: false }]]]))).toEqual([]);
  });
});

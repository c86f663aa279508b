/**
 * Filter modules of users, loaded in worker threads by the compiled code, as the daemon does. Files lie in a directory of their own,
 * far from this package.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { moduleUrl } from '../../src/control/manager/module_url.js';
import { FilterVerdict } from '../../src/dataplane/filter/contract.js';
import { packageRoot } from '../../src/native.js';
import type { FilterSpec } from '../../src/shared/layout.js';

interface Answer {
  verdicts: (number | string)[];
  /** Modules that were not loaded before. */
  imports: number;
  /** What the test's modules left in `globalThis.made`. */
  made: unknown[];
  error?: { name: string; code: string; message: string; remedy: string };
}

let directory: string;
const workers: Worker[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-filter-'));
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
  rmSync(directory, { recursive: true, force: true });
});

function write(name: string, text: string): string {
  const path = join(directory, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

/** A worker thread of the compiled package at `dist`. */
function thread(dist = join(packageRoot, 'dist')) {
  const file = fileURLToPath(new URL('../support/filter_thread.mjs', import.meta.url));
  const worker = new Worker(file, { workerData: { dist } });
  workers.push(worker);
  return (specs: FilterSpec[], packets = 1) =>
    new Promise<Answer>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('message', (answer: Answer) => {
        worker.off('error', reject);
        resolve(answer);
      });
      worker.postMessage({ specs, packets });
    });
}

const spec = (path: string, options: unknown = undefined, url = moduleUrl(path)): FilterSpec => ({
  kind: 'module',
  name: 'test',
  url,
  options,
});

/** A module that says `verdict`. */
const saying = (verdict: string, more = '') =>
  `import { defineFilter, FilterVerdict } from 'sluice';\n${more}\nexport default defineFilter({ name: 'a', create: () => () => ${verdict} });\n`;

const DROP = FilterVerdict.Drop;
const PASS = FilterVerdict.Pass;
const CONTINUE = FilterVerdict.Continue;

describe('a filter module', { timeout: 60_000 }, () => {
  it('may be JavaScript or TypeScript, import sluice from anywhere, relative files, packages and Node itself', async () => {
    write('lib/limits.ts', "import { base } from './base.js';\nexport const limit: number = base + 1;\n");
    write('lib/base.mjs', 'export const base = 1;\n');
    // ./base.js of a TypeScript file is base.ts when there is no base.js.
    write('lib/base.ts', 'export const base: number = 40;\n');
    write('node_modules/tiny/package.json', '{ "name": "tiny", "type": "module", "exports": "./index.js" }');
    write('node_modules/tiny/index.js', 'export const two = 2;\n');
    const ts = write(
      'my-filter.ts',
      `import { hostname } from 'node:os';
       import { two } from 'tiny';
       import { limit } from './lib/limits.ts';
       import { defineFilter, FilterVerdict, PacketFilter, type Packet } from 'sluice';
       enum Level { low = 41 }
       const judge: PacketFilter = (packet: Packet) =>
         (limit as number) === Level.low && two === 2 && hostname() !== '' && packet.length === 64 ? FilterVerdict.Drop : FilterVerdict.Pass;
       export default defineFilter({ name: 'mine', create: () => judge });`,
    );
    const js = write('plain.mjs', saying('FilterVerdict.Continue'));
    // No package.json says that it is a module; its syntax does.
    const bare = write('bare.js', saying('FilterVerdict.Continue'));
    const load = thread();
    expect(await load([spec(js), spec(bare), spec(ts)])).toMatchObject({ imports: 3, verdicts: [DROP] });
  });

  it('gets its options, its worker and the clock, once in each thread', async () => {
    const path = write(
      'context.mjs',
      `export default { name: 'c', create({ options, worker, nowMs }) {
         (globalThis.made ??= []).push({ options, worker, now: nowMs() });
         return () => -1;
       } };`,
    );
    const options = { limit: 3, names: ['a', 'b'] };
    const answers = await Promise.all([thread(), thread()].map((load) => load([spec(path, options)])));
    for (const { made } of answers) expect(made).toEqual([{ options, worker: 3, now: 1234 }]);
  });

  it('keeps its state while file and options stay, also twice in one chain, and starts afresh when they change', async () => {
    const counting = (first: number) =>
      `export default { name: 'n', create: ({ options }) => { let n = ${first} + (options?.from ?? 0); return () => (n++ >= 3 ? 1 : -1); } };`;
    const path = write('count.mjs', counting(0));
    const load = thread();
    expect((await load([spec(path)], 2)).verdicts).toEqual([CONTINUE, CONTINUE]);
    // A publication with nothing new: the third and fourth packet.
    expect(await load([{ kind: 'rules' }, spec(path)], 2)).toMatchObject({ imports: 0, verdicts: [CONTINUE, DROP] });
    expect((await load([spec(path, { from: 1 })], 3)).verdicts).toEqual([CONTINUE, CONTINUE, DROP]);
    write('count.mjs', counting(2));
    expect(await load([spec(path)], 2)).toMatchObject({ imports: 1, verdicts: [CONTINUE, DROP] });
    // Two instances of one module do not share what they know: the second counts what the first lets through.
    write('count.mjs', counting(-1));
    expect((await load([spec(path), spec(path)], 5)).verdicts).toEqual([CONTINUE, CONTINUE, CONTINUE, CONTINUE, DROP]);
  });

  it('is read again when it, or a file that it imports, has changed, and only then', async () => {
    write('deep.mjs', "export const verdict = 'Drop';\n");
    write('helper.ts', "export { verdict } from './deep.mjs';\n");
    const path = write('watched.ts', saying('FilterVerdict[verdict]', "import { verdict } from './helper.ts';"));
    const load = thread();
    expect(await load([spec(path)])).toMatchObject({ imports: 1, verdicts: [DROP] });
    expect(await load([spec(path)])).toMatchObject({ imports: 0, verdicts: [DROP] });
    write('deep.mjs', "export const verdict = 'Pass';\n");
    expect(await load([spec(path)])).toMatchObject({ imports: 1, verdicts: [PASS] });
    write('deep.mjs', "export const verdict = 'Drop';\n");
    expect(await load([spec(path)])).toMatchObject({ imports: 0, verdicts: [DROP] });
    write('unrelated.ts', 'export {};\n');
    expect(await load([spec(path)])).toMatchObject({ imports: 0 });
  });

  it('takes a cycle of imports', () => {
    write('a.mjs', "import './b.mjs'; export default { name: 'a', create: () => () => -1 };");
    write('b.mjs', "import './a.mjs';");
    expect(moduleUrl(join(directory, 'a.mjs'))).toMatch(/\/a\.mjs\?v=[0-9a-f]{16}$/);
  });
});

describe('a filter module that is no good is refused by name, and the thread goes on', { timeout: 60_000 }, () => {
  const bad: [what: string, name: string, text: string, message: RegExp, remedy?: RegExp][] = [
    ['does not parse (TypeScript)', 'x.ts', 'const a: number = 1;\nexport default {\n  create( {};\n', /SyntaxError: .*x\.ts:3:\d+: /],
    ['does not parse (JavaScript)', 'x.mjs', 'const a = 1;\nexport default {{;\n', /SyntaxError: Unexpected token/, /node --check .*x\.mjs$/],
    ['lacks a brace that the compiler would add', 'x.ts', saying('1').replace(/\}\);\n$/, ''), /SyntaxError: .*x\.ts:\d+:\d+/],
    ['has no default export', 'x.ts', 'export const create = () => () => 1;\n', /no filter as its default export/, /defineFilter/],
    ['exports something else', 'x.mjs', 'export default () => 1;\n', /no filter as its default export/, /defineFilter/],
    ['throws when imported', 'x.ts', "throw new RangeError('not today');\n", /RangeError: not today/],
    ['throws a string', 'x.mjs', "throw 'nothing';\n", /cannot be loaded: nothing/],
    ['throws in create', 'x.ts', "export default { name: 'x', create() { throw new RangeError('limit is 0'); } };", /create\(\) of .*x\.ts threw RangeError: limit is 0/],
    ['creates nothing', 'x.mjs', "export default { name: 'x', create() {} };", /create\(\) of .*x\.mjs returned undefined/, /function/],
    ['creates a promise', 'x.mjs', "export default { name: 'x', async create() { return () => 1; } };", /returned a Promise/, /function/],
    ['imports a package that is not there', 'x.ts', "import 'no-such-package-anywhere';\nexport default { name: 'x', create: () => () => 1 };", /no-such-package-anywhere/],
    ['imports a file that is not there', 'x.mjs', "import './gone.mjs';\n", /gone\.mjs/],
    ['imports a name that sluice does not have', 'x.ts', "import { Verdikt } from 'sluice';\nexport default { name: 'x', create: () => () => Verdikt.Drop };", /Verdikt/],
  ]; // prettier-ignore

  it.each(bad)('when it %s', async (_what, name, text, message, remedy) => {
    const load = thread();
    const good = spec(write('good.mjs', saying('FilterVerdict.Drop')));
    expect((await load([good])).verdicts).toEqual([DROP]);
    const path = write(name, text);
    const { error } = await load([good, spec(path)]);
    expect(error).toMatchObject({
      name: 'SluiceError',
      code: 'SLUICE_CONFIG',
      message: expect.stringMatching(message),
    });
    expect(error!.message).toContain(path);
    if (remedy) expect(error!.remedy).toMatch(remedy);
    expect((await load([good])).verdicts).toEqual([DROP]);
    // Put right, it is taken.
    write(name, "export default { name: 'x', create: () => () => 2 };\n");
    expect((await load([spec(path)])).verdicts).toEqual([PASS]);
  });

  it('when it is not there, at once', () => {
    expect(() => moduleUrl(join(directory, 'gone.ts'))).toThrow(
      expect.objectContaining({ code: 'SLUICE_CONFIG', message: expect.stringContaining('gone.ts cannot be read') }),
    );
  });

  it('and is tried again under the same URL: what it lacked may be there now', async () => {
    const path = write('needs.mjs', "import 'late';\nexport default { name: 'x', create: () => () => 1 };");
    const load = thread();
    expect((await load([spec(path)])).error?.message).toContain('late');
    write('node_modules/late/package.json', '{ "name": "late", "type": "module", "exports": "./index.js" }');
    write('node_modules/late/index.js', 'export {};\n');
    expect((await load([spec(path)])).verdicts).toEqual([DROP]);
  });

  it('when a packet gets no verdict from it', async () => {
    const path = write('silent.ts', "export default { name: 'x', create: () => () => undefined };");
    expect((await thread()([spec(path)])).verdicts).toEqual([
      expect.stringMatching(/returned undefined.*no FilterVerdict/),
    ]);
  });

  it('without the package typescript, when it is TypeScript, with what to do; JavaScript works all the same', async () => {
    // The compiled package alone, where no typescript is to be found.
    symlinkSync(join(packageRoot, 'package.json'), join(directory, 'package.json'));
    const { cpSync } = await import('node:fs');
    cpSync(join(packageRoot, 'dist'), join(directory, 'dist'), { recursive: true });
    const load = thread(join(directory, 'dist'));
    const own = "export default { name: 'x', create: () => () => 1 };";
    expect((await load([spec(write('f.mjs', own))])).verdicts).toEqual([DROP]);
    const { error, verdicts } = await load([spec(write('f.ts', own))]);
    if (Number(process.versions.node.split('.')[0]) >= 23) expect(verdicts).toEqual([DROP]);
    else expect(error?.message).toMatch(/f\.ts is TypeScript.*"typescript" is not installed.*npm install typescript/);
    // Beside the file it is found as well.
    mkdirSync(join(directory, 'user/node_modules'), { recursive: true });
    symlinkSync(join(packageRoot, 'node_modules/typescript'), join(directory, 'user/node_modules/typescript'));
    expect((await load([spec(write('user/filters/f.ts', own))])).verdicts).toEqual([DROP]);
  });
});

describe('a thread with a TypeScript filter', { timeout: 60_000 }, () => {
  it('does not hold the compiler', async () => {
    const path = write('small.ts', saying('FilterVerdict.Drop'));
    const load = thread();
    // The compiler takes 80 MB when it is loaded, and its threads' heaps never shrink again.
    const before = process.memoryUsage().rss;
    await load([spec(path)]);
    expect(process.memoryUsage().rss - before).toBeLessThan(70e6);
  });

  it('reports the line of the source when it throws', async () => {
    const path = write(
      'throws.ts',
      "\n\nexport default { name: 'x', create: () => (): number => {\n  throw new Error('here');\n} };",
    );
    expect((await thread()([spec(path)])).verdicts).toEqual(['Error: here']);
  });

  it('finds its module by a URL with special characters', async () => {
    const path = write('a b#c?é/ü%20.ts', saying('FilterVerdict.Drop'));
    expect(pathToFileURL(path).href).toContain('%23');
    expect((await thread()([spec(path)])).verdicts).toEqual([DROP]);
  });
});

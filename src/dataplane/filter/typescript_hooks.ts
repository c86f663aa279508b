/**
 * Module hooks (node:module register) that let Node import TypeScript, and `sluice` from anywhere on disk.
 *
 * - Types are stripped one file at a time; nothing is checked but syntax. The compiler runs in a child process: inside, it would cost
 *   every worker 125 MB for as long as it lives.
 * - `sluice` is this very package wherever the importing file lies, so that a filter and the data path agree on every number.
 * - A URL's `?v=` (see control/manager/module_url.ts) goes on to what the module imports by a relative path: a change in any of these
 *   files makes all of them new modules.
 */
import { execFile } from 'node:child_process';
import * as nodeModule from 'node:module';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Transpiled } from './transpile.js';

interface Resolved {
  url: string;
  shortCircuit?: boolean;
}

interface Loaded {
  format: string;
  source?: string | ArrayBuffer | Uint8Array;
  shortCircuit?: boolean;
}

interface ResolveContext {
  parentURL?: string;
}

type Next<Context, Result> = (specifier: string, context: Context) => Promise<Result>;

/** What package.json exports, by specifier. */
const OWN: ReadonlyMap<string, string> = new Map([
  ['sluice', new URL('../../index.js', import.meta.url).href],
  ['sluice/config', new URL('../../control/config/index.js', import.meta.url).href],
]);

const TRANSPILER = fileURLToPath(new URL('./transpile.js', import.meta.url));

/** Longest that the compiler may take for one file, ms; it needs about a second on a busy machine. */
const TRANSPILE_MS = 60_000;

export async function resolve(
  specifier: string,
  context: ResolveContext,
  next: Next<ResolveContext, Resolved>,
): Promise<Resolved> {
  const own = OWN.get(specifier);
  if (own !== undefined) return { url: own, shortCircuit: true };
  const { parentURL = '' } = context;
  const resolved = await resolveOrTypeScript(specifier, context, next);
  const version = /^file:[^?]*(\?v=.*)$/.exec(parentURL)?.[1];
  if (version === undefined || !/^\.\.?\//.test(specifier) || resolved.url.includes('?')) return resolved;
  return { ...resolved, url: resolved.url + version };
}

/** `./helper.js` in a TypeScript file means helper.ts, as for the compiler under "module": "nodenext". */
async function resolveOrTypeScript(
  specifier: string,
  context: ResolveContext,
  next: Next<ResolveContext, Resolved>,
): Promise<Resolved> {
  try {
    return await next(specifier, context);
  } catch (error) {
    const source = /^(\.\.?\/.*\.m?)js$/.exec(specifier)?.[1];
    const fromTypeScript = /^file:[^?]*\.m?ts(\?|$)/.test(context.parentURL ?? '');
    if (source === undefined || !fromTypeScript) throw error;
    try {
      return await next(`${source}ts`, context);
    } catch {
      throw error;
    }
  }
}

export async function load(url: string, context: object, next: Next<object, Loaded>): Promise<Loaded> {
  const path = url.startsWith('file:') ? url.replace(/[?#].*$/, '') : '';
  if (!/\.m?ts$/.test(path)) return next(url, context);
  return { format: 'module', source: await strip(fileURLToPath(path)), shortCircuit: true };
}

/** JavaScript of a TypeScript file. Throws SyntaxError with file, line and column. */
async function strip(fileName: string): Promise<string> {
  const result = await transpile(fileName);
  if ('code' in result) return result.code;
  if ('syntax' in result) throw new SyntaxError(result.syntax);
  // Node 22.13 and later can do it alone, as far as types only have to be erased.
  const builtIn = (nodeModule as { stripTypeScriptTypes?: (source: string) => string }).stripTypeScriptTypes;
  if (builtIn) return builtIn(await readFile(fileName, 'utf8'));
  throw new Error(
    `${fileName} is TypeScript, and the package "typescript" is not installed, which Node ${process.versions.node} needs to ` +
      'read it. Install it beside sluice or beside the file (npm install typescript), use Node 22.18 or newer, or compile the ' +
      'file to JavaScript',
  );
}

function transpile(fileName: string): Promise<Transpiled> {
  const options = { encoding: 'utf8', maxBuffer: 64 << 20, timeout: TRANSPILE_MS } as const;
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [TRANSPILER, fileName], options, (error, stdout, stderr) => {
      if (!error) resolve(JSON.parse(stdout) as Transpiled);
      else reject(new Error(`${fileName} could not be compiled: ${stderr.trim() || error.message}`));
    });
  });
}

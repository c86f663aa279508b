/**
 * Module hooks (node:module register) that let a worker import a filter written in TypeScript: types are stripped one file at
 * a time by the typescript package, nothing is checked. `sluice` resolves to this very package wherever the file lies.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

interface Resolved {
  url: string;
  shortCircuit?: boolean;
}

interface Loaded {
  format: string;
  source?: string | ArrayBuffer | Uint8Array;
  shortCircuit?: boolean;
}

type Next<Context, Result> = (specifier: string, context: Context) => Promise<Result>;

const ownIndex = new URL('../../index.js', import.meta.url).href;

export async function resolve(specifier: string, context: object, next: Next<object, Resolved>): Promise<Resolved> {
  if (specifier === 'sluice') return { url: ownIndex, shortCircuit: true };
  return next(specifier, context);
}

export async function load(url: string, context: object, next: Next<object, Loaded>): Promise<Loaded> {
  const path = url.startsWith('file:') ? url.replace(/\?.*$/, '') : '';
  if (!/\.[mc]?ts$/.test(path)) return next(url, context);
  const fileName = fileURLToPath(path);
  const { default: ts } = await import('typescript');
  const { outputText } = ts.transpileModule(await readFile(fileName, 'utf8'), {
    fileName,
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      inlineSourceMap: true,
      verbatimModuleSyntax: false,
    },
  });
  return { format: 'module', source: outputText, shortCircuit: true };
}

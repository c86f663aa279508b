/**
 * A program: strips the types from one TypeScript file and prints a `Transpiled` as JSON. See typescript_hooks.ts.
 *
 *     node transpile.js FILE
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type TypeScript from 'typescript';

export type Transpiled =
  | { code: string }
  /** The file is not TypeScript: what is wrong with it, and where. */
  | { syntax: string }
  | { missing: 'typescript' };

/** The compiler beside sluice, or beside the file. It is an optional peer dependency. */
async function compiler(fileName: string): Promise<typeof TypeScript | null> {
  const own = await imported('typescript');
  if (own) return own;
  for (let folder = dirname(fileName); folder !== dirname(folder); folder = dirname(folder)) {
    const path = join(folder, 'node_modules', 'typescript', 'lib', 'typescript.js');
    if (existsSync(path)) return imported(pathToFileURL(path).href);
  }
  return null;
}

async function imported(specifier: string): Promise<typeof TypeScript | null> {
  try {
    return ((await import(specifier)) as { default: typeof TypeScript }).default;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') return null;
    throw error;
  }
}

async function transpile(fileName: string): Promise<Transpiled> {
  const source = readFileSync(fileName, 'utf8');
  const ts = await compiler(fileName);
  if (!ts) return { missing: 'typescript' };
  const { outputText, diagnostics = [] } = ts.transpileModule(source, {
    fileName,
    reportDiagnostics: true,
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      inlineSourceMap: true,
      isolatedModules: true,
      verbatimModuleSyntax: false,
    },
  });
  const wrong = diagnostics.find(({ category }) => category === ts.DiagnosticCategory.Error);
  if (!wrong) return { code: outputText };
  const at = wrong.file?.getLineAndCharacterOfPosition(wrong.start ?? 0) ?? { line: 0, character: 0 };
  const text = ts.flattenDiagnosticMessageText(wrong.messageText, ' ');
  return { syntax: `${fileName}:${at.line + 1}:${at.character + 1}: ${text}` };
}

process.stdout.write(JSON.stringify(await transpile(process.argv[2])));

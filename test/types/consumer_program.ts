/**
 * Compiles a program that uses the library as somebody else's project would: from its declarations only, in another
 * package, under the strictest of the usual settings. Declarations are made afresh from the sources, not taken from dist/.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import ts from 'typescript';

/** As a library consumer with a bundler or esbuild would have them. */
const CONSUMER_OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  lib: ['lib.es2023.d.ts'],
  strict: true,
  isolatedModules: true,
  skipLibCheck: false,
  noEmit: true,
  types: ['node'],
};

export interface Consumer {
  /** Names that the package exports, types and values. */
  exports: string[];
  /** Of these, the ones that are there at run time. */
  values: string[];
  /** Compiles a consumer's source text, or several modules of it; messages of all errors, its own and the library's. */
  compile(...sources: string[]): string[];
  /** Removes the temporary directory. */
  dispose(): void;
}

function message(diagnostic: ts.Diagnostic): string {
  const text = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n');
  const file = diagnostic.file ? `${diagnostic.file.fileName}: ` : '';
  return `${file}TS${diagnostic.code}: ${text}`;
}

/**
 * Installs the package whose entry is `entry` (a .ts file) under the name 'sluice' in a temporary project.
 * `root` is where its tsconfig.build.json and node_modules are.
 */
export function installConsumer(root: string, entry: string): Consumer {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-types-'));
  const library = join(directory, 'node_modules', 'sluice');
  mkdirSync(join(directory, 'node_modules', '@types'), { recursive: true });
  // The library's own dependencies are found from where it is installed; types of Node are the consumer's.
  const dependencies = Object.keys(
    (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { dependencies: object }).dependencies,
  );
  for (const name of [...dependencies, '@types/node', 'undici-types']) {
    symlinkSync(join(root, 'node_modules', name), join(directory, 'node_modules', name));
  }
  emitDeclarations(root, entry, join(library, 'dist'));
  const manifest = {
    name: 'sluice',
    version: '0.0.0',
    type: 'module',
    exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } },
  };
  writeFileSync(join(library, 'package.json'), JSON.stringify(manifest));
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ type: 'module' }));

  const program = (...sources: string[]) => {
    const files = sources.map((_, i) => join(directory, `consumer${i}.ts`));
    files.forEach((file, i) => writeFileSync(file, sources[i]));
    return ts.createProgram(files, {
      ...CONSUMER_OPTIONS,
      typeRoots: [join(directory, 'node_modules', '@types')],
    });
  };
  const first = program("import * as sluice from 'sluice';\nexport default sluice;\n");
  const checker = first.getTypeChecker();
  const declarations = first.getSourceFile(join(library, 'dist', 'index.d.ts'));
  const symbol = declarations && checker.getSymbolAtLocation(declarations);
  const found = symbol ? checker.getExportsOfModule(symbol) : [];
  const isValue = (one: ts.Symbol) => {
    const target = one.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(one) : one;
    return (target.flags & ts.SymbolFlags.Value) !== 0;
  };
  return {
    exports: found.map((one) => one.name),
    values: found.filter(isValue).map((one) => one.name),
    compile: (...sources) => ts.getPreEmitDiagnostics(program(...sources)).map(message),
    dispose: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** Declarations of `entry` and of all that it imports, below `outDir`. */
function emitDeclarations(root: string, entry: string, outDir: string): void {
  const read = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => readFileSync(path, 'utf8'));
  const { options } = ts.parseJsonConfigFileContent(read.config, ts.sys, root, undefined, undefined);
  const emit: ts.CompilerOptions = {
    ...options,
    rootDir: dirname(resolve(entry)),
    outDir,
    declaration: true,
    emitDeclarationOnly: true,
    sourceMap: false,
  };
  ts.createProgram([entry], { ...emit, typeRoots: [join(root, 'node_modules/@types')] }).emit();
}

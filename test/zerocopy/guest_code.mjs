/**
 * The guest's tests as JavaScript: Node there runs what `npm run build` made of src/, and this makes the same of the tests, by
 * dropping types file by file. They are laid out as in the project, with dist/ in the place of src/:
 *
 *   build/zerocopy/code/test/…   the tests and what they import of test/
 *   build/zerocopy/code/src      → dist
 */
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';

/**
 * @param {string} root the project's
 * @param {string} entry path from the root of the file to run, as .ts
 * @returns {string} the file to run
 */
export function compileGuestCode(root, entry) {
  const output = join(root, 'build/zerocopy/code');
  rmSync(output, { recursive: true, force: true });
  const done = new Set();
  const queue = [entry];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (done.has(file)) continue;
    done.add(file);
    const { outputText } = ts.transpileModule(readFileSync(join(root, file), 'utf8'), {
      fileName: file,
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    });
    const target = join(output, file.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, outputText);
    for (const [, specifier] of outputText.matchAll(/\b(?:from|import)\s*'(\.[^']+\.js)'/g)) {
      const imported = relative(root, join(root, dirname(file), specifier));
      if (imported.startsWith('test/')) queue.push(imported.replace(/\.js$/, '.ts'));
    }
  }
  symlinkSync(join(root, 'dist'), join(output, 'src'));
  return join(output, entry.replace(/\.ts$/, '.js'));
}

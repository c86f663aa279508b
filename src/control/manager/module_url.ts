import { createHash, type Hash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { SluiceError } from '../../errors.js';

/** Specifiers that are relative paths, in every form of import; too many (in a comment, say) do no harm. */
const RELATIVE_IMPORT = /\b(?:from|import)\s*\(?\s*(['"])(\.\.?\/[^'"\n]+)\1/g;

/**
 * URL under which workers import a filter module. It carries a hash of the file and of all that it imports by relative paths:
 * Node keeps each module that it has imported, so one that changed needs another URL to be read again, and one that did
 * not change must keep its own. (dataplane/filter/typescript_hooks.ts gives the hash on to what is imported.) Packages in
 * node_modules are not looked at.
 */
export function moduleUrl(path: string): string {
  const hash = createHash('sha256');
  try {
    addFile(hash, path, new Set());
  } catch (error) {
    throw new SluiceError(
      'SLUICE_CONFIG',
      `filter module ${path} cannot be read: ${(error as Error).message}`,
      'Paths are relative to the config file',
    );
  }
  const url = pathToFileURL(path);
  url.searchParams.set('v', hash.digest('hex').slice(0, 16));
  return url.href;
}

function addFile(hash: Hash, path: string, seen: Set<string>): void {
  if (seen.has(path)) return;
  seen.add(path);
  const content = readFileSync(path);
  hash.update(`${path}\0${content.length}\0`).update(content);
  for (const [, , specifier] of content.toString('utf8').matchAll(RELATIVE_IMPORT)) {
    const file = fileOf(resolve(dirname(path), specifier));
    // What is not there is the import's to complain about.
    if (file !== null) addFile(hash, file, seen);
  }
}

/** The file that an import means: TypeScript may say .js for .ts. */
function fileOf(path: string): string | null {
  const candidates = [path, path.replace(/js$/, 'ts')];
  return candidates.find((candidate) => /\.[mc]?[jt]s$/.test(candidate) && existsSync(candidate)) ?? null;
}

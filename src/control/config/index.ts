/**
 * A configuration from YAML: read, checked as a whole, completed. Either there is a whole `Config`, or a `ConfigError` with all
 * that is wrong.
 */
import { isUtf8 } from 'node:buffer';
import { closeSync, openSync, readSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Config } from '../../shared/config.js';
import { checkEncapsulation } from './check_encapsulation.js';
import { checkMachine } from './check_machine.js';
import { checkMitigation } from './check_mitigation.js';
import { checkPolicy } from './check_policy.js';
import { checkServices } from './check_services.js';
import { checkSets } from './check_sets.js';
import { Findings } from './findings.js';
import { normalise } from './normalise.js';
import { ConfigError } from './problem.js';
import { recover } from './recover.js';
import { RouteFiles } from './route_files.js';
import { RulePrograms } from './rule_programs.js';
import { type RawConfig, type Recovered, configSchema } from './schema.js';
import { MAX_BYTES, type Source, readSource } from './source.js';

export { ConfigError, formatProblem } from './problem.js';
export type { ConfigProblem } from './problem.js';
export { assertLive, diffConfig } from './diff.js';
export type { ConfigDiff } from './diff.js';

/** Name of a text that came from no file, in messages. */
const NO_FILE = '<string>';

/**
 * Reads a configuration file. Throws ConfigError with every problem that was found, also when the file cannot be read. What
 * relative paths in it are relative to is the file's own directory.
 */
export function loadConfig(path: string): Config {
  const bytes = readBytes(path);
  if (bytes.length > MAX_BYTES) {
    throw fileError(path, `is larger than ${MAX_BYTES / 2 ** 20} MiB`, 'This is probably not a configuration.');
  }
  if (!isUtf8(bytes)) throw notUtf8(path, bytes);
  return parse(bytes.toString('utf8'), path, resolve(path), dirname(resolve(path)));
}

/**
 * Reads a configuration from text. `path` is what to call it in messages and what relative paths in it start from; without
 * one they start from the working directory. Throws ConfigError with every problem that was found.
 */
export function parseConfig(text: string, path?: string): Config {
  const file = path ?? NO_FILE;
  // A UTF-16 unit takes at most three bytes, so short texts need no measuring.
  if (text.length * 3 > MAX_BYTES && Buffer.byteLength(text) > MAX_BYTES) {
    throw fileError(file, `is larger than ${MAX_BYTES / 2 ** 20} MiB`, 'This is probably not a configuration.');
  }
  if (path === undefined) return parse(text, file, '', process.cwd());
  return parse(text, file, resolve(path), dirname(resolve(path)));
}

function parse(text: string, file: string, path: string, directory: string): Config {
  const source = readSource(text);
  const findings = new Findings(file, source);
  if (source.value !== undefined) {
    const recovered = read(source, findings);
    if (recovered !== undefined) {
      const files = new RouteFiles();
      const programs = new RulePrograms();
      checkMachine(recovered, directory, findings);
      checkServices(recovered, directory, files, findings);
      checkEncapsulation(recovered, findings);
      checkPolicy(recovered, directory, programs, findings);
      checkMitigation(recovered, programs, findings);
      const sets = checkSets(recovered, directory, findings);
      findings.sort();
      if (findings.errors.length === 0) {
        // Nothing was refused, so nothing is missing.
        const config = normalise(recovered as RawConfig, path, directory, { files, programs });
        return { ...config, sets, warnings: findings.warnings };
      }
    }
  }
  findings.sort();
  throw new ConfigError(findings.errors, findings.more);
}

function read(source: Source, findings: Findings): Recovered | undefined {
  if (source.value === null) {
    findings.error([], 'the file is empty', 'The least there must be is: interfaces: [eth0]');
    return undefined;
  }
  return recover(configSchema, source.value, [], (at, what, message, remedy) => {
    // An alias that led nowhere has left its key without a value: one report is enough.
    if (!findings.touched(at)) findings.error(at, message, remedy, what);
  }) as Recovered | undefined;
}

/** At most a byte more than MAX_BYTES, so that a device or a pipe without an end is no trap. */
function readBytes(path: string): Buffer {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw unreadable(path, error);
  }
  try {
    const chunks: Buffer[] = [];
    let total = 0;
    while (total <= MAX_BYTES) {
      const chunk = Buffer.allocUnsafe(Math.min(1 << 20, MAX_BYTES + 1 - total));
      const length = readSync(fd, chunk);
      if (length === 0) break;
      chunks.push(chunk.subarray(0, length));
      total += length;
    }
    return Buffer.concat(chunks);
  } catch (error) {
    throw unreadable(path, error);
  } finally {
    closeSync(fd);
  }
}

function unreadable(path: string, error: unknown): ConfigError {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const reasons: Record<string, [string, string]> = {
    ENOENT: ['there is no such file', 'Give the path of a configuration; examples/ has some to start from.'],
    EACCES: ['may not be read by this user', 'Run as a user who may, or change the permissions of the file.'],
    EISDIR: ['is a directory', 'Give the path of the configuration in it.'],
  };
  const [message, remedy] = reasons[code] ?? [`cannot be read: ${(error as Error).message}`, ''];
  return fileError(path, message, remedy);
}

function fileError(file: string, message: string, remedy: string, line = 0): ConfigError {
  return new ConfigError([{ file, line, column: line === 0 ? 0 : 1, path: '', message, remedy }]);
}

/** Names the first line that is not UTF-8: no UTF-8 sequence has a newline's byte in it. */
function notUtf8(file: string, bytes: Buffer): ConfigError {
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline + 1;
    if (!isUtf8(bytes.subarray(start, end))) break;
    start = end;
  }
  return fileError(file, 'is not UTF-8 text from here on', 'Save the file as UTF-8.', line);
}

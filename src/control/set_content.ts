/** From a configuration's sets to sets with their entries in them. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { SluiceError } from '../errors.js';
import type { SetConfig } from '../shared/config.js';
import { addList, IpSet, readEntry, restoreSets, SetRegistry, type SetSurroundings } from './sets/index.js';

/** Longest file of entries, bytes: eight million networks of IPv6. */
const FILE_MOST = 512 << 20;

export interface SetFile {
  text: string;
  /** SHA-256 of the bytes, hexadecimal. */
  digest: string;
  format: 'save' | 'list';
}

/** Throws SluiceError (SLUICE_CONFIG) for a file that cannot be read. */
export function readSetFile(path: string): SetFile {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    const message = code === 'ENOENT' ? `there is no file ${path}` : `cannot read ${path}: ${code}`;
    throw new SluiceError('SLUICE_CONFIG', message, 'Paths are relative to the directory of the configuration.');
  }
  if (bytes.length > FILE_MOST) {
    throw new SluiceError('SLUICE_CONFIG', `${path} is larger than ${FILE_MOST >> 20} MiB`);
  }
  const text = bytes.toString('utf8');
  return { text, digest: createHash('sha256').update(bytes).digest('hex'), format: formatOf(text) };
}

/** The first line that says something decides: a command of ipset, or an element. */
function formatOf(text: string): 'save' | 'list' {
  const first = /^(?:[^\S\n]*(?:[#;][^\n]*)?\n)*[^\S\n]*([^\n]*)/.exec(text)?.[1] ?? '';
  return /^(-[A-Z]|[a-z]+)\s/.test(first) && !/^[a-f0-9]*:/i.test(first) ? 'save' : 'list';
}

/** What a set is made with. */
export function optionsOf(config: SetConfig) {
  const { name, type, family, maxelem, timeout, counters, comment, forceadd } = config;
  const mask4 = config.mask4 && [...config.mask4];
  const mask6 = config.mask6 && [...config.mask6];
  return { name, type, family, maxelem, timeout, counters, comment, forceadd, mask4, mask6 } as SetOptionsOf;
}

type SetOptionsOf = ConstructorParameters<typeof IpSet>[0];

/** Sets whose entries are the same have the same text; what only says who asks for them is not in it. */
export function contentKey(config: SetConfig): string {
  return JSON.stringify({ ...config, drop: null });
}

/**
 * Makes the sets and fills them. A file is read once for all sets that are in it.
 *
 * @throws SluiceError with the file and line of what is wrong, and for a file that is not as it was when the configuration was checked
 */
export function makeSets(configs: readonly SetConfig[], surroundings: SetSurroundings): Map<string, IpSet> {
  const made = new Map<string, IpSet>();
  const files = new Map<string, SetRegistry>();
  for (const config of configs) made.set(config.name, make(config, surroundings, files));
  for (const [name, set] of made) set.rename(name);
  return made;
}

function make(config: SetConfig, surroundings: SetSurroundings, files: Map<string, SetRegistry>): IpSet {
  const { name, source } = config;
  if (source.kind === 'entries') {
    const set = new IpSet(optionsOf(config), surroundings);
    addEntries(set, source.entries);
    return set;
  }
  const known = source.format === 'save' ? files.get(source.path) : undefined;
  if (known !== undefined) return known.get(source.nameInFile);
  const { text, digest } = readSetFile(source.path);
  if (digest !== source.digest) {
    throw new SluiceError('SLUICE_CONFIG', `${source.path} was changed while set ${name} was made of it`, 'Try again.');
  }
  if (source.format === 'list') {
    const set = new IpSet(optionsOf(config), surroundings);
    addList(text, set, source.path);
    return set;
  }
  const registry = new SetRegistry(surroundings);
  restoreSets(text, registry, source.path);
  files.set(source.path, registry);
  return registry.get(source.nameInFile);
}

/** Throws SluiceError for the first entry that is wrong, named by its position from 1. */
export function addEntries(set: IpSet, entries: readonly string[]): void {
  const settle = set.startBulk();
  try {
    for (const entry of entries) {
      const { element, fields } = readEntry(entry);
      set.add(element, fields, true);
    }
  } finally {
    settle();
  }
}

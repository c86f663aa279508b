/** Files of sets that a configuration names, each read and looked through once. */
import { readSetFile } from '../set_content.js';
import { addList, IpSet, restoreSets, SetRegistry, type SaveNote, type SetOptions } from '../sets/index.js';

/** What is in a file. */
export interface SetFileContent {
  digest: string;
  format: 'save' | 'list';
  /** Of a text of `ipset save`: what its sets are made with, and what of it sluice leaves out. */
  sets: readonly SetOptions[];
  notes: readonly SaveNote[];
}

/** Nothing looks anything up in these sets: they only show whether the text is right. */
const ASIDE = { seconds: (): number => 0 };

/** What was looked through lately, by path, digest and options: a reload mostly finds its files as they were. */
const seen = new Map<string, SetFileContent>();
const SEEN_MOST = 64;

function remember(key: string, look: () => SetFileContent): SetFileContent {
  const known = seen.get(key) ?? look();
  seen.delete(key);
  seen.set(key, known);
  if (seen.size > SEEN_MOST) seen.delete(seen.keys().next().value!);
  return known;
}

/** Throws SluiceError, which names the line of what is wrong. */
export function readSaved(path: string): SetFileContent {
  const { text, digest, format } = readSetFile(path);
  if (format === 'list') return { digest, format, sets: [], notes: [] };
  return remember(`${path} ${digest}`, () => {
    const registry = new SetRegistry(ASIDE);
    const { notes } = restoreSets(text, registry, path);
    return { digest, format, sets: [...registry.entries()].map(([, { options }]) => options), notes };
  });
}

/** Whether a list fits a set with these options; throws SluiceError when it does not. */
export function checkList(path: string, options: Partial<SetOptions> & Pick<SetOptions, 'name' | 'type'>): void {
  const { text, digest } = readSetFile(path);
  remember(`${path} ${digest} ${JSON.stringify(options)}`, () => {
    addList(text, new IpSet(options, ASIDE), path);
    return { digest, format: 'list', sets: [], notes: [] };
  });
}

/** An empty set to try entries in; throws SluiceError for options that do not go together. */
export function emptySet(options: Partial<SetOptions> & Pick<SetOptions, 'name' | 'type'>): IpSet {
  return new IpSet(options, ASIDE);
}

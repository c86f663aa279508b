/** Rules from a file of p0f signatures (p0f.fp): one for each TCP SYN signature that is wanted. */
import { SluiceError } from '../../errors.js';
import { Notes, type ConvertInput, type ConvertNote } from '../convert/draft.js';
import { readP0fFile } from '../expression/p0f_file.js';
import { writeRules } from '../rules/write.js';

export const P0F_ACTIONS = ['count', 'drop', 'pass', 'challenge'] as const;

export interface P0fRule {
  name: string;
  match: { p0f: string };
  action: (typeof P0F_ACTIONS)[number];
}

export interface P0fImport {
  /** A configuration of one interface with the rules. */
  yaml: string;
  rules: P0fRule[];
  notes: ConvertNote[];
  /** Notes beyond those that are kept. */
  more: number;
  /** Signatures that no rule can be made of, by section: they are not of single SYNs. */
  others: ReadonlyMap<string, number>;
}

/** Rules of ours that an import may come to. */
const MAX_RULES = 4096;

/**
 * @param labels of the signatures that are wanted, `*` for any text: "s:unix:Linux:*"; none: all
 * @throws SluiceError SLUICE_FORMAT for a file that has no signature of a SYN, SLUICE_USAGE for a label that none has
 */
export function importP0f(
  input: ConvertInput,
  labels: readonly string[],
  action: P0fRule['action'],
  interfaceName: string,
): P0fImport {
  const { signatures, problems, others } = readP0fFile(input.text);
  if (signatures.length === 0 && problems.length === 0) {
    const remedy = 'Give a file like p0f.fp, with a section [tcp:request].';
    throw new SluiceError('SLUICE_FORMAT', `there is no signature of a SYN in ${input.name}`, remedy);
  }
  const patterns = labels.map(labelPattern);
  const nowhere = patterns.findIndex((pattern) => !signatures.some(({ label }) => pattern.test(label)));
  if (nowhere >= 0) {
    const some = [...new Set(signatures.map(({ label }) => label))].slice(0, 5).join('", "');
    throw new SluiceError('SLUICE_USAGE', `no signature has a label "${labels[nowhere]}"`, `There are "${some}".`);
  }
  const wanted = signatures.filter(
    ({ label }) => labels.length === 0 || patterns.some((pattern) => pattern.test(label)),
  );
  const notes = new Notes();
  for (const { line, message, remedy } of problems) notes.lost({ file: input.name, line }, message, remedy);
  for (const { line, label } of wanted.slice(MAX_RULES)) {
    notes.lost({ file: input.name, line }, `there is no room for more than ${MAX_RULES} rules: ${label}`);
  }
  const names = new Set<string>();
  const rules = wanted
    .slice(0, MAX_RULES)
    .map(({ label, signature }): P0fRule => ({ name: nameOf(label, names), match: { p0f: signature }, action }));
  return { yaml: writeRules(rules, interfaceName), rules, notes: notes.list, more: notes.more, others };
}

function labelPattern(label: string): RegExp {
  const literal = (part: string): string => part.replace(/[$()*+.?[\\\]^{|}]/g, '\\$&');
  return new RegExp(`^${label.split(/\*+/).map(literal).join('.*')}$`, 'i');
}

/** "p0f-linux-3.11-and-newer" of "s:unix:Linux:3.11 and newer"; each name once. */
function nameOf(label: string, names: Set<string>): string {
  const words = label.split(':').slice(2).join('-').toLowerCase();
  const clean = words.replace(/[^a-z0-9._]+/g, '-').replace(/-+$/g, '');
  const base = `p0f-${clean}`.slice(0, 59).replace(/-+$/g, '');
  let name = base;
  for (let n = 2; names.has(name); n++) name = `${base}-${n}`;
  names.add(name);
  return name;
}

/** `sluice rules import`: rules of other packet filters as rules of ours. Reads a file or stdin, touches nothing. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { interfaceName } from '../../control/config/scalars.js';
import { noteText } from '../../control/convert/index.js';
import type { ConvertInput, ConvertNote } from '../../control/convert/index.js';
import { importIptables, type Hook } from '../../control/import/iptables/index.js';
import { importP0f, P0F_ACTIONS, type P0fRule } from '../../control/import/p0f.js';
import { writeRules } from '../../control/rules/write.js';
import { SluiceError } from '../../errors.js';
import type { Env } from '../env.js';
import { plain, plural, printJson } from '../output.js';

interface Options {
  hook?: Hook;
  ipset?: string;
  label?: string[];
  action?: P0fRule['action'];
  interface: string;
  rulesOnly?: boolean;
  partial?: boolean;
  json?: boolean;
}

export function rulesImportCommand(env: Env): Command {
  return new Command('import')
    .description(
      'Make rules of what iptables-save or ip6tables-save prints, or of p0f signatures, and say what was not understood',
    )
    .addArgument(new Argument('<format>', 'what it is').choices(['iptables', 'p0f']))
    .argument('<file>', 'what to read; "-" is stdin')
    .addOption(
      new Option('--hook <hook>', 'chains of packets for this host, or of forwarded ones').choices([
        'input',
        'forward',
      ]),
    )
    .option('--ipset <file>', 'with iptables: what ipset save prints, for the sets that rules ask for')
    .option('--label <label...>', 'with p0f: only signatures with these labels; * is any text')
    .addOption(new Option('--action <action>', 'with p0f: what the rules do (default: count)').choices(P0F_ACTIONS))
    .option('-i, --interface <name>', 'interface in the configuration that is made', parseInterface, 'eth0')
    .option('--rules-only', 'no configuration around the rules: to paste, or for sluice rules add -f')
    .option('--partial', 'exit code 0 also when something was lost')
    .option('--json', 'print { rules, lost, changed, notes } as JSON')
    .addHelpText(
      'after',
      `
The rules go to stdout, notes to stderr with their lines: "lost" is what is not in them, "changed" what works differently. Behind a
rule that lets packets by and was lost, rules that drop are made with mode: shadow, so that nothing is dropped which iptables lets by.

Exit codes: 0 all was understood, 1 something was lost

Examples:
  iptables-save | sluice rules import iptables - > rules.yaml && sluice check rules.yaml
  ip6tables-save | sluice rules import iptables - --rules-only --partial | sluice rules add -f -
  sluice rules import p0f p0f.fp --label 's:unix:Linux:*' --action count --rules-only | sluice rules add -f -`,
    )
    .action((format: string, file: string, options: Options) => importRules(env, format, file, options));
}

/** What came of it, of whatever format. */
interface Imported {
  yaml: string;
  rules: readonly unknown[];
  notes: readonly ConvertNote[];
  more: number;
  /** Behind the rules in JSON. */
  also: Record<string, unknown>;
  /** Behind the counts in words. */
  summary: string;
  /** What the rules alone leave out. */
  beside: readonly unknown[];
}

/** Options that belong to one format. */
const OWN = { iptables: ['hook', 'ipset'], p0f: ['label', 'action'] } as const;

function fromIptables(env: Env, input: ConvertInput, { hook, ipset, interface: name }: Options): Imported {
  const saved = ipset === undefined ? null : { ...readInput(env, ipset), name: resolve(env.cwd, ipset) };
  const { sets, limits, ...made } = importIptables(input, hook ?? null, name, saved);
  return { ...made, also: { sets, limits }, summary: '', beside: limits };
}

function fromP0f(input: ConvertInput, { label = [], action = 'count', interface: name }: Options): Imported {
  const { others, ...made } = importP0f(input, label, action, name);
  const kinds = [...others].map(([section, count]) => `${count} of ${section}`).join(', ');
  const summary = kinds === '' ? '' : `; not of SYNs: ${kinds}`;
  return { ...made, also: { others: Object.fromEntries(others) }, summary, beside: [] };
}

function importRules(env: Env, format: string, file: string, options: Options): void {
  const foreign = OWN[format === 'p0f' ? 'iptables' : 'p0f'].find((option) => options[option] !== undefined);
  if (foreign !== undefined) {
    throw new SluiceError('SLUICE_USAGE', `--${foreign} does not go with ${format}`, 'Leave it out.');
  }
  const input = readInput(env, file);
  const imported = format === 'p0f' ? fromP0f(input, options) : fromIptables(env, input, options);
  const { yaml, rules, notes, more, also, summary: behind, beside } = imported;
  const left = options.rulesOnly ? beside.length : 0;
  const lost = notes.filter(({ kind }) => kind === 'lost').length + left;
  const changed = notes.length - lost + left;
  if (options.json) {
    printJson(env, { rules, ...also, lost, changed, more, notes });
  } else {
    env.stdout.write(options.rulesOnly ? writeRules(rules, null) : yaml);
    const lines = notes.map((note) => noteText(note) + (note.remedy === '' ? '' : `\n  ${note.remedy}`));
    if (left > 0)
      lines.push(`lost: ${plural(left, 'limit')} on connections, which no rule has\n  Leave --rules-only out.`);
    const counts = `${plural(rules.length, 'rule')}; ${lost} lost, ${changed} changed${more > 0 ? `, and ${more} notes more` : ''}`;
    const summary = counts + behind;
    env.stderr.write(`${[...lines, summary].map((text) => text.split('\n').map(plain).join('\n')).join('\n')}\n`);
  }
  if (lost > 0 && !options.partial) {
    throw new SluiceError(
      'SLUICE_FORMAT',
      `${plural(lost, 'thing')} could not be imported`,
      'The notes say which; --partial takes the rest.',
    );
  }
}

function parseInterface(text: string): string {
  const result = interfaceName.safeParse(text);
  if (!result.success) throw new InvalidArgumentError(result.error.issues[0].message);
  return result.data;
}

function readInput(env: Env, file: string): { name: string; text: string } {
  try {
    return file === '-'
      ? { name: '<stdin>', text: readFileSync(0, 'utf8') }
      : { name: file, text: readFileSync(resolve(env.cwd, file), 'utf8') };
  } catch (error) {
    throw new SluiceError(
      'SLUICE_FORMAT',
      `cannot read ${file}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`,
    );
  }
}

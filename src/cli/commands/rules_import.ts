/** `sluice rules import`: rules of other packet filters as rules of ours. Reads a file or stdin, touches nothing. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { interfaceName } from '../../control/config/scalars.js';
import { noteText } from '../../control/convert/index.js';
import { importIptables, type Hook } from '../../control/import/iptables/index.js';
import { writeRules } from '../../control/rules/write.js';
import { SluiceError } from '../../errors.js';
import type { Env } from '../env.js';
import { plain, plural, printJson } from '../output.js';

interface Options {
  hook?: Hook;
  interface: string;
  rulesOnly?: boolean;
  partial?: boolean;
  json?: boolean;
}

export function rulesImportCommand(env: Env): Command {
  return new Command('import')
    .description('Make rules of what iptables-save or ip6tables-save prints, and say what was not understood')
    .addArgument(new Argument('<format>', 'what it is').choices(['iptables']))
    .argument('<file>', 'what to read; "-" is stdin')
    .addOption(
      new Option('--hook <hook>', 'chains of packets for this host, or of forwarded ones').choices([
        'input',
        'forward',
      ]),
    )
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
  ip6tables-save | sluice rules import iptables - --rules-only --partial | sluice rules add -f -`,
    )
    .action((_: string, file: string, options: Options) => importRules(env, file, options));
}

function importRules(env: Env, file: string, options: Options): void {
  const { yaml, rules, notes, more } = importIptables(readInput(env, file), options.hook ?? null, options.interface);
  const lost = notes.filter(({ kind }) => kind === 'lost').length;
  const changed = notes.length - lost;
  if (options.json) {
    printJson(env, { rules, lost, changed, more, notes });
  } else {
    env.stdout.write(options.rulesOnly ? writeRules(rules, null) : yaml);
    const lines = notes.map((note) => noteText(note) + (note.remedy === '' ? '' : `\n  ${note.remedy}`));
    const summary = `${plural(rules.length, 'rule')}; ${lost} lost, ${changed} changed${more > 0 ? `, and ${more} notes more` : ''}`;
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

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import {
  CONVERT_SOURCES,
  convert,
  noteText,
  type Conversion,
  type ConvertInput,
  type ConvertNote,
  type ConvertSource,
} from '../../control/convert/index.js';
import { interfaceName } from '../../control/config/scalars.js';
import { SluiceError } from '../../errors.js';
import { processEnv, type Env } from '../env.js';
import { plain, plural, printJson } from '../output.js';

interface Options {
  from: ConvertSource | 'auto';
  interface: string;
  strict?: boolean;
  json?: boolean;
}

/** `sluice convert`: the configuration of another load balancer as one of sluice. Reads files or stdin, touches nothing. */
export function convertCommand(env: Env = processEnv()): Command {
  return new Command('convert')
    .description('Make a configuration from that of IPVS, Katran or GLB Director, and say what is not the same')
    .argument('[file...]', 'what to read; "-" or none is stdin. Several files describe one load balancer')
    .option('--from <which>', `whose it is: ${CONVERT_SOURCES.join(', ')} or auto`, parseSource, 'auto')
    .option('-i, --interface <name>', 'interface that is to serve', parseInterface, 'eth0')
    .option('--strict', 'exit code 1 when anything was lost')
    .option('--json', 'print { from, services, backends, lost, changed, notes, yaml } as JSON')
    .addHelpText(
      'after',
      `
The configuration goes to stdout, notes to stderr: "lost" is what it does not have, "changed" what works differently.
docs/migrating.md goes through a migration step by step.

Exit codes: 0 converted, 1 nothing to convert (with --strict: something was lost)

Examples:
  ipvsadm -S -n | sluice convert --interface eth1 > sluice.yaml
  sluice convert --from katran katran-setup.sh > sluice.yaml
  sluice convert forwarding_table.json director.conf --strict > sluice.yaml && sluice check sluice.yaml`,
    )
    .action((files: string[], options: Options) => {
      const inputs = (files.length === 0 ? ['-'] : files).map((file) => readInput(env, file));
      const from = options.from === 'auto' ? null : options.from;
      const result = convert(inputs, { from, interface: options.interface });
      const lost = result.notes.filter(({ kind }) => kind === 'lost').length;
      if (options.json) {
        const { notes, yaml, ...rest } = result;
        printJson(env, { ...rest, lost, changed: notes.length - lost, notes, yaml });
      } else {
        env.stdout.write(result.yaml);
        env.stderr.write(`${report(result, lost).map(plain).join('\n')}\n`);
      }
      if (options.strict && lost > 0) {
        throw new SluiceError(
          'SLUICE_FORMAT',
          `${plural(lost, 'thing')} could not be converted`,
          'The notes say which.',
        );
      }
    });
}

function parseSource(text: string): ConvertSource | 'auto' {
  if (text === 'auto') return text;
  const source = CONVERT_SOURCES.find((known) => known === text);
  if (source === undefined) throw new InvalidArgumentError(`It is one of ${CONVERT_SOURCES.join(', ')}, auto.`);
  return source;
}

function parseInterface(text: string): string {
  const result = interfaceName.safeParse(text);
  if (!result.success) throw new InvalidArgumentError(result.error.issues[0].message);
  return result.data;
}

function readInput(env: Env, file: string): ConvertInput {
  try {
    return file === '-'
      ? { name: '<stdin>', text: readFileSync(0, 'utf8') }
      : { name: file, text: readFileSync(resolve(env.cwd, file), 'utf8') };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new SluiceError('SLUICE_FORMAT', `cannot read ${file}: ${code}`);
  }
}

/** Notes of the same words together, with all their lines, each with its remedy below. */
function report({ from, services, backends, notes, more }: Conversion, lost: number): string[] {
  const groups = new Map<string, { note: ConvertNote; lines: number[] }>();
  for (const note of notes) {
    const key = [note.file, note.kind, note.message, note.remedy].join('\n');
    const group = groups.get(key);
    if (group) group.lines.push(note.line);
    else groups.set(key, { note, lines: [note.line] });
  }
  const text = [...groups.values()].flatMap(({ note, lines }) => [
    noteText(note) + (lines.length > 1 ? ` (lines ${linesText(lines)})` : ''),
    ...(note.remedy === '' ? [] : [`  ${note.remedy}`]),
  ]);
  const summary = `${from}: ${plural(services, 'service')} with ${plural(backends, 'backend')}; ${lost} lost, ${notes.length - lost} changed`;
  return [...text, more > 0 ? `${summary}, and ${more} notes more` : summary];
}

function linesText(lines: readonly number[]): string {
  const shown = lines.slice(0, 12).join(', ');
  return lines.length > 12 ? `${shown} and ${lines.length - 12} more` : shown;
}

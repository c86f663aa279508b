/** `sluice set save` and `restore`: text of ipset. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { callControl } from '../../control/api/client.js';
import type { SetRestoreResult } from '../../control/api/contract.js';
import { SluiceError } from '../../errors.js';
import { controlSocket, type Env } from '../env.js';
import { plain, plural, print, printJson } from '../output.js';
import { withSocket, type CommonOptions } from './set_common.js';

const TIMEOUT_MS = 120_000;
/** Characters of a part: with what JSON adds it stays below the longest request. */
const PART = 250_000;

export function setSaveCommand(env: Env): Command {
  return withSocket(
    new Command('save')
      .description('Print a set, or all of them, as ipset save does')
      .argument('[name]', 'name of a set'),
    false,
  )
    .addHelpText(
      'after',
      '\nA set of both families becomes two, the second with "6" behind its name: sets of ipset have one.',
    )
    .action(async (set: string | undefined, options: CommonOptions) => {
      const params = set === undefined ? {} : { set };
      const { text } = await callControl(controlSocket(env, options.socket), 'sets.save', params, TIMEOUT_MS);
      env.stdout.write(text);
    });
}

export function setRestoreCommand(env: Env): Command {
  return withSocket(
    new Command('restore')
      .description(
        'Make the sets of a text of ipset save, in the place of those of the same names, in one step or not at all',
      )
      .argument('<file>', 'what to read; "-" is stdin'),
  )
    .addHelpText(
      'after',
      `
Examples:
  ipset save | sluice set restore -
  sluice set restore bad.ipset`,
    )
    .action((file: string, options: CommonOptions) => restore(env, file, options));
}

async function restore(env: Env, file: string, options: CommonOptions): Promise<void> {
  const text = file === '-' ? await readAll(env) : readFile(resolve(env.cwd, file), file);
  const socket = controlSocket(env, options.socket);
  let upload: string | undefined;
  let result: SetRestoreResult | null = null;
  for (let at = 0; result === null || at < text.length; at += PART) {
    const more = at + PART < text.length;
    const part = { text: text.slice(at, at + PART), more, ...(upload === undefined ? {} : { upload }) };
    try {
      result = await callControl(socket, 'sets.restore', part, TIMEOUT_MS);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      throw new SluiceError(error.code, error.message.replace(/^ipset save:/, `${file}:`), error.remedy);
    }
    upload = result.upload;
  }
  if (options.json) return printJson(env, result);
  for (const { line, message } of result.notes) env.stderr.write(plain(`${file}:${line}: ${message}`) + '\n');
  const { sets, added, generation } = result;
  if (sets.length === 0) return print(env, 'there was no set in it');
  print(env, plain(`${sets.join(', ')}: restored, ${plural(added, 'line')} added, generation ${generation}`));
}

function readFile(path: string, shown: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new SluiceError('SLUICE_FORMAT', `cannot read ${shown}: ${code}`);
  }
}

async function readAll(env: Env): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of env.stdin ?? process.stdin) chunks.push(Buffer.from(chunk as Uint8Array | string));
  return Buffer.concat(chunks).toString('utf8');
}

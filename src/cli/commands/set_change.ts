/** `sluice set add`, `del`, `test`, `flush`, `swap`: changes until the daemon restarts. */
import { randomBytes } from 'node:crypto';
import { Command, InvalidArgumentError } from 'commander';
import { callControl } from '../../control/api/client.js';
import type { SetAddDefaults, SetChangeResult } from '../../control/api/contract.js';
import { ExitCode, SluiceError } from '../../errors.js';
import { controlSocket, type Env } from '../env.js';
import { plain, plural, print, printJson } from '../output.js';
import { entryCount, entryText, withSocket, type CommonOptions } from './set_common.js';
import { BATCH, entryBatches } from './set_input.js';

/** A batch may wait for a generation to be published. */
const TIMEOUT_MS = 60_000;

interface AddOptions extends CommonOptions {
  timeout?: number;
  nomatch?: boolean;
  comment?: string;
}

export function setChangeCommands(env: Env): Command[] {
  return [addCommand(env), delCommand(env), testCommand(env), flushCommand(env), swapCommand(env)];
}

function entriesOf(command: Command): Command {
  return command
    .argument('<set>', 'name of the set')
    .argument('<entry...>', 'what stands behind the name in ipset; "-": the lines of stdin, as they come');
}

function addCommand(env: Env): Command {
  return withSocket(
    entriesOf(new Command('add').description('Add entries; those that are there get the new timeout and comment'))
      .option('--timeout <time>', 'gone after this: seconds, or 30s, 10m, 2h, 7d; 0: never', timeOption)
      .option('--nomatch', 'an exception from larger networks')
      .option('--comment <text>', 'for people'),
  )
    .addHelpText(
      'after',
      `
Examples:
  sluice set add bad 192.0.2.0/24 2001:db8::/32 --timeout 10m
  sluice set add ports 192.0.2.1,tcp:80-88
  tail -F attackers.txt | sluice set add bad -`,
    )
    .action(async (set: string, entries: string[], { timeout, nomatch, comment, ...options }: AddOptions) => {
      const defaults: SetAddDefaults = {
        ...(timeout === undefined ? {} : { timeout }),
        ...(nomatch ? { nomatch } : {}),
        ...(comment === undefined ? {} : { comment }),
      };
      await change(env, options, 'added', entries, (batch, part, socket) =>
        callControl(socket, 'sets.add', { set, entries: batch, ...part, ...defaults }, TIMEOUT_MS),
      );
    });
}

function delCommand(env: Env): Command {
  return withSocket(
    entriesOf(new Command('del').description('Delete entries')).option('--exist', 'what is not there is no mistake'),
  ).action(async (set: string, entries: string[], options: CommonOptions & { exist?: boolean }) => {
    const exist = options.exist ?? false;
    await change(env, options, 'deleted', entries, (batch, part, socket) =>
      callControl(socket, 'sets.del', { set, entries: batch, exist, ...part }, TIMEOUT_MS),
    );
  });
}

/** Sends the batches one after the other; an empty one ends those of a stream, whose last nobody knows before. */
async function change(
  env: Env,
  options: CommonOptions,
  what: string,
  entries: readonly string[],
  send: (batch: string[], part: { bulk?: string; more?: boolean }, socket: string) => Promise<SetChangeResult>,
): Promise<void> {
  const socket = controlSocket(env, options.socket);
  const streams = (entries.length === 1 && entries[0] === '-') || entries.length > BATCH;
  const bulk = streams ? randomBytes(8).toString('hex') : undefined;
  let last: SetChangeResult | null = null;
  let changed = 0;
  try {
    for await (const batch of entryBatches(env, entries)) {
      last = await send(batch, bulk === undefined ? {} : { bulk, more: true }, socket);
      changed += last.changed;
      if (env.signal.aborted) break;
    }
  } catch (error) {
    if (streams && error instanceof SluiceError && changed > 0) {
      throw new SluiceError(
        error.code,
        `${error.message} (${plural(changed, 'line')} before were carried out)`,
        error.remedy,
      );
    }
    throw error;
  } finally {
    // Ends the audit's line.
    if (changed > 0 && bulk !== undefined) last = await send([], { bulk }, socket);
  }
  if (last === null) return print(env, 'nothing to do');
  const result = { ...last, changed };
  if (options.json) return printJson(env, result);
  print(env, plain(`${result.set}: ${plural(changed, 'line')} ${what}, ${entryCount(result.entries)} now`));
}

function testCommand(env: Env): Command {
  return withSocket(
    new Command('test')
      .description('Tell whether an address (or a very network) is in a set: exit code 0, else 1')
      .argument('<set>', 'name of the set')
      .argument('<entry>', 'address, network, or both with a port'),
  ).action(async (set: string, entry: string, options: CommonOptions) => {
    const result = await callControl(controlSocket(env, options.socket), 'sets.test', { set, entry });
    const by = result.entry === null ? '' : `: ${entryText(result.entry)}`;
    if (options.json) printJson(env, result);
    else print(env, plain(`${entry} is ${result.matches ? '' : 'not '}in set ${set}${by}`));
    if (!result.matches) process.exitCode = ExitCode.failure;
  });
}

function flushCommand(env: Env): Command {
  return withSocket(
    new Command('flush').description('Take all entries out of a set').argument('<set>', 'name of the set'),
  ).action(async (set: string, options: CommonOptions) => {
    const result = await callControl(controlSocket(env, options.socket), 'sets.flush', { set }, TIMEOUT_MS);
    if (options.json) printJson(env, result);
    else print(env, plain(`${set}: flushed, it had ${entryCount(result.changed)}`));
  });
}

function swapCommand(env: Env): Command {
  return withSocket(
    new Command('swap')
      .description('Exchange the contents of two sets of one type, in one step')
      .argument('<set>', 'name of a set')
      .argument('<other>', 'name of the other'),
  ).action(async (set: string, other: string, options: CommonOptions) => {
    const result = await callControl(controlSocket(env, options.socket), 'sets.swap', { set, with: other }, TIMEOUT_MS);
    if (options.json) printJson(env, result);
    else print(env, plain(`${set} and ${other}: swapped, generation ${result.generation}`));
  });
}

function timeOption(text: string): number {
  const match = /^(\d{1,8})([smhd]?)$/.exec(text);
  const units: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86400 };
  if (match === null) throw new InvalidArgumentError('Write seconds, or 30s, 10m, 2h, 7d.');
  return Number(match[1]) * units[match[2]];
}

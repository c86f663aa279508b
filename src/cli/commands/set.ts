/** `sluice set`: the sets of the running daemon. */
import { Command } from 'commander';
import { callControl } from '../../control/api/client.js';
import type { ListedSet, SetListing } from '../../control/api/contract.js';
import { controlSocket, processEnv, type Env } from '../env.js';
import { bytes, count, duration, paint, print, printJson, table, wantsColour, type Column, tableWidth } from '../output.js'; // prettier-ignore
import { entryText, withSocket, type CommonOptions } from './set_common.js';
import { setChangeCommands } from './set_change.js';
import { setRestoreCommand, setSaveCommand } from './set_save.js';

export function setCommand(env: Env = processEnv()): Command {
  const command = new Command('set').description(
    'List and change sets of addresses, networks and ports of the running sluice',
  );
  command.addCommand(listCommand(env));
  for (const each of setChangeCommands(env)) command.addCommand(each);
  command.addCommand(setSaveCommand(env));
  command.addCommand(setRestoreCommand(env));
  return command;
}

function listCommand(env: Env): Command {
  return withSocket(
    new Command('list').description('List the sets, or the entries of one').argument('[name]', 'name of a set'),
  )
    .addHelpText(
      'after',
      `
Examples:
  sluice set list
  sluice set list bad --json | jq -r '.entries[].text'`,
    )
    .action((name: string | undefined, options: CommonOptions) =>
      name === undefined ? listAll(env, options) : listOne(env, name, options),
    );
}

async function listAll(env: Env, options: CommonOptions): Promise<void> {
  const listing: SetListing = await callControl(controlSocket(env, options.socket), 'sets.list', {});
  if (options.json) return printJson(env, listing);
  if (listing.sets.length === 0) return print(env, 'no sets');
  const right = 'right' as const;
  const offloads = listing.sets.some(({ kernel }) => kernel !== null);
  const columns: Column[] = [
    { title: 'SET', shrinkTo: 10, last: true },
    { title: 'TYPE' },
    { title: 'FAMILY' },
    { title: 'ENTRIES', align: right },
    { title: 'MEMORY', align: right },
    { title: 'TIMEOUT', align: right },
    { title: 'MATCHES', align: right },
    { title: 'DROPS' },
    ...(offloads ? [{ title: 'IN KERNEL' }] : []),
    { title: 'FROM', shrinkTo: 12 },
  ];
  const rows = listing.sets.map((set) => [
    set.name,
    set.type,
    set.family,
    count(set.entries),
    bytes(set.bytes),
    set.timeout === null ? '' : set.timeout === 0 ? 'none' : duration(set.timeout),
    count(set.packets),
    set.drop ?? '',
    ...(offloads ? [set.kernel === null ? '' : set.kernel === '' ? 'yes' : 'no'] : []),
    originOf(set),
  ]);
  print(env, ...table(columns, rows, tableWidth(env), paint(wantsColour(env))));
  for (const { name, kernel } of listing.sets) if (kernel) print(env, `${name} is not in the kernel: ${kernel}`);
}

function originOf({ origin, file, changed }: ListedSet): string {
  const from = file !== '' ? file : origin === 'config' ? 'config' : 'run time';
  return changed && origin === 'config' ? `${from} (changed)` : from;
}

async function listOne(env: Env, set: string, options: CommonOptions): Promise<void> {
  const result = await callControl(controlSocket(env, options.socket), 'sets.entries', { set }, 60_000);
  if (options.json) return printJson(env, result);
  print(env, ...result.entries.map(entryText));
}

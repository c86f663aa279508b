/** What the commands about sets have in common. */
import type { Command } from 'commander';
import type { SetEntry } from '../../control/api/contract.js';
import { count, plain } from '../output.js';

export interface CommonOptions {
  socket?: string;
  json?: boolean;
}

export function withSocket(command: Command, json = true): Command {
  command.option('--socket <path>', 'control socket (default: $SLUICE_SOCKET or /run/sluice/control.sock)');
  return json ? command.option('--json', 'print the result as JSON') : command;
}

/** As it stands behind the name in an `add` line. */
export function entryText({ text, timeout, nomatch, counters, comment }: SetEntry): string {
  let line = text;
  if (timeout !== null) line += ` timeout ${timeout}`;
  if (nomatch) line += ' nomatch';
  if (counters !== null) line += ` packets ${counters.packets} bytes ${counters.bytes}`;
  if (comment !== null) line += ` comment "${comment}"`;
  return plain(line);
}

export function entryCount(number: number): string {
  return `${count(number)} ${number === 1 ? 'entry' : 'entries'}`;
}

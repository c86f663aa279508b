import { Command } from 'commander';
import { callControl } from '../../control/api/client.js';
import type { Status } from '../../control/api/contract.js';
import { controlSocket, processEnv } from '../env.js';
import type { Env } from '../env.js';
import { print, printJson, wantsColour, tableWidth } from '../output.js';
import { statusTable } from '../status_table.js';
import { draw, intervalSeconds, positive, RATE_SECONDS, WATCH_SECONDS } from '../watch.js';

interface StatusOptions {
  socket?: string;
  json?: boolean;
  watch?: boolean;
  interval?: number;
  count?: number;
  all?: boolean;
  rates: boolean;
}

/** Rows of a table without --all. */
const MAX_ROWS = 40;
/** `sluice status`: what the running daemon does. */
export function statusCommand(env: Env = processEnv()): Command {
  return new Command('status')
    .description('Show what the running sluice does: interfaces, workers, services, rules, drops')
    .option('--socket <path>', 'control socket (default: $SLUICE_SOCKET or /run/sluice/control.sock)')
    .option('--json', 'print the status as JSON; with --watch one line a reading')
    .option('-w, --watch', 'go on until Ctrl-C')
    .option('-i, --interval <seconds>', 'time between readings (default: 0.5, with --watch 1)', intervalSeconds)
    .option('-n, --count <readings>', 'with --watch: end after so many readings', positive)
    .option('--all', `show all rows of all tables (default: ${MAX_ROWS} of each)`)
    .option('--no-rates', 'print at once, without packets a second')
    .addHelpText(
      'after',
      `
Examples:
  sluice status
  sluice status --watch --interval 2
  sluice status --json | jq '.services[].backends[] | {address, flows}'
  sluice status --watch --json --count 10 > readings.jsonl`,
    )
    .action((options: StatusOptions) => (options.watch ? watch(env, options) : once(env, options)));
}

async function once(env: Env, options: StatusOptions): Promise<void> {
  const path = controlSocket(env, options.socket);
  const status = await callControl(path, 'status', {});
  if (options.json) return printJson(env, status);
  if (!options.rates) return print(env, ...page(env, options, status, null));
  await env.sleep((options.interval ?? RATE_SECONDS) * 1000);
  print(env, ...page(env, options, await callControl(path, 'status', {}), status));
}

async function watch(env: Env, options: StatusOptions): Promise<void> {
  const path = controlSocket(env, options.socket);
  let before: Status | null = null;
  for (let reading = 0; reading < (options.count ?? Infinity) && !env.signal.aborted; reading++) {
    if (reading > 0) {
      await env.sleep((options.interval ?? WATCH_SECONDS) * 1000);
      if (env.signal.aborted) return;
    }
    const status: Status = await callControl(path, 'status', {});
    if (options.json) printJson(env, status, 0);
    else draw(env, page(env, options, status, options.rates ? before : null), reading === 0);
    before = status;
  }
}

function page(env: Env, options: StatusOptions, status: Status, before: Status | null): string[] {
  return statusTable(status, {
    before,
    width: tableWidth(env),
    colour: wantsColour(env),
    maxRows: options.all ? Infinity : MAX_ROWS,
    nowMs: Date.now(),
  });
}

import { Command, InvalidArgumentError } from 'commander';
import { callControl } from '../../control/api/client.js';
import { MAX_WEIGHT } from '../../control/api/contract.js';
import type { BackendChange, BackendSetResult, Status, StatusBackend } from '../../control/api/contract.js';
import { findService, resolveBackend } from '../../control/api/resolve.js';
import { SluiceError } from '../../errors.js';
import { controlSocket, processEnv } from '../env.js';
import type { Env } from '../env.js';
import { count, duration, paint, plain, plural, print, printJson, table, wantsColour, tableWidth } from '../output.js';

interface Options {
  socket?: string;
  json?: boolean;
  /** Seconds. */
  wait?: number;
  reason?: string;
}

/** `sluice backend`: list backends, take them out, put them back, weigh them. */
export function backendCommand(env: Env = processEnv()): Command {
  const command = new Command('backend')
    .description('List the backends of the running sluice, and change their state or weight until it restarts')
    .addHelpText(
      'after',
      `
A draining backend keeps its flows and gets no new ones; an inactive one gets no packets at all.
The config file is not written: put there what is to last.

Examples:
  sluice backend list
  sluice backend drain web 10.0.0.3 --reason 'kernel update' --wait 300 && ssh 10.0.0.3 reboot
  sluice backend activate web 10.0.0.3
  sluice backend weight web 10.0.0.3 2`,
    );
  common(command.command('list').argument('[service]', 'of this service only'))
    .description('List backends with weight, state and flows')
    .action((service: string | undefined, options: Options) => list(env, service, options));
  const change = (name: string, description: string) =>
    common(
      command
        .command(name)
        .description(description)
        .argument('<service>', 'name of the service')
        .argument('<backend>', 'address of the backend'),
    );
  change('drain', 'Keep its flows, give it no new ones')
    .option('--wait <seconds>', 'wait until no flow is left; exit code 1 when some are', seconds)
    .option('--reason <text>', 'why, for whoever looks at the status')
    .action(async (service: string, backend: string, options: Options) => {
      await set(env, service, backend, { state: 'draining', ...reasonOf(options) }, options);
      if (options.wait !== undefined) await drained(env, service, backend, options.wait, options);
    });
  change('activate', 'Give it flows again').action((service: string, backend: string, options: Options) =>
    set(env, service, backend, { state: 'active' }, options),
  );
  change('deactivate', 'Send it no more packets, also those of its flows')
    .option('--reason <text>', 'why, for whoever looks at the status')
    .action((service: string, backend: string, options: Options) =>
      set(env, service, backend, { state: 'inactive', ...reasonOf(options) }, options),
    );
  change('weight', 'Set its share of new flows')
    .argument('<weight>', `0 to ${MAX_WEIGHT}`, weight)
    .action((service: string, backend: string, value: number, options: Options) =>
      set(env, service, backend, { weight: value }, options),
    );
  return command;
}

function reasonOf({ reason }: Options): { reason?: string } {
  return reason === undefined ? {} : { reason };
}

function common(command: Command): Command {
  return command
    .option('--socket <path>', 'control socket (default: $SLUICE_SOCKET or /run/sluice/control.sock)')
    .option('--json', 'print the result as JSON');
}

async function list(env: Env, only: string | undefined, options: Options): Promise<void> {
  const status = await callControl(controlSocket(env, options.socket), 'status', {});
  const services = only === undefined ? status.services : [findService(status.services, only)];
  if (options.json) {
    return printJson(
      env,
      services.flatMap(({ name, backends }) => backends.map((backend) => ({ service: name, ...backend }))),
    );
  }
  const ink = paint(wantsColour(env));
  const checked = services.some(({ backends }) => backends.some(({ health }) => health !== null));
  const rows = services.flatMap(({ name, backends }) =>
    backends.map(({ address, state, reason, sinceMs, health, weight: share, nextHop, packets, newFlows, flows }) => [
      name,
      address,
      state,
      count(share),
      nextHop ?? 'unknown',
      count(packets),
      count(newFlows),
      count(flows),
      ...(checked ? [healthText(health)] : []),
      duration((Date.now() - sinceMs) / 1000),
      reason,
    ]),
  );
  if (rows.length === 0) return print(env, 'no backends');
  const columns = [
    { title: 'SERVICE', shrinkTo: 10, last: true },
    { title: 'BACKEND' },
    { title: 'STATE', colour: (text: string) => (text === 'active' ? ink.green : ink.yellow) },
    { title: 'WEIGHT', align: 'right' as const },
    { title: 'NEXT HOP', shrinkTo: 8, colour: (text: string) => (text === 'unknown' ? ink.red : ink.dim) },
    ...['PACKETS', 'NEW FLOWS', 'FLOWS'].map((title) => ({ title, align: 'right' as const })),
    ...(checked ? [{ title: 'HEALTH', colour: (text: string) => (text.startsWith('down') ? ink.red : ink.dim) }] : []),
    { title: 'SINCE', align: 'right' as const },
    { title: 'REASON', shrinkTo: 6 },
  ];
  print(env, ...table(columns, rows, tableWidth(env), ink));
}

async function set(env: Env, service: string, backend: string, change: BackendChange, options: Options): Promise<void> {
  const path = controlSocket(env, options.socket);
  const result = await callControl(path, 'backend.set', { service, backend, ...change });
  if (options.json) printJson(env, result, options.wait === undefined ? 2 : 0);
  else print(env, describe(result));
}

/** Whether health checks reach it; empty without checks. */
function healthText(health: StatusBackend['health']): string {
  if (health === null) return '';
  if (health.up === null) return 'unknown';
  return `${health.up ? 'up' : 'down'}${health.held ? ' (held)' : ''}`;
}

function describe({ service, backend, before, after, generation }: BackendSetResult): string {
  const changes: string[] = [];
  if (before.state !== after.state) changes.push(`${before.state} → ${after.state}`);
  if (before.weight !== after.weight) changes.push(`weight ${before.weight} → ${after.weight}`);
  const what = changes.length === 0 ? `is ${after.state} with weight ${after.weight} already` : changes.join(', ');
  return plain(`${service} ${backend}: ${what} (generation ${generation})`);
}

/** Watches a draining backend until it has no flows. Throws SLUICE_STATE when it has some after `waitSeconds`. */
async function drained(
  env: Env,
  service: string,
  backend: string,
  waitSeconds: number,
  options: Options,
): Promise<void> {
  const path = controlSocket(env, options.socket);
  const deadline = env.nowMs() + waitSeconds * 1000;
  for (let shown = -1; ;) {
    const status: Status = await callControl(path, 'status', {});
    const { flows } = resolveBackend(status.services, service, backend).backend;
    if (options.json ? flows === 0 : flows !== shown) {
      if (options.json) printJson(env, { service, backend, flows }, 0);
      else print(env, `${plural(flows, 'flow')} left`);
    }
    shown = flows;
    if (flows === 0) return;
    const left = deadline - env.nowMs();
    if (left <= 0 || env.signal.aborted) {
      const remedy = 'It goes on draining. Flows end when their clients are done, or after their idle time.';
      throw new SluiceError('SLUICE_STATE', `backend ${backend} still has ${plural(flows, 'flow')}`, remedy);
    }
    await env.sleep(Math.min(1000, left));
  }
}

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1e6))
    throw new InvalidArgumentError('It must be a number of seconds.');
  return value;
}

function weight(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > MAX_WEIGHT) {
    throw new InvalidArgumentError(`It must be a whole number from 0 to ${MAX_WEIGHT}.`);
  }
  return value;
}

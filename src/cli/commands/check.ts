import { resolve } from 'node:path';
import { Command } from 'commander';
import { ConfigError, formatProblem, loadConfig } from '../../control/config/index.js';
import { SluiceError } from '../../errors.js';
import type { Config, ConfigProblem, PortRange, ServiceConfig } from '../../shared/config.js';
import { processEnv } from '../env.js';
import type { Env } from '../env.js';
import { cut, paint, plain, plural, print, printJson, wantsColour } from '../output.js';

/** Services that the summary names one by one. */
const MAX_SERVICES_SHOWN = 10;

/** `sluice check`: is this file a right configuration? Needs no daemon, no root and no interface. */
export function checkCommand(env: Env = processEnv()): Command {
  return new Command('check')
    .description('Check a configuration file and say what it means, or everything that is wrong with it')
    .argument('<file>', 'configuration, YAML')
    .option('--json', 'print { ok, problems, warnings, config } as JSON')
    .addHelpText(
      'after',
      `
Reads the file only: whether its interfaces and routes are there is "sluice doctor"'s question.

Exit codes: 0 right, 78 not

Examples:
  sluice check /etc/sluice/sluice.yaml
  sluice check sluice.yaml --json | jq -r '.problems[] | "\\(.line): \\(.message)"'`,
    )
    .action((file: string, options: { json?: boolean }) => {
      // As it was given, so that messages name it as it was given.
      const path = env.cwd === process.cwd() ? file : resolve(env.cwd, file);
      let config: Config;
      try {
        config = loadConfig(path);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        const { problems, more } = error;
        if (options.json) printJson(env, { ok: false, problems, more, warnings: [], config: null });
        else env.stderr.write(`${problems.map(problemLines).join('\n')}\n`);
        throw new SluiceError('SLUICE_CONFIG', `${file} has ${plural(problems.length + more, 'problem')}`);
      }
      if (options.json) return printJson(env, { ok: true, problems: [], more: 0, warnings: config.warnings, config });
      print(env, ...summary(env, file, config));
      for (const warning of config.warnings) env.stderr.write(`warning: ${problemLines(warning)}\n`);
    });
}

/** `formatProblem`, with nothing in it that moves a cursor. */
function problemLines(problem: ConfigProblem): string {
  return formatProblem(problem).split('\n').map(plain).join('\n');
}

function summary(env: Env, file: string, config: Config): string[] {
  const ink = paint(wantsColour(env));
  const backends = config.services.reduce((sum, service) => sum + service.backends.length, 0);
  const { metrics, control, frames } = config;
  const rows: [string, string][] = [
    ...config.interfaces.map((iface): [string, string] => [
      'interface',
      `${iface.name}, queues ${iface.queues === 'all' ? 'all' : iface.queues.join(',')}, mode ${iface.mode}, ` +
        `${iface.poll}, fallback ${iface.fallback}`,
    ]),
    ['frames', `${frames.count} of ${frames.size} bytes a worker, rings of ${frames.ring}, bursts of ${frames.burst}`],
    ['services', `${config.services.length} with ${plural(backends, 'backend')}`],
    ...config.services.slice(0, MAX_SERVICES_SHOWN).map((service): [string, string] => ['', serviceLine(service)]),
    [
      'filters',
      config.filters.map((filter) => (filter.kind === 'module' ? `module ${filter.name}` : filter.kind)).join(' → '),
    ],
    ['rules', ruleLine(config)],
    ['metrics', metrics.listen === null ? 'off' : `http://${hostPort(metrics.listen)}/metrics`],
    ['control', control.socket],
  ];
  if (config.services.length > MAX_SERVICES_SHOWN) {
    rows.splice(
      rows.findIndex(([name]) => name === 'filters'),
      0,
      ['', `… and ${config.services.length - MAX_SERVICES_SHOWN} more`],
    );
  }
  return [
    `${plain(file)}: ${ink.green('ok')}`,
    ...rows.map(([name, text]) => cut(`  ${name.padEnd(9)}  ${plain(text || 'none')}`, 100)),
  ];
}

function serviceLine({ name, vip, ports, protocols, backends }: ServiceConfig): string {
  const full = vip.length === (vip.family === 4 ? 32 : 128);
  const address = full ? vip.text : `${vip.text}/${vip.length}`;
  const protocol = protocols.map((number) => ({ 6: 'tcp', 17: 'udp' })[number] ?? String(number)).join(',') || 'any';
  const at = `${vip.family === 6 ? `[${address}]` : address}:${ports.map(rangeText).join(',') || 'any'}`;
  const out = backends.filter(({ state }) => state !== 'active').length;
  return `${name}  ${at} ${protocol}  ${plural(backends.length, 'backend')}${out === 0 ? '' : `, ${out} not active`}`;
}

function ruleLine({ rules }: Config): string {
  const numbers = new Map<string, number>();
  for (const { action } of rules) numbers.set(action, (numbers.get(action) ?? 0) + 1);
  const actions = [...numbers].map(([action, number]) => `${number} ${action}`);
  const shadow = rules.filter(({ mode }) => mode === 'shadow').length;
  if (shadow > 0) actions.push(`${shadow} of them in shadow mode`);
  return rules.length === 0 ? 'none' : `${rules.length}: ${actions.join(', ')}`;
}

function rangeText({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

function hostPort({ host, port }: { host: string; port: number }): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

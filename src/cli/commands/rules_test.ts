/** `sluice rules test`: what a configuration's rules do to the packets of a capture. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { loadConfig } from '../../control/config/index.js';
import { replay } from '../../control/replay.js';
import { SluiceError } from '../../errors.js';
import type { Env } from '../env.js';
import { bytes, count, paint, plain, plural, print, printJson, table, wantsColour, tableWidth } from '../output.js';
import { CUT } from './replay.js';

interface Options {
  config: string;
  interface?: string;
  strict: boolean;
  json?: boolean;
}

export function rulesTestCommand(env: Env): Command {
  return new Command('test')
    .description('Run a capture through the data path of a configuration and count for each rule; no root, no daemon')
    .argument('<capture>', 'pcap or pcapng file, Ethernet')
    .requiredOption('-c, --config <file>', 'configuration, YAML')
    .option('-i, --interface <name>', 'interface of the configuration that the packets come in on (default: its first)')
    .option('--no-strict', 'use a damaged capture up to the damage')
    .option('--json', 'print { packets, bytes, cut, verdicts, rules } as JSON')
    .addHelpText(
      'after',
      `
PACKETS and BYTES matched, ACTED were dropped (limited, sampled, …) by the rule; in shadow mode, would have been. Filters that stand before
the rules come before them here too. sluice replay says what became of every packet.

Examples:
  sluice rules test --config sluice.yaml attack.pcap
  sluice rules test -c sluice.yaml attack.pcap --json | jq '.rules[] | select(.packets == 0) | .name'`,
    )
    .action((capture: string, options: Options) => test(env, capture, options));
}

async function test(env: Env, capture: string, options: Options): Promise<void> {
  const config = loadConfig(resolve(env.cwd, options.config));
  const report = await replay({
    config,
    input: resolve(env.cwd, capture),
    interface: options.interface,
    lockstep: false,
    strict: options.strict,
    signal: env.signal,
  });
  const rules = report.rules.map((rule, i) => {
    const { action, mode = 'enforce' } = config.rules[i];
    const { name, ...counters } = rule;
    return { name, action, mode, ...counters };
  });
  const { packets, cut, verdicts, damage, violations } = report;
  if (options.json) {
    printJson(env, { packets, bytes: report.bytes, cut, verdicts, rules });
  } else {
    const ink = paint(wantsColour(env));
    const numbers = ['PACKETS', 'BYTES', 'ACTED', 'ACTED BYTES'].map((title) => ({ title, align: 'right' as const }));
    const rows = rules.map((rule) => [
      rule.name,
      rule.action,
      rule.mode,
      count(rule.packets),
      bytes(rule.bytes),
      count(rule.acted),
      bytes(rule.actedBytes),
    ]);
    const outcome = Object.entries(verdicts).map(([name, number]) => `${name} ${count(number)}`);
    print(
      env,
      ...(rows.length === 0
        ? ['no rules']
        : table(
            [{ title: 'RULE', shrinkTo: 14 }, { title: 'ACTION' }, { title: 'MODE' }, ...numbers],
            rows,
            tableWidth(env),
            ink,
          )),
      `${plural(packets, 'packet')}: ${outcome.join(', ')}`,
    );
    if (cut > 0) print(env, `${plural(cut, 'packet')} ${CUT}`);
    if (damage !== null) env.stderr.write(`damaged capture: ${plain(damage)}\n`);
  }
  if (violations.length > 0) {
    throw new SluiceError('SLUICE_STATE', `counters do not add up: ${violations.join('; ')}`, 'This is a bug.');
  }
}

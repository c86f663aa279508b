import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../../control/config/index.js';
import { replay, type PcapOutput, type ReplayReport } from '../../control/replay.js';
import { SluiceError } from '../../errors.js';
import { processEnv, type Env } from '../env.js';
import { count, plain, plural, print, printJson } from '../output.js';

const OUTPUTS: readonly PcapOutput[] = ['tx', 'redirect', 'pass', 'drop'];

interface Options {
  config: string;
  output?: string;
  outputs?: PcapOutput[];
  interface?: string;
  lockstep: boolean;
  strict: boolean;
  json?: boolean;
}

/** `sluice replay`: what a configuration does to the packets of a capture. Needs neither root nor an interface. */
export function replayCommand(env: Env = processEnv()): Command {
  return new Command('replay')
    .description('Run a capture through the data path of a configuration; no root, same input gives the same output')
    .argument('<capture>', 'pcap or pcapng file, Ethernet')
    .requiredOption('-c, --config <file>', 'configuration, YAML')
    .option('-o, --output <file>', 'write what leaves to a pcapng file, each packet with its verdict as comment')
    .option(
      '--outputs <list>',
      `which packets to write: ${OUTPUTS.join(',')} (default: tx,redirect,pass)`,
      parseOutputs,
    )
    .option('-i, --interface <name>', 'interface of the configuration that the packets come in on (default: its first)')
    .option('--no-lockstep', 'bursts as the configuration has them: faster, comments with the verdict only')
    .option('--no-strict', 'replay a damaged capture up to the damage')
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      `
Next hops are made up (hardware addresses 02:…, MTU 1500), because a replay touches no network.

Examples:
  sluice replay attack.pcap --config sluice.yaml
  sluice replay attack.pcapng -c sluice.yaml -o out.pcapng --outputs drop && tshark -r out.pcapng -T fields -e frame.comment
  sluice replay attack.pcap -c sluice.yaml --json | jq .reasons`,
    )
    .action(async (capture: string, options: Options) => {
      const report = await replay({
        config: loadConfig(resolve(env.cwd, options.config)),
        input: resolve(env.cwd, capture),
        output: options.output === undefined ? undefined : resolve(env.cwd, options.output),
        outputs: options.outputs,
        interface: options.interface,
        lockstep: options.lockstep,
        strict: options.strict,
        signal: env.signal,
      });
      if (options.json) printJson(env, report);
      else print(env, ...lines(report));
      if (report.violations.length > 0) {
        throw new SluiceError(
          'SLUICE_STATE',
          `counters do not add up: ${report.violations.join('; ')}`,
          'This is a bug.',
        );
      }
    });
}

function parseOutputs(text: string): PcapOutput[] {
  return text.split(',').map((name) => {
    const output = OUTPUTS.find((known) => known === name.trim());
    if (output === undefined) throw new InvalidArgumentError(`${name} is none of ${OUTPUTS.join(', ')}.`);
    return output;
  });
}

/** What is said of frames that a capture has a part of. */
export const CUT =
  'captured in part, and judged by that part: len and length are of it, IP packets longer than it are malformed; capture with tcpdump -s 0';

function lines(report: ReplayReport): string[] {
  const { verdicts, flows } = report;
  const text = [
    `${plural(report.captured, 'packet')} captured over ${(report.durationMs / 1000).toFixed(3)} s, ${count(report.packets)} received`,
    `verdicts  ${Object.entries(verdicts)
      .map(([name, packets]) => `${name} ${count(packets)}`)
      .join('  ')}`,
    `flows     ${count(flows.inserted)} new, ${count(flows.hit)} hits, ${count(flows.bypassed)} bypassed, ${count(flows.expired)} expired`,
  ];
  if (report.cut > 0) text.push(`cut       ${count(report.cut)}: ${CUT}`);
  if (report.tooLong > 0) text.push(`too long  ${count(report.tooLong)}: no frame holds them; set frames.size: 4096`);
  if (report.noService > 0) text.push(`to no service  ${count(report.noService)} (passed)`);
  text.push(...section('drop reason', Object.entries(report.reasons)));
  text.push(
    ...section(
      'rule',
      report.rules.map(({ name, packets }) => [name, packets]),
    ),
  );
  text.push(
    ...section(
      'filter drops',
      report.filters.map(({ name, dropped }) => [name, dropped]),
    ),
  );
  text.push(
    ...section(
      'backend',
      report.backends.map(({ service, address, packets }) => [`${service} ${address}`, packets]),
    ),
  );
  for (const { packet, message } of report.errors) text.push(`packet ${packet}: policy threw: ${plain(message)}`);
  if (report.damage !== null) text.push(`damaged capture: ${plain(report.damage)}`);
  if (report.written > 0) text.push(`${plural(report.written, 'packet')} written`);
  return text;
}

function section(title: string, rows: [string, number][]): string[] {
  if (rows.length === 0) return [];
  const width = Math.max(...rows.map(([name]) => name.length), title.length);
  return [
    '',
    title.padEnd(width) + '  packets',
    ...rows.map(([name, packets]) => `${plain(name).padEnd(width)}  ${count(packets)}`),
  ];
}

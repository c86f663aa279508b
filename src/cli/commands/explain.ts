/** `sluice explain`: what becomes of one packet, stage by stage, and why. */
import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../../control/config/index.js';
import { explain } from '../../control/explain/explain.js';
import { readInput } from '../../control/explain/input.js';
import { liveConfig, type LiveConfig } from '../../control/explain/live.js';
import { linesOf } from '../../control/explain/render.js';
import { SluiceError } from '../../errors.js';
import { controlSocket, processEnv, type Env } from '../env.js';
import { plain, print, printJson } from '../output.js';

interface Options {
  config?: string;
  socket?: string;
  interface?: string;
  after?: number;
  alone?: boolean;
  strict: boolean;
  all?: boolean;
  json?: boolean;
}

export function explainCommand(env: Env = processEnv()): Command {
  return new Command('explain')
    .description('Say what becomes of one packet and why: parse, rules, flow, service, backend, bytes, verdict')
    .argument('<packet...>', 'FILE.pcap#N, a packet in words, or hex:BYTES; several words are joined by spaces')
    .option('-c, --config <file>', 'configuration, YAML (default: that of the running daemon, with its changes)')
    .option('--socket <path>', 'control socket of the daemon (default: SLUICE_SOCKET, else /run/sluice/control.sock)')
    .option('-i, --interface <name>', 'interface of the configuration that the packet comes in on (default: its first)')
    .option('--after <n>', 'run the first n frames of the file before it (default: all before it)', wholeNumber)
    .option('--alone', 'run nothing before it: empty tables')
    .option('--no-strict', 'use a damaged capture up to the damage')
    .option('--all', 'list rules that the index has left out, and all bytes')
    .option('--json', 'print the explanation as JSON')
    .addHelpText(
      'after',
      `
A packet in words (docs/explain.md):
  tcp|udp|icmp|icmp6|PROTOCOL SRC[:PORT] > DST[:PORT] [flags SA] [length N] [ttl N] [tos N] [vlan N] [fragment]

It touches neither network nor daemon: next hops are made up, as in sluice replay.

Examples:
  sluice explain attack.pcap#17 --config sluice.yaml
  sluice explain -c sluice.yaml 'tcp 192.0.2.1:1234 > 198.51.100.1:443 flags S'
  sluice explain -c new.yaml attack.pcap#17 --json | jq -r .verdict.reason`,
    )
    .action(async (words: string[], options: Options) => {
      if (options.alone && options.after !== undefined) {
        throw new SluiceError('SLUICE_USAGE', 'both --alone and --after', 'Give one of them.');
      }
      const input = readInput(words.join(' '), {
        after: options.alone ? 0 : options.after,
        strict: options.strict,
        resolve: (path) => resolve(env.cwd, path),
      });
      const { explanation } = await explain({
        ...(await configOf(env, options)),
        input,
        interface: options.interface,
        signal: env.signal,
      });
      if (options.json) printJson(env, explanation);
      else print(env, ...linesOf(explanation, options.all ?? false).map(plain));
    });
}

async function configOf(env: Env, { config, socket }: Options): Promise<LiveConfig> {
  if (config !== undefined) return { config: loadConfig(resolve(env.cwd, config)), overrides: new Map(), live: [] };
  const path = controlSocket(env, socket);
  try {
    return await liveConfig(path);
  } catch (error) {
    if (!(error instanceof SluiceError) || error.code !== 'SLUICE_CONTROL') throw error;
    const remedy = 'Give the configuration with --config FILE, or the socket of the daemon with --socket.';
    throw new SluiceError('SLUICE_CONTROL', `no --config, and ${error.message}`, remedy, { cause: error });
  }
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It is a number of frames, 0 or more.');
  return Number(text);
}

#!/usr/bin/env node
/** The `sluice` command. Each subcommand is a file in commands/; this one only puts them together and maps errors to exit codes. */
import { Command, CommanderError } from 'commander';
import { ExitCode, SluiceError, exitCodeOf, isKernelError } from '../errors.js';
import { VERSION } from '../control/version.js';
import { processEnv, type Env } from './env.js';

const interrupted = new AbortController();

type MakeCommand = (env: Env) => Command;

/** By name, in the order of the help. Imported when asked for: after a crash, every file that `run` does not read counts. */
const COMMANDS: Record<string, () => Promise<MakeCommand>> = {
  run: async () => (await import('./commands/run.js')).runCommand,
  check: async () => (await import('./commands/check.js')).checkCommand,
  convert: async () => (await import('./commands/convert.js')).convertCommand,
  demo: async () => (await import('./commands/demo.js')).demoCommand,
  doctor: async () => (await import('./commands/doctor.js')).doctorCommand,
  status: async () => (await import('./commands/status.js')).statusCommand,
  reload: async () => (await import('./commands/reload.js')).reloadCommand,
  'backend-agent': async () => (await import('./commands/backend_agent.js')).backendAgentCommand,
  backend: async () => (await import('./commands/backend.js')).backendCommand,
  replay: async () => (await import('./commands/replay.js')).replayCommand,
  explain: async () => (await import('./commands/explain.js')).explainCommand,
  capture: async () => (await import('./commands/capture.js')).captureCommand,
  match: async () => (await import('./commands/match.js')).matchCommand,
  rules: async () => (await import('./commands/rules.js')).rulesCommand,
  set: async () => (await import('./commands/set.js')).setCommand,
  gen: async () => (await import('./commands/gen.js')).genCommand,
  bench: async () => (await import('./commands/bench.js')).benchCommand,
};

/** The one command that the arguments name; all of them for help and for a name that is none. */
function wanted(): (() => Promise<MakeCommand>)[] {
  const name = process.argv[2] ?? '';
  return Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]] : Object.values(COMMANDS);
}

async function program(): Promise<Command> {
  const env = processEnv(interrupted.signal);
  const root = new Command('sluice')
    .description('Userspace packet processor over AF_XDP: denial-of-service filtering and layer-4 load balancing')
    .version(VERSION)
    .showHelpAfterError('(sluice COMMAND --help tells more)')
    .addHelpText(
      'after',
      `
Exit codes: 0 ok, 1 failure, 2 usage, 69 device, 77 permission, 78 config

Examples:
  sluice demo                        a small internet in network namespaces, with real traffic
  sluice doctor eth0                 what this machine and its interface can do
  sluice check sluice.yaml           is this configuration right?
  ipvsadm -Sn | sluice convert       a configuration from that of IPVS, Katran or GLB Director
  sluice match x.pcap 'udp port 53'  which frames are these?
  sluice explain x.pcap#17 -c c.yaml what becomes of this frame, and why
  sluice run --config sluice.yaml    serve
  sluice status --watch              what it does now
  sluice capture --verdict drop      the packets that it drops, and why`,
    );
  for (const load of wanted()) root.addCommand((await load())(env));
  throwInsteadOfExit(root);
  return root;
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  command.commands.forEach(throwInsteadOfExit);
}

/** Prints an error the way a person wants it: what, then what to do. A stack only for bugs. */
async function report(error: unknown): Promise<void> {
  if (error instanceof SluiceError || isKernelError(error)) {
    const { plain } = await import('./output.js');
    // Messages name what they are about as it was written: a file may have anything in it.
    const clean = (text: string): string => text.split('\n').map(plain).join('\n');
    process.stderr.write(`sluice: ${clean(error.message)}\n`);
    if (error.remedy) process.stderr.write(`  ${clean(error.remedy)}\n`);
    const log = (error as { verifierLog?: string }).verifierLog;
    if (log) process.stderr.write(`${log}\n`);
    return;
  }
  process.stderr.write(`sluice: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort(signal));
// A reader that goes away (sluice status | head) is no failure. The command ends as by a signal, with nothing left behind.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exitCode = error.code === 'EPIPE' ? ExitCode.ok : ExitCode.failure;
  interrupted.abort(error.code);
});

try {
  await (await program()).parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  } else {
    await report(error);
    process.exitCode = exitCodeOf(error);
  }
}

#!/usr/bin/env node
/** The `sluice` command. Each subcommand is a file in commands/; this one only puts them together and maps errors to exit codes. */
import { Command, CommanderError } from 'commander';
import { ExitCode, SluiceError, exitCodeOf, isKernelError } from '../errors.js';
import { VERSION } from '../control/version.js';
import { processEnv } from './env.js';
import { backendCommand } from './commands/backend.js';
import { checkCommand } from './commands/check.js';
import { demoCommand } from './commands/demo.js';
import { doctorCommand } from './commands/doctor.js';
import { reloadCommand } from './commands/reload.js';
import { replayCommand } from './commands/replay.js';
import { runCommand } from './commands/run.js';
import { statusCommand } from './commands/status.js';

const interrupted = new AbortController();

function program(): Command {
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
  sluice run --config sluice.yaml    serve
  sluice status --watch              what it does now`,
    );
  for (const command of [
    runCommand(env),
    checkCommand(env),
    demoCommand(env),
    doctorCommand(env),
    statusCommand(env),
    reloadCommand(env),
    backendCommand(env),
    replayCommand(env),
  ]) {
    root.addCommand(command);
  }
  throwInsteadOfExit(root);
  return root;
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  command.commands.forEach(throwInsteadOfExit);
}

/** Prints an error the way a person wants it: what, then what to do. A stack only for bugs. */
function report(error: unknown): void {
  if (error instanceof SluiceError || isKernelError(error)) {
    process.stderr.write(`sluice: ${error.message}\n`);
    if (error.remedy) process.stderr.write(`  ${error.remedy}\n`);
    const log = (error as { verifierLog?: string }).verifierLog;
    if (log) process.stderr.write(`${log}\n`);
    return;
  }
  process.stderr.write(`sluice: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort(signal));
// A reader that goes away (sluice status | head) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

try {
  await program().parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  } else {
    report(error);
    process.exitCode = exitCodeOf(error);
  }
}

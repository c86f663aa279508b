import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, constants, tmpdir } from 'node:os';
import { join } from 'node:path';

/** A child that failed; the message has what it wrote to stderr. */
export class ChildError extends Error {}

let current: ChildProcess | null = null;
const directories: string[] = [];
const actions: (() => void)[] = [];

/**
 * Kills the child that runs and removes temporary directories (fixtures of a million flows are large), whatever ends the
 * process but SIGKILL.
 */
export function cleanUpAtExit(): void {
  process.on('exit', () => {
    current?.kill('SIGKILL');
    for (const action of actions) action();
    for (const directory of directories) rmSync(directory, { recursive: true, force: true });
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => process.exit(128 + constants.signals[signal]));
  }
}

/** Does it when the process ends, before temporary directories are removed, if `cleanUpAtExit` was called. It cannot wait for anything. */
export function atExit(action: () => void): void {
  actions.push(action);
}

/** A directory that is gone when the process is, if `cleanUpAtExit` was called. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  directories.push(directory);
  return directory;
}

/** CPU that timed children run on: not 0, which is where most interrupts go. Empty where there is one CPU or no such one is allowed. */
function choosePin(): readonly string[] {
  const pin = ['taskset', '-c', '1'];
  if (availableParallelism() < 2) return [];
  return spawnSync(pin[0], [...pin.slice(1), 'true']).status === 0 ? pin : [];
}

/** Put in front of a command line, pins it to one CPU, where that can be done. */
export const PIN: readonly string[] = choosePin();

/** Runs a program, one at a time, and returns what it printed; its stderr is ours when `inherit`, else part of the error. */
export async function run(command: readonly string[], inherit = false): Promise<string> {
  const [file, ...args] = command;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', inherit ? 'inherit' : 'pipe'] });
  current = child;
  let output = '';
  let errors = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (errors += text));
  try {
    const status = await new Promise<number | NodeJS.Signals>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(signal ?? code ?? 1));
    });
    if (status !== 0)
      throw new ChildError(
        `${command.join(' ')}: ended with ${status}\n${(errors.trim() || output).slice(-4000).trimEnd()}`.trimEnd(),
      );
  } finally {
    current = null;
  }
  return output;
}

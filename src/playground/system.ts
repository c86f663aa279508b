/**
 * What the playground asks of the operating system: the `ip` command, values under /proc/sys, and whether a process
 * still lives. All of it synchronous, because the same code must run while the process is exiting.
 */
import { execFileSync } from 'node:child_process';
import { startTime } from '../control/process_identity.js';
import { SluiceError } from '../errors.js';

export { startTime };

interface ExecFailure extends Error {
  code?: string;
  stderr?: string;
}

/**
 * Runs a program without a shell and returns what it printed.
 * Throws SLUICE_DEVICE with the program's own words when it fails, SLUICE_PERMISSION when the kernel refused.
 */
export function run(command: string, args: readonly string[], input = ''): string {
  try {
    return execFileSync(command, args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'], timeout: 20_000 });
  } catch (cause) {
    const failure = cause as ExecFailure;
    if (failure.code === 'ENOENT') {
      throw new SluiceError('SLUICE_DEVICE', `the program ${command} is not installed`, remedyForMissing(command), {
        cause,
      });
    }
    const words = failure.stderr?.trim() || failure.message;
    const refused = /not permitted|permission denied/i.test(words);
    throw new SluiceError(
      refused ? 'SLUICE_PERMISSION' : 'SLUICE_DEVICE',
      `${command} ${args.join(' ')}: ${words}`,
      refused ? 'Run as root: the playground makes network namespaces.' : '',
      { cause },
    );
  }
}

function remedyForMissing(command: string): string {
  return command === 'ip' ? 'Install it: apt-get install iproute2' : `Install the package that has ${command}.`;
}

/** Many `ip` commands in one process, in order; the first that fails stops the rest. `namespace` is a full name. */
export function ipBatch(lines: readonly string[], namespace?: string): void {
  const where = namespace === undefined ? [] : ['-n', namespace];
  try {
    run('ip', [...where, '-batch', '-'], lines.join('\n') + '\n');
  } catch (error) {
    // ip only counts the lines: say which one it was.
    const number = error instanceof SluiceError ? /Command failed -:(\d+)/.exec(error.message)?.[1] : undefined;
    if (number && error instanceof SluiceError) error.message += ` (${lines[Number(number) - 1]})`;
    throw error;
  }
}

/** Names of all network namespaces that `ip netns` knows on this machine. */
export function listNamespaces(): string[] {
  return run('ip', ['netns', 'list'])
    .split('\n')
    .map((line) => line.split(' ')[0])
    .filter((name) => name !== '');
}

/** Process ids inside a namespace; empty when the namespace is not there. */
export function namespacePids(namespace: string): number[] {
  try {
    return run('ip', ['netns', 'pids', namespace]).split('\n').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

export function isAlive(pid: number): boolean {
  return startTime(pid) !== undefined;
}

/** Sends a signal; false when there is no such process. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    return false;
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Blocks the thread, for the clean-up while the process exits: nothing asynchronous runs there. */
export function sleepSync(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}

/** Ends processes: SIGTERM, `graceMs` milliseconds to comply, then SIGKILL. Returns when all are gone (or after 2 s more). */
export function endProcesses(pids: readonly number[], graceMs: number): void {
  for (const pid of pids) signal(pid, 'SIGTERM');
  waitGone(pids, graceMs);
  const stubborn = pids.filter(isAlive);
  for (const pid of stubborn) signal(pid, 'SIGKILL');
  waitGone(stubborn, 2000);
}

function waitGone(pids: readonly number[], limitMs: number): void {
  const deadline = Date.now() + limitMs;
  while (pids.some(isAlive) && Date.now() < deadline) sleepSync(10);
}

/**
 * What a command touches of the process that it runs in. Commands take all of it from an `Env`, never from `process`,
 * so that a test runs them in its own process with streams and variables of its own.
 */
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

export interface Env {
  /** Left out: the process's own. */
  readonly stdin?: Readable;
  /** Results, and nothing else: what a script reads. */
  readonly stdout: Writable;
  /** Progress, warnings and errors. */
  readonly stderr: Writable;
  /** Whether stdout is a terminal. */
  readonly isTTY: boolean;
  /** Width of the terminal, or 100 when stdout is none (tables: tableWidth). */
  columns(): number;
  /** An environment variable; undefined when unset or empty. */
  getenv(name: string): string | undefined;
  /** Directory that relative paths on the command line start from. */
  readonly cwd: string;
  /** Monotonic clock, milliseconds. For differences only. */
  nowMs(): number;
  /** Resolves after `ms` milliseconds, or at once when `signal` is aborted; never rejects. */
  sleep(ms: number): Promise<void>;
  /** Aborted when the user wants the command to end (SIGINT, SIGTERM). Commands then clean up and return. */
  readonly signal: AbortSignal;
}

/** The `Env` of this process. `signal` is whatever the caller aborts from its signal handlers. */
export function processEnv(signal: AbortSignal = new AbortController().signal): Env {
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    isTTY: process.stdout.isTTY === true,
    columns: () => (process.stdout.isTTY ? process.stdout.columns || 100 : 100),
    getenv: (name) => process.env[name] || undefined,
    cwd: process.cwd(),
    nowMs: () => performance.now(),
    sleep: (ms) => sleepUnless(signal, ms),
    signal,
  };
}

/** Sleeps `ms` milliseconds or until the signal is aborted, whichever is first; never rejects. */
export async function sleepUnless(signal: AbortSignal, ms: number): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
}

/** Where the daemon's control socket is when neither `--socket` nor SLUICE_SOCKET says. */
export const DEFAULT_CONTROL_SOCKET = '/run/sluice/control.sock';

/** Path of the control socket: the option, else SLUICE_SOCKET, else the default. */
export function controlSocket(env: Env, option: string | undefined): string {
  return option ?? env.getenv('SLUICE_SOCKET') ?? DEFAULT_CONTROL_SOCKET;
}

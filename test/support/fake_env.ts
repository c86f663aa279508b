import { Writable, type Readable } from 'node:stream';
import type { Command } from 'commander';
import type { Env } from '../../src/cli/env.js';
import { exitCodeOf } from '../../src/errors.js';

/** An `Env` for tests: what a command wrote, a clock that sleeping moves on, and no process behind it. */
export class FakeEnv implements Env {
  readonly stdout = sink((text) => (this.out += text));
  readonly stderr = sink((text) => (this.err += text));
  readonly controller = new AbortController();
  readonly signal = this.controller.signal;
  readonly cwd = process.cwd();
  stdin?: Readable;
  /** Runs at each sleep. */
  onSleep: () => void = () => undefined;
  out = '';
  err = '';
  slept: number[] = [];
  private clockMs = 0;

  constructor(
    readonly variables: Record<string, string> = {},
    readonly isTTY = false,
    public width = 100,
  ) {}

  columns(): number {
    return this.width;
  }

  getenv(name: string): string | undefined {
    return this.variables[name] || undefined;
  }

  nowMs(): number {
    return this.clockMs;
  }

  sleep(ms: number): Promise<void> {
    this.slept.push(ms);
    this.clockMs += ms;
    this.onSleep();
    return Promise.resolve();
  }
}

/** Runs a command as main.ts would, without ending the process. Gives its exit code and its error, if any. */
export async function runCommand(command: Command, args: string[]): Promise<{ code: number; error: Error | null }> {
  const all = [command, ...command.commands];
  for (const one of all) one.exitOverride().configureOutput({ writeOut: () => undefined, writeErr: () => undefined });
  try {
    await command.parseAsync(args, { from: 'user' });
    return { code: 0, error: null };
  } catch (error) {
    if ((error as { code?: string }).code?.startsWith('commander.')) return { code: 2, error: error as Error };
    return { code: exitCodeOf(error), error: error as Error };
  }
}

/** The same, with the error as one line, message and remedy ('' for none), and what this run printed. */
export async function runInWords(
  env: FakeEnv,
  command: Command,
  args: string[],
): Promise<{ code: number; error: string; out: string }> {
  env.out = '';
  const { code, error } = await runCommand(command, args);
  const remedy = (error as { remedy?: string } | null)?.remedy;
  return { code, error: error === null ? '' : `${error.message}${remedy ? ` | ${remedy}` : ''}`, out: env.out };
}

function sink(take: (text: string) => void): Writable {
  return new Writable({ write: (chunk, _, done) => (take(String(chunk)), done()) });
}

/** A child process of the playground: its output by the line, its end as a promise, a polite way to stop it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SluiceError } from '../errors.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Compiled program under dist/, also when this module itself runs from src/ (tests). `name` as "playground/http_load". */
export function compiledProgram(name: string): string {
  const path = join(root, 'dist', `${name}.js`);
  if (!existsSync(path)) {
    throw new SluiceError('SLUICE_STATE', `${path} is missing`, 'Run: npm run build');
  }
  return path;
}

export interface ProcessExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface StartOptions {
  /** Shown in errors; default: the program's name. */
  label?: string;
  env?: NodeJS.ProcessEnv;
  /** Where its stderr goes; default: kept in memory (the last lines) for error messages. A descriptor: appended there. */
  stderr?: 'keep' | number;
  /** Outlives this process: its stdin is not a pipe that ends when we do. */
  independent?: boolean;
}

/** Lines of stderr kept for error messages. */
const KEPT_LINES = 40;

interface ProcessEvents {
  line: [line: string];
  errorLine: [line: string];
}

/**
 * One running program. Emits `line` for each line on its stdout and `errorLine` for each on its stderr.
 * It has a process group of its own, so that Ctrl-C reaches only the playground, which then ends it in order.
 */
export class ChildProgram extends EventEmitter<ProcessEvents> {
  readonly label: string;
  /** Resolves when the process has ended and its output is read to the end. Never rejects. */
  readonly ended: Promise<ProcessExit>;
  private readonly child: ChildProcess;
  private readonly recent: string[] = [];
  private exit: ProcessExit | undefined;

  constructor(command: string, args: readonly string[], options: StartOptions = {}) {
    super();
    this.label = options.label ?? command;
    this.child = spawn(command, args, {
      detached: true,
      env: options.env ?? process.env,
      stdio: [
        options.independent ? 'ignore' : 'pipe',
        options.independent ? 'ignore' : 'pipe',
        typeof options.stderr === 'number' ? options.stderr : 'pipe',
      ],
    });
    if (options.independent) this.child.unref();
    // A child that is gone makes its pipe fail; its exit says so already.
    this.child.stdin?.on('error', () => undefined);
    splitLines(this.child.stdout, (line) => this.emit('line', line));
    splitLines(this.child.stderr, (line) => {
      this.recent.push(line);
      if (this.recent.length > KEPT_LINES) this.recent.shift();
      this.emit('errorLine', line);
    });
    this.ended = new Promise((resolve) => {
      const finish = (code: number | null, signal: NodeJS.Signals | null) => {
        this.exit ??= { code, signal };
        resolve(this.exit);
      };
      this.child.once('error', (error) => {
        this.recent.push(error.message);
        finish(127, null);
      });
      this.child.once('close', finish);
    });
  }

  /** undefined when the program could not be started at all. */
  get pid(): number | undefined {
    return this.child.pid;
  }

  get running(): boolean {
    return this.exit === undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** How it ended; undefined while it runs. */
  get lastExit(): ProcessExit | undefined {
    return this.exit;
  }

  /** The last lines that it wrote to stderr. */
  get errorOutput(): string {
    return this.recent.join('\n');
  }

  /** Writes one JSON line to its stdin. */
  send(message: unknown): void {
    this.child.stdin?.write(JSON.stringify(message) + '\n');
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** SIGTERM, `graceMs` milliseconds to comply, then SIGKILL. */
  async stop(graceMs = 3000): Promise<ProcessExit> {
    if (this.running) {
      this.child.kill('SIGTERM');
      const timer = setTimeout(() => this.child.kill('SIGKILL'), graceMs);
      await this.ended;
      clearTimeout(timer);
    }
    return this.ended;
  }

  /**
   * Next JSON message on its stdout for which `wanted` holds. Throws SLUICE_STATE when the program ends first or
   * nothing came within `timeoutMs` milliseconds.
   */
  message<T extends object>(wanted: (message: T) => boolean, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (why: string) => {
        settle();
        const output = this.errorOutput && `:\n${this.errorOutput}`;
        reject(new SluiceError('SLUICE_STATE', `${this.label} ${why}${output}`));
      };
      // A listener, not a loop over once(): several lines of one chunk arrive before a promise can be awaited again.
      const onLine = (line: string) => {
        const message = parseLine(line);
        if (!message || !wanted(message as T)) return;
        settle();
        resolve(message as T);
      };
      const timer = setTimeout(() => fail(`said nothing within ${timeoutMs} ms`), timeoutMs);
      const settle = () => {
        clearTimeout(timer);
        this.off('line', onLine);
      };
      this.on('line', onLine);
      void this.ended.then((exit) => fail(`ended (${describeExit(exit)})`));
    });
  }
}

/** A line as the object that it holds; undefined when it is not JSON. */
export function parseLine(line: string): object | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

export function describeExit(exit: ProcessExit | undefined): string {
  if (!exit) return 'still running';
  return exit.signal ? `signal ${exit.signal}` : `exit code ${exit.code}`;
}

/** Calls `onLine` for every complete line of a stream, and for what is left at its end. */
export function splitLines(stream: NodeJS.ReadableStream | null, onLine: (line: string) => void): void {
  if (!stream) return;
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  stream.on('end', () => {
    if (rest !== '') onLine(rest);
    rest = '';
  });
}

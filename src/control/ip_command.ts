/**
 * iproute2's `ip`, the way to the kernel's routing tables that every host has. Arguments are arrays and go to the program as they
 * are: no shell reads them.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';

export interface IpResult {
  stdout: string;
  stderr: string;
  /** Exit status; 1 also when some of a batch's commands failed. */
  code: number;
}

export interface Monitor {
  close(): void;
}

export interface MonitorEvents {
  /** Lines of `ip monitor label …`, whole or in part. */
  onText(text: string): void;
  /** It ended by itself; `reason` says how. Not called after close(). */
  onExit(reason: string): void;
}

/** What the rest of the control plane uses of `ip`; tests put canned answers in its place. */
export interface IpCommand {
  /** Runs `ip` with `input` on its standard input. Rejects only when the program cannot be run or does not end. */
  run(args: readonly string[], input?: string): Promise<IpResult>;
  /** Starts `ip monitor label` on these kinds of object. */
  monitor(objects: readonly string[], events: MonitorEvents): Monitor;
}

/** Answers for tens of thousands of routes fit. */
const MAX_OUTPUT_BYTES = 64 << 20;
const TIMEOUT_MS = 10_000;

/** @param netns name of a network namespace to act in; default: the caller's own */
export function systemIp(netns?: string): IpCommand {
  const prefix = netns === undefined ? [] : ['-n', netns];
  return {
    run: (args, input) => run([...prefix, ...args], input),
    monitor: (objects, events) => new ChildMonitor([...prefix, 'monitor', 'label', ...objects], events),
  };
}

function run(args: readonly string[], input = ''): Promise<IpResult> {
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: MAX_OUTPUT_BYTES, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' as const };
    const child = execFile('ip', args, options, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') reject(error);
      else resolve({ stdout, stderr, code: typeof error?.code === 'number' ? error.code : 0 });
    });
    // It may end before it has read its input; what it printed says why.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

/** A long-lived `ip monitor`. The kernel kills it when this process dies, however it dies (PR_SET_PDEATHSIG). */
class ChildMonitor implements Monitor {
  #child: ChildProcess | null = null;

  constructor(args: readonly string[], events: MonitorEvents) {
    this.#start('setpriv', ['--pdeathsig', 'KILL', 'ip', ...args], events, () => {
      // No util-linux here: then it ends at the first event after we do, when nobody reads its output.
      this.#start('ip', args, events, null);
    });
  }

  #start(program: string, args: readonly string[], events: MonitorEvents, ifMissing: (() => void) | null): void {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    const end = (reason: string): void => {
      if (this.#child !== child) return;
      this.#child = null;
      events.onExit(reason);
    };
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' && ifMissing && this.#child === child) ifMissing();
      else end(error.message);
    });
    child.on('exit', (code, signal) => end(signal ? `killed by ${signal}` : `exit status ${code}`));
    const onText = (text: string): void => {
      if (this.#child === child) events.onText(text);
    };
    child.stdout.setEncoding('utf8').on('data', onText);
    // "netlink receive error No buffer space available": events were lost, which is as good as an event.
    child.stderr.setEncoding('utf8').on('data', onText);
  }

  close(): void {
    const child = this.#child;
    this.#child = null;
    child?.kill('SIGKILL');
  }
}

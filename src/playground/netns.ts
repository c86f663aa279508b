/**
 * Network namespaces that belong to one run: made, connected, filled with processes, and removed whole, whatever
 * ends the run (the end of the program, an exception, Ctrl-C, SIGTERM). A SIGKILL leaves them to the next `sweepStale()`.
 *
 * Nothing here touches the namespace that the program runs in: both ends of every veth pair are made inside.
 */
import { join } from 'node:path';
import { SluiceError } from '../errors.js';
import { removeRun, runDirectory, writeOwner, type OwnerRecord } from './owner.js';
import { ChildProgram, type StartOptions } from './process.js';
import { endProcesses, ipBatch, run, startTime } from './system.js';

/** One end of a veth pair. */
export interface VethEnd {
  namespace: Namespace;
  /** Interface name inside it, at most 15 characters. */
  name: string;
  /** RX and TX queues; default 1. */
  queues?: number;
  /** Default 1500. */
  mtu?: number;
}

/** A network namespace of a playground. */
export class Namespace {
  constructor(
    /** Its role, for example "lb". */
    readonly role: string,
    /** Its name for `ip netns`, for example "sl1a2b-lb". */
    readonly name: string,
  ) {}

  /** Runs `ip` commands inside, one a line, without the leading "ip". */
  ip(...lines: string[]): void {
    ipBatch(lines, this.name);
  }

  /** What `ip -json ARGS` says inside. */
  query<T>(...args: string[]): T {
    const text = run('ip', ['-n', this.name, '-json', '-details', '-statistics', ...args]);
    return JSON.parse(text === '' ? '[]' : text) as T;
  }

  /** Arguments that run a program inside: spawn('ip', …). */
  commandLine(command: string, args: readonly string[] = []): string[] {
    return ['netns', 'exec', this.name, command, ...args];
  }

  /** Runs a program inside and returns what it printed; throws as `run` does. */
  exec(command: string, ...args: string[]): string {
    return run('ip', this.commandLine(command, args));
  }

  /** Sets values under /proc/sys; keys with slashes, as "net/ipv4/conf/all/rp_filter". */
  sysctl(values: Record<string, number>): void {
    const byValue = new Map<number, string[]>();
    for (const [key, value] of Object.entries(values)) {
      byValue.set(value, [...(byValue.get(value) ?? []), `/proc/sys/${key}`]);
    }
    // tee writes one value to many files in one process; sysctl(8) is not on every minimal system.
    for (const [value, paths] of byValue) run('ip', this.commandLine('tee', paths), `${value}\n`);
  }
}

/** Playgrounds that are up in this process, for the signal and exit handlers. */
const live = new Set<Playground>();
let runs = 0;

export class Playground {
  /** Unique among living runs: "sl", the pid in base 36, a count when the process has several. */
  readonly tag: string;
  /** Directory of this run (mode 0700), removed with it: sockets, configs, logs. */
  readonly directory: string;
  private readonly record: OwnerRecord;
  private readonly namespaces = new Map<string, Namespace>();
  private readonly programs = new Set<ChildProgram>();
  private state: 'open' | 'kept' | 'closed' = 'open';

  constructor() {
    if (process.geteuid?.() !== 0) {
      throw new SluiceError(
        'SLUICE_PERMISSION',
        'the playground makes network namespaces, which only root may do',
        'Run it as root, for example: sudo npm run demo',
      );
    }
    runs++;
    this.tag = `sl${process.pid.toString(36)}${runs > 1 ? `_${runs}` : ''}`;
    this.directory = runDirectory(this.tag);
    this.record = {
      tag: this.tag,
      pid: process.pid,
      startTime: startTime(process.pid) ?? '',
      kept: false,
      namespaces: [],
    };
    writeOwner(this.record);
    enlist(this);
  }

  /** Makes a namespace with loopback up. `role` is lower-case letters and digits, unique in the playground. */
  namespace(role: string): Namespace {
    const namespace = new Namespace(role, `${this.tag}-${role}`);
    // Recorded first: a run that dies between the two leaves a record too many, never a namespace too many.
    this.record.namespaces.push(namespace.name);
    writeOwner(this.record);
    try {
      run('ip', ['netns', 'add', namespace.name]);
    } catch (error) {
      // Somebody else has that name: not ours to remove.
      this.record.namespaces.pop();
      writeOwner(this.record);
      throw error;
    }
    this.namespaces.set(role, namespace);
    namespace.ip('link set lo up');
    return namespace;
  }

  /** Connects two namespaces. Both ends start down. */
  veth(a: VethEnd, b: VethEnd): void {
    ipBatch([`link add ${vethWords(a)} type veth peer ${vethWords(b)}`]);
  }

  /** Starts a program inside a namespace; it ends with the playground. */
  start(namespace: Namespace, command: string, args: readonly string[], options: StartOptions = {}): ChildProgram {
    if (this.state !== 'open') throw new SluiceError('SLUICE_STATE', `playground ${this.tag} is ${this.state}`);
    const program = new ChildProgram('ip', namespace.commandLine(command, args), { label: command, ...options });
    this.programs.add(program);
    void program.ended.then(() => this.programs.delete(program));
    return program;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Leaves everything up when this process ends; `sweepStale({ kept: true })` removes it later. */
  keep(): void {
    this.record.kept = true;
    writeOwner(this.record);
    this.state = 'kept';
    discharge(this);
  }

  /** Ends every process, deletes every namespace. Idempotent. */
  async close(graceMs = 3000): Promise<void> {
    if (this.state !== 'open') return;
    await Promise.all([...this.programs].map((program) => program.stop(graceMs)));
    this.closeSync(graceMs);
  }

  /** The same without the event loop, for exit handlers. Idempotent. */
  closeSync(graceMs = 1500): void {
    if (this.state !== 'open') return;
    this.state = 'closed';
    discharge(this);
    const pids = [...this.programs].map((program) => program.pid).filter((pid) => pid !== undefined);
    endProcesses(pids, graceMs);
    removeRun(this.record, graceMs);
  }
}

function vethWords(end: VethEnd): string {
  const queues = end.queues ?? 1;
  return (
    `name ${end.name} netns ${end.namespace.name} mtu ${end.mtu ?? 1500} ` +
    `numrxqueues ${queues} numtxqueues ${queues}`
  );
}

/** Signals that end the program. */
const ENDING: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * `exit` also follows an uncaught exception, so those two need one handler. A signal would skip it: each is turned
 * into an exit with the code that a shell expects, unless the program listens to that signal itself.
 */
const onSignal = (name: NodeJS.Signals, number: number) => {
  if (process.listenerCount(name) === 1) process.exit(128 + number);
};
const onExit = () => {
  for (const playground of [...live]) attempt(() => playground.closeSync());
};

function enlist(playground: Playground): void {
  if (live.size === 0) {
    process.on('exit', onExit);
    for (const name of ENDING) process.on(name, onSignal);
  }
  live.add(playground);
}

function discharge(playground: Playground): void {
  live.delete(playground);
  if (live.size > 0) return;
  process.off('exit', onExit);
  for (const name of ENDING) process.off(name, onSignal);
}

function attempt(action: () => void): void {
  try {
    action();
  } catch (error) {
    // The process is ending: the next sweep removes what this could not.
    process.stderr.write(`clean-up: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}

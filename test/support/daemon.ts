/**
 * The whole daemon under test: `sluice run` in a namespace, with a config of the test's own, between a client and, where a
 * test needs one, a backend (daemon_wire.ts). Everything ends with the test.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { callControl } from '../../src/control/api/client.js';
import type { BackendChange, ReloadResult, Status, StatusInterface } from '../../src/control/api/contract.js';
import { SluiceError } from '../../src/errors.js';
import { compiledProgram, parseLine, type ChildProgram, type ProcessExit } from '../../src/playground/process.js';
import { BACKEND, UDP_PORT, VIP, type Wire } from './daemon_wire.js';

export * from './daemon_kernel.js';
export * from './daemon_wire.js';

export type ConfigDocument = Record<string, unknown>;

/** A small configuration that serves the VIP; `parts` replace its top-level keys. */
export function daemonConfig(wire: Wire, parts: ConfigDocument = {}): ConfigDocument {
  return {
    interfaces: wire.backend ? [{ name: 'in0' }, { name: 'out0' }] : [{ name: 'in0' }],
    // Room for what arrives while a worker does not get the CPU: 8192 packets are 2.7 s of the usual 3000 a second.
    frames: { count: 24576, ring: 8192 },
    flows: { slots: 16384 },
    services: [
      {
        name: 'udp',
        vip: VIP,
        protocol: 'udp',
        port: UDP_PORT,
        backends: wire.backend ? [{ address: BACKEND }] : [],
      },
    ],
    metrics: { listen: '127.0.0.1:9477' },
    control: { socket: wire.playground.path('control.sock') },
    log: { level: 'info', format: 'json' },
    ...parts,
  };
}

export interface LogLine {
  level: string;
  time: number;
  msg: string;
  [field: string]: unknown;
}

export interface StartOptions {
  /** A command in front of the program, for example prlimit or setpriv. */
  prefix?: string[];
  /** Tells daemons of one test apart. */
  name?: string;
  /** Options of Node, for the daemon and the commands of `cli`. */
  nodeOptions?: string[];
}

/** One `sluice run`. */
export class TestDaemon {
  readonly log: LogLine[] = [];
  /** Lines of stderr that are not the log's: what it says when it does not start. */
  readonly said: string[] = [];
  /** Monotonic ms of the moment it was started. */
  readonly startedMs = performance.now();
  /** How long its start took, ms; 0 until `ready()`. */
  startMs = 0;
  /** What Node is given to run sluice. */
  private readonly main: string[];
  private readonly program: ChildProgram;

  private constructor(
    readonly wire: Wire,
    readonly configPath: string,
    readonly socket: string,
    { prefix = [], nodeOptions = [] }: StartOptions,
  ) {
    this.main = [...nodeOptions, compiledProgram('cli/main')];
    const [command, ...args] = [...prefix, process.execPath, ...this.main, 'run', '-c', configPath];
    this.program = wire.playground.start(wire.node, command, args, { label: 'sluice run' });
    this.program.on('errorLine', (line) => {
      const object = parseLine(line);
      if (object) this.log.push(object as LogLine);
      else this.said.push(line);
    });
  }

  /** Writes the config and starts; does not wait. */
  static spawn(wire: Wire, config: ConfigDocument | string, options: StartOptions = {}): TestDaemon {
    const path = wire.playground.path(`${options.name ?? 'sluice'}.yaml`);
    const text = typeof config === 'string' ? config : stringify(config, { aliasDuplicateObjects: false });
    writeFileSync(path, text);
    const socket =
      typeof config === 'string' ? wire.playground.path('control.sock') : (config.control as { socket: string }).socket;
    return new TestDaemon(wire, path, socket, options);
  }

  /** Starts and waits until it is ready. */
  static async start(wire: Wire, config: ConfigDocument, options: StartOptions = {}): Promise<TestDaemon> {
    const daemon = TestDaemon.spawn(wire, config, options);
    await daemon.ready();
    return daemon;
  }

  /** Starts what must not start, and waits for its end. */
  static async fails(
    wire: Wire,
    config: ConfigDocument | string,
    options: StartOptions = {},
  ): Promise<{ code: number | null; said: string }> {
    const daemon = TestDaemon.spawn(wire, config, options);
    const exit = await daemon.ended;
    return { code: exit.code, said: daemon.said.join('\n') };
  }

  get pid(): number {
    return this.program.pid!;
  }

  get running(): boolean {
    return this.program.running;
  }

  get ended(): Promise<ProcessExit> {
    return this.program.ended;
  }

  configure(config: ConfigDocument | string): void {
    writeFileSync(
      this.configPath,
      typeof config === 'string' ? config : stringify(config, { aliasDuplicateObjects: false }),
    );
  }

  status(): Promise<Status> {
    return callControl(this.socket, 'status', {}, 10_000);
  }

  reload(): Promise<ReloadResult> {
    return callControl(this.socket, 'reload', {}, 30_000);
  }

  setBackend(change: BackendChange, service = 'udp', backend = BACKEND) {
    return callControl(this.socket, 'backend.set', { service, backend, ...change }, 10_000);
  }

  /** Resolves once ready with all next hops known. Throws with its log when it ends or takes longer than 20 s. */
  async ready(): Promise<Status> {
    const ready = await this.until((status) => {
      const backends = status.services.flatMap((service) => service.backends);
      return status.ready && backends.every((backend) => backend.nextHop !== null);
    }, 'it is ready');
    this.startMs ||= performance.now() - this.startedMs;
    return ready;
  }

  /** 2 s; on a machine that is slow at the moment, as much more as the start of this daemon took. */
  get soonMs(): number {
    return 2000 * Math.max(1, this.startMs / 700);
  }

  /** Polls the status until `wanted` holds. */
  async until(wanted: (status: Status) => boolean, what: string, timeoutMs = 20_000): Promise<Status> {
    const deadline = performance.now() + timeoutMs;
    let last: Status | undefined;
    for (;;) {
      if (!this.running) throw new Error(`sluice ended before ${what}:\n${this.tail()}`);
      try {
        last = await this.status();
        if (wanted(last)) return last;
      } catch (error) {
        if (!(error instanceof SluiceError) || error.code !== 'SLUICE_CONTROL') throw error;
      }
      if (performance.now() > deadline) {
        throw new Error(`not within ${timeoutMs} ms: ${what}\n${JSON.stringify(last, null, 1)}\n${this.tail()}`);
      }
      await pause(20);
    }
  }

  /** The log lines with this message. */
  logged(message: string): LogLine[] {
    return this.log.filter((line) => line.msg === message);
  }

  tail(): string {
    return [...this.log.slice(-15).map((line) => JSON.stringify(line)), ...this.said.slice(-10)].join('\n');
  }

  signal(name: NodeJS.Signals): void {
    this.program.kill(name);
  }

  /** SIGTERM, and its orderly end. */
  async stop(): Promise<ProcessExit> {
    return this.program.stop(15_000);
  }

  async killHard(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended;
  }

  /** A page of its HTTP server, asked inside the namespace. */
  metrics(path = '/metrics'): { status: number; body: string; ms: number } {
    const begin = performance.now();
    const text = this.wire.node.exec('curl', '-s', '-m', '10', '-w', '\n%{http_code}', `http://127.0.0.1:9477${path}`);
    const end = text.lastIndexOf('\n');
    return { status: Number(text.slice(end + 1)), body: text.slice(0, end), ms: performance.now() - begin };
  }

  /** The command line, as an operator in another terminal. */
  cli(...args: string[]): { code: number | null; stdout: string; stderr: string } {
    const result = spawnSync(process.execPath, [...this.main, ...args, '--socket', this.socket], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    return { code: result.status, stdout: result.stdout, stderr: result.stderr };
  }
}

/** Value of a metric by its whole name with labels. */
export function metric(body: string, name: string): number {
  const line = body.split('\n').find((text) => text.startsWith(`${name} `));
  if (!line) throw new Error(`no metric ${name}`);
  return Number(line.slice(name.length + 1));
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export function interfaceOf(status: Status, name = 'in0'): StatusInterface {
  return status.interfaces.find((entry) => entry.name === name)!;
}

/** Packets that user space or the kernel lost, by the status's own account. */
export function lost(status: Status): number {
  return status.workers.reduce((sum, worker) => sum + worker.kernelLost, 0);
}

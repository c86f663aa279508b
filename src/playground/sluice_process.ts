/** A sluice of a playground: started on its host as a user would, asked over its control socket, ended as scenes and tests demand. */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { callControl } from '../control/api/client.js';
import type { BackendChange, RuleListing, Status } from '../control/api/contract.js';
import { SluiceError } from '../errors.js';
import { cpuTimeNs } from './cpu_time.js';
import { HOST_INTERFACE, type Host } from './hosts.js';
import type { Playground } from './netns.js';
import { compiledProgram, describeExit, type ChildProgram, type ProcessExit } from './process.js';

const ASK_TIMEOUT_MS = 5000;

/** Lines of its log that go into an error message. */
const QUOTED_LINES = 12;

export interface SluiceProcessOptions {
  /** Goes on when this process ends (`Playground.keep`). */
  independent?: boolean;
}

/** XDP program of an interface as `ip` shows it. */
interface LinkWithXdp {
  xdp?: { mode: number; prog?: { id: number; name?: string } };
}

export class SluiceProcess {
  readonly configPath: string;
  readonly controlSocket: string;
  readonly logPath: string;
  private program: ChildProgram | undefined;

  /** `files`: what its files in the playground's directory are called. Its configuration has to name `controlSocket`. */
  constructor(
    private readonly playground: Playground,
    readonly host: Host,
    files: { config: string; control: string; log: string },
    private readonly options: SluiceProcessOptions = {},
  ) {
    this.configPath = playground.path(files.config);
    this.controlSocket = playground.path(files.control);
    this.logPath = playground.path(files.log);
  }

  /** Writes the configuration file; takes effect with `spawn` or `reload`. */
  writeConfig(text: string): void {
    writeFileSync(this.configPath, text);
  }

  get running(): boolean {
    return this.program?.running ?? false;
  }

  /** Starts the process; does not wait until it serves. Its log is appended to `logPath`. */
  spawn(): void {
    if (this.running) throw new SluiceError('SLUICE_STATE', `the sluice on ${this.host.name} runs already`);
    const log = openSync(this.logPath, 'a', 0o600);
    this.program = this.playground.start(
      this.host.namespace,
      process.execPath,
      [compiledProgram('cli/main'), 'run', '--config', this.configPath],
      { label: `sluice run on ${this.host.name}`, stderr: log, independent: this.options.independent },
    );
    closeSync(log);
  }

  /** Resolves when it is ready. Throws SLUICE_STATE with the end of its log when it ends or is not within `timeoutMs`. */
  async ready(timeoutMs = 15_000): Promise<Status> {
    const deadline = performance.now() + timeoutMs;
    let missing = 'its control socket does not answer';
    while (performance.now() < deadline) {
      if (!this.running) throw this.failure('sluice ended');
      try {
        const status = await this.status();
        if (status.ready && served(status)) return status;
        missing = status.missing.join('; ') || 'backends without a next hop';
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw this.failure(`sluice was not ready within ${timeoutMs} ms (${missing})`);
  }

  status(): Promise<Status> {
    return callControl(this.controlSocket, 'status', {}, ASK_TIMEOUT_MS);
  }

  rules(): Promise<RuleListing> {
    return callControl(this.controlSocket, 'rules.list', {}, ASK_TIMEOUT_MS);
  }

  /** CPU time of the process, ns (cpu_time.ts). Throws SLUICE_STATE when it does not run. */
  cpuNs(): number {
    const pid = this.program?.pid;
    if (!this.running || pid === undefined)
      throw new SluiceError('SLUICE_STATE', `no sluice runs on ${this.host.name}`);
    return cpuTimeNs(pid);
  }

  /** Applies the configuration file. Throws SLUICE_STATE with the problems when it is refused. */
  async reload(): Promise<string[]> {
    const result = await callControl(this.controlSocket, 'reload', {}, ASK_TIMEOUT_MS);
    if (result.applied) return result.changes;
    const problems = result.problems.map((problem) => `${problem.path}: ${problem.message}`);
    throw new SluiceError('SLUICE_STATE', `the reload was refused: ${problems.join('; ')}`);
  }

  async setBackend(service: string, backend: string, change: BackendChange): Promise<void> {
    await callControl(this.controlSocket, 'backend.set', { service, backend, ...change }, ASK_TIMEOUT_MS);
  }

  /** `kill -9`: no chance to clean up anything. Resolves when the process is gone. */
  async killHard(): Promise<ProcessExit | undefined> {
    this.program?.kill('SIGKILL');
    return this.program?.ended;
  }

  /** SIGTERM, and the time to drain. */
  async stop(): Promise<ProcessExit | undefined> {
    return this.program?.stop(5000);
  }

  /** Id of the XDP program on its host's interface, from the kernel; null when there is none. */
  attachedProgram(): number | null {
    const [link] = this.host.namespace.query<LinkWithXdp[]>('link', 'show', HOST_INTERFACE);
    return link?.xdp?.prog?.id ?? null;
  }

  private failure(what: string): SluiceError {
    let log: string;
    try {
      log = readFileSync(this.logPath, 'utf8').trimEnd().split('\n').slice(-QUOTED_LINES).join('\n');
    } catch {
      log = '(it left no log)';
    }
    const exit = this.running ? '' : ` (${describeExit(this.program?.lastExit)})`;
    return new SluiceError('SLUICE_STATE', `${what}${exit}; the end of its log:\n${log}`);
  }
}

/** Every backend that takes new flows has a next hop: until then packets to it are dropped. */
function served(status: Status): boolean {
  return status.services.every((service) =>
    service.backends.every((backend) => backend.state !== 'active' || backend.nextHop !== null),
  );
}

import { SluiceError } from '../../errors.js';
import type { Config, Prefix } from '../../shared/config.js';
import type { Tables } from '../../shared/layout.js';
import type {
  BackendChange,
  BackendSetResult,
  ControlTarget,
  ReloadResult,
  Status,
  VersionInfo,
} from '../api/contract.js';
import { CONTROL_PROTOCOL } from '../api/contract.js';
import { resolveBackend } from '../api/resolve.js';
import { buildStatus } from '../api/status.js';
import type { ReloadView, RuntimeView } from '../api/view.js';
import { ConfigError, assertLive, diffConfig, loadConfig, type ConfigProblem } from '../config/index.js';
import type { Log } from '../log.js';
import { CounterBook } from '../metrics/book.js';
import { NextHopResolver } from '../next_hops.js';
import { Publisher, type BackendOverride } from '../publish.js';
import { Registry, backendKey } from '../registry.js';
import { VERSION } from '../version.js';
import { Fleet } from './fleet.js';
import { moduleUrl } from './module_url.js';
import { runtimeView } from './runtime_view.js';
import { errorText } from './text.js';

/** How long a start or a reload waits for the hardware addresses of its backends before it goes on without. */
const RESOLVE_MS = 2000;

/**
 * The running daemon: one configuration, the tables made from it, the interfaces and workers that serve it. Every change
 * (reload, a backend's state, a neighbour's new address) goes through one queue, is built whole, and is published under a new
 * generation or not at all.
 */
export class Manager implements ControlTarget {
  private readonly counters = new CounterBook();
  private readonly publisher: Publisher;
  private readonly resolver: NextHopResolver;
  private readonly startedAtMs = Date.now();
  private readonly overrides = new Map<string, BackendOverride>();
  private lastReload: ReloadView = { success: true, atMs: Date.now(), error: '' };
  private view: RuntimeView | null = null;
  private changes: Promise<unknown> = Promise.resolve();
  private fleet!: Fleet;
  private stopped = false;

  private constructor(
    private config: Config,
    private readonly log: Log,
  ) {
    this.publisher = new Publisher({
      registry: new Registry({ now: () => performance.now() }),
      resolveModule: moduleUrl,
    });
    this.resolver = new NextHopResolver();
  }

  /** Starts everything, or leaves nothing behind and throws. */
  static async start(config: Config, log: Log): Promise<Manager> {
    const manager = new Manager(config, log);
    try {
      await manager.bringUp();
    } catch (error) {
      await manager.stop();
      throw error;
    }
    return manager;
  }

  private async bringUp(): Promise<void> {
    this.fleet = new Fleet(this.config, this.counters, this.log, () => this.tables, vipsOf(this.config));
    await this.fleet.attach();
    await this.resolve(this.config);
    this.build(this.config);
    await this.fleet.start();
    this.resolver.on('change', () => void this.serialize(() => this.neighboursChanged()));
    this.resolver.on('problem', (error) => this.log.limited('next-hops', 1).warn('next hops cannot be read', { err: error }));
  }

  private get tables(): Tables {
    return this.publisher.tables!;
  }

  /** One change at a time, in order. */
  private serialize<T>(change: () => Promise<T>): Promise<T> {
    const next = this.changes.then(change);
    this.changes = next.catch(() => undefined);
    return next;
  }

  /** Looks up the ways to all backends. A backend without a route is a mistake in the config: throws. */
  private async resolve(config: Config): Promise<void> {
    const addresses = config.services.flatMap((service) => service.backends.map((backend) => backend.address));
    this.resolver.setAddresses(addresses);
    await this.resolver.settled(RESOLVE_MS);
    const problems: ConfigProblem[] = [];
    config.services.forEach((service, s) => {
      service.backends.forEach(({ address }, b) => {
        const hop = this.resolver.hops.get(address.text);
        if (!hop || hop.interface !== '') return;
        problems.push({
          file: config.path,
          line: 0,
          column: 0,
          path: `services[${s}].backends[${b}].address`,
          message: `backend ${address.text} of service ${service.name} has no route: ${hop.error ?? 'unreachable'}`,
          remedy: `Add one: ip route add ${address.text} via GATEWAY dev INTERFACE`,
        });
      });
    });
    if (problems.length > 0) throw new ConfigError(problems);
  }

  private build(config: Config): Tables {
    const tables = this.publisher.build(config, {
      nextHops: this.resolver.hops,
      overrides: this.overrides,
      ports: this.fleet.interfaces.map((entry) => ({
        name: entry.name,
        index: entry.index,
        repairChecksum: entry.repairChecksums,
      })),
    });
    for (const warning of this.publisher.warnings) this.log.limited(`publish ${warning}`, 0.1).warn(warning);
    this.view = null;
    this.counters.assign(this.runtime());
    return tables;
  }

  private async neighboursChanged(): Promise<void> {
    if (this.stopped) return;
    const refusals = await this.fleet.publish(this.build(this.config));
    for (const { queue, fault } of refusals) this.log.error('tables refused', { queue, message: fault.message });
  }

  version(): VersionInfo {
    return { version: VERSION, protocol: CONTROL_PROTOCOL, node: process.version, pid: process.pid };
  }

  status(): Status {
    return buildStatus(this.runtime());
  }

  /** What the surfaces read from; counters and kernel state by reference. */
  runtime(): RuntimeView {
    this.view ??= runtimeView({
      config: this.config,
      numbers: this.publisher.numbers,
      overrides: this.overrides,
      nextHops: this.resolver.hops,
      generation: this.publisher.tables?.generation ?? 0,
      startedAtMs: this.startedAtMs,
      counters: this.counters,
      fleet: this.fleet,
      lastReload: () => this.lastReload,
    });
    return this.view;
  }

  /** Reads the config file again and applies it whole, or says why not and goes on as before. */
  reload(): Promise<ReloadResult> {
    return this.serialize(async () => {
      try {
        const result = await this.applyReload(loadConfig(this.config.path));
        this.lastReload = { success: true, atMs: Date.now(), error: '' };
        this.log.info('configuration reloaded', { generation: result.generation, changes: result.changes });
        return result;
      } catch (error) {
        this.lastReload = { success: false, atMs: Date.now(), error: errorText(error).split('\n')[0] };
        this.log.error('configuration not reloaded; the former one goes on', { err: error });
        return {
          applied: false,
          generation: this.tables.generation,
          changes: [],
          problems: problemsOf(error, this.config.path),
        };
      }
    });
  }

  private async applyReload(next: Config): Promise<ReloadResult> {
    const diff = diffConfig(this.config, next);
    assertLive(diff);
    const former = this.config;
    try {
      await this.resolve(next);
      this.fleet.addVips(vipsOf(next));
      await this.publishOrThrow(next);
    } catch (error) {
      await this.goBack(former);
      throw error;
    }
    this.config = next;
    this.view = null;
    this.forgetOverrides(next);
    this.fleet.setVips(vipsOf(next));
    for (const [index, entry] of this.fleet.interfaces.entries()) entry.replaceProgram(next.interfaces[index]);
    return { applied: true, generation: this.tables.generation, changes: [...diff.live], problems: [] };
  }

  private async publishOrThrow(config: Config): Promise<void> {
    const refusals = await this.fleet.publish(this.build(config));
    if (refusals.length === 0) return;
    const { queue, fault } = refusals[0];
    throw new SluiceError('SLUICE_CONFIG', `worker ${queue} refuses it: ${fault.message}`, fault.remedy);
  }

  /** After a failed reload: next hops, destinations and, where a worker had adopted the new tables, tables of the former config. */
  private async goBack(former: Config): Promise<void> {
    try {
      await this.resolve(former);
      await this.fleet.publish(this.build(former));
      this.fleet.setVips(vipsOf(former));
    } catch (error) {
      this.log.error('going back to the former configuration failed', { err: error });
    }
  }

  /** A reload is the file's word again, but what an operator said of a backend holds until the file says something new of it. */
  private forgetOverrides(config: Config): void {
    const keys = new Set(config.services.flatMap((s) => s.backends.map((b) => backendKey(s.name, b.address.text))));
    for (const key of this.overrides.keys()) if (!keys.has(key)) this.overrides.delete(key);
  }

  setBackend(service: string, backend: string, change: BackendChange): Promise<BackendSetResult> {
    return this.serialize(async () => {
      const found = resolveBackend(this.runtime().services, service, backend);
      const key = backendKey(found.service.name, found.backend.address);
      const { weight, state } = found.backend as { weight: number; state: BackendSetResult['before']['state'] };
      const former = this.overrides.get(key);
      this.overrides.set(key, { ...former, ...change });
      try {
        await this.publishOrThrow(this.config);
      } catch (error) {
        if (former) this.overrides.set(key, former);
        else this.overrides.delete(key);
        await this.goBack(this.config);
        throw error;
      }
      return {
        service: found.service.name,
        backend: found.backend.address,
        before: { weight, state },
        after: { weight: change.weight ?? weight, state: change.state ?? state },
        generation: this.tables.generation,
      };
    });
  }

  /** Replaces the redirect program by a freshly loaded one under traffic; see ManagedInterface.replaceProgram. */
  get managedFleet(): Fleet {
    return this.fleet;
  }

  /** Detaches, drains, closes. Idempotent. */
  async stop(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    this.resolver.close();
    if (this.fleet) await this.fleet.stop();
  }
}

/** The destinations that come to user space. */
function vipsOf(config: Config): Prefix[] {
  return config.services.map((service) => service.vip);
}

function problemsOf(error: unknown, file: string): ConfigProblem[] {
  if (error instanceof ConfigError) return [...error.problems];
  const remedy = error instanceof SluiceError ? error.remedy : '';
  const message = error instanceof Error ? error.message : String(error);
  return [{ file, line: 0, column: 0, path: '', message, remedy }];
}

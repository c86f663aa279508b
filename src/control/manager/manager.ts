import { isDeepStrictEqual } from 'node:util';
import { SluiceError } from '../../errors.js';
import { native } from '../../native.js';
import type { Config } from '../../shared/config.js';
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
import type { ControlStream } from '../api/contract_capture.js';
import { resolveBackend } from '../api/resolve.js';
import { buildStatus } from '../api/status.js';
import type { ReloadView, RuntimeView } from '../api/view.js';
import { ConfigError, assertLive, diffConfig, loadConfig } from '../config/index.js';
import { HealthTunnel } from '../health/tunnel/health_tunnel.js';
import { abridged, type Log } from '../log.js';
import { CounterBook } from '../metrics/book.js';
import { NextHopResolver } from '../next_hops.js';
import type { NextHop } from '../routes.js';
import { Publisher } from '../publish.js';
import { BackendStates, overrideOf } from './backend_states.js';
import { Registry, backendKey } from '../registry.js';
import { VERSION } from '../version.js';
import { problemsOf, vipsOf } from './config_parts.js';
import { Fleet, type OffloadOrder } from './fleet.js';
import { HealthRoutes } from './health_route.js';
import type { ChangeHost } from './change_host.js';
import { RuleControl } from './rule_control.js';
import { SetControl } from './set_control.js';
import { moduleUrl } from './module_url.js';
import { runtimeView } from './runtime_view.js';
import { errorText } from './text.js';
import { trialOfFilters } from './trial.js';
import { unreachable } from './unreachable.js';

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
  private readonly backends: BackendStates;
  private readonly healthRoutes = new HealthRoutes();
  readonly rules: RuleControl;
  readonly sets: SetControl;
  private lastReload: ReloadView = { success: true, atMs: Date.now(), error: '' };
  private view: RuntimeView | null = null;
  private changes: Promise<unknown> = Promise.resolve();
  private fleet!: Fleet;
  private stopped = false;
  /** Addresses of backends that the resolver watches. */
  private watched = '';
  /** URLs of filter modules by path, as of the configuration in force. */
  private modules = new Map<string, string>();
  /** Next hops in the tables built last. */
  private builtHops: ReadonlyMap<string, NextHop> | null = null;

  /** The configuration of the tables built last: what was changed of its rules at run time is in it. */
  private built: Config;

  private constructor(
    private config: Config,
    private readonly log: Log,
  ) {
    this.built = config;
    const host: ChangeHost = {
      log,
      serialize: (change) => this.serialize(change),
      config: () => this.config,
      generation: () => this.tables.generation,
      publish: () => this.publishOrThrow(this.build(this.config)),
      goBack: () => this.goBack(this.config),
    };
    this.rules = new RuleControl({
      ...host,
      counter: (rule, counter) => this.counters.rule(rule, counter),
      offload: () => this.fleet.offload.status,
      placement: (rule) => this.fleet.offload.placement(this.publisher.numbers.rules.get(rule)?.number ?? -1),
      kernelCounter: (rule, counter) => this.counters.kernelRule(rule, counter),
    });
    this.sets = new SetControl({
      ...host,
      workers: () => this.fleet?.workers ?? [],
      nowMs: () => native().nowMs(),
      kernelMatches: (set) => this.fleet.offload.setMatches(set),
      kernelPlacement: (set) => this.fleet.offload.setPlacement(set),
    });
    this.publisher = new Publisher({
      registry: new Registry({ now: () => performance.now() }),
      resolveModule: (path) => this.moduleUrl(path),
    });
    this.resolver = new NextHopResolver();
    this.backends = new BackendStates({
      log,
      tunnel: this.tunnel(),
      onChange: () => this.serialize(() => this.backendsChanged()),
    });
  }

  /** Carries health checks to backends as the data path carries packets. Touches the host only when a service asks for it. */
  private tunnel(): HealthTunnel {
    const tunnel = new HealthTunnel({ route: (key) => this.healthRoutes.find(key, this.resolver.hops) });
    tunnel.on('problem', (error) =>
      this.log.limited('health-tunnel', 0.1).warn('health checks through the tunnel cannot be made', { err: error }),
    );
    return tunnel;
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
    this.fleet = new Fleet(this.config, this.counters, this.log, vipsOf(this.config));
    this.setAddresses(this.config);
    await this.fleet.attach();
    await this.resolve(this.config);
    this.log.debug('next hops read', { backends: this.resolver.hops.size });
    this.sets.prepare(this.config);
    this.build(this.config);
    this.log.debug('tables built', { generation: this.tables.generation });
    await this.fleet.start(this.tables, this.offload);
    this.log.debug('workers serve', { workers: this.fleet.workers.length });
    this.resolver.on('change', () => void this.serialize(() => this.neighboursChanged()));
    this.resolver.on('problem', (error) =>
      this.log.limited('next-hops', 1).warn('next hops cannot be read', { err: error }),
    );
    this.configureBackends(this.config);
    this.rules.adopt(this.config);
    this.sets.adopt();
    // What changed while workers started.
    void this.serialize(() => this.neighboursChanged());
  }

  /** A module's file is looked at when the configuration is read, not whenever tables are built: an edit waits for a reload. */
  private moduleUrl(path: string): string {
    let url = this.modules.get(path);
    if (url === undefined) this.modules.set(path, (url = moduleUrl(path)));
    return url;
  }

  private get tables(): Tables {
    return this.publisher.tables!;
  }

  /** What the tables built last want of rules in the kernel. */
  private get offload(): OffloadOrder {
    return {
      config: this.built,
      nameOf: (id) => this.runtime().rules.find((rule) => rule.id === id)?.name ?? '',
      sets: new Map(this.sets.sets()),
    };
  }

  /** One change at a time, in order. */
  private serialize<T>(change: () => Promise<T>): Promise<T> {
    const next = this.changes.then(change);
    this.changes = next.catch(() => undefined);
    return next;
  }

  /** Has the ways to all backends looked up. Those that are watched already are up to date: nothing is asked. */
  private setAddresses(config: Config): void {
    const addresses = config.services.flatMap((service) => service.backends.map((backend) => backend.address));
    const texts = [...new Set(addresses.map(({ text }) => text))].sort().join(' ');
    if (texts === this.watched) return;
    this.watched = texts;
    this.resolver.setAddresses(addresses);
  }

  private async lookUp(config: Config): Promise<void> {
    this.setAddresses(config);
    await this.resolver.settled(RESOLVE_MS);
  }

  /** Looks up the ways to all backends. A backend without a route is a mistake in the config: throws. */
  private async resolve(config: Config): Promise<void> {
    await this.lookUp(config);
    const problems = unreachable(config, this.resolver.hops, this.fleet.interfaces);
    if (problems.length > 0) throw new ConfigError(problems);
  }

  /** From now on these backends are checked, and what was said of others is forgotten. */
  private configureBackends(config: Config): void {
    this.healthRoutes.configure(config);
    this.backends.configure(config);
  }

  /** Tables of a configuration, with what operators changed of its rules. */
  private build(asWritten: Config): Tables {
    const config = this.rules.effective(asWritten);
    const nextHops = this.resolver.hops;
    const down = this.backends.down(config);
    const tables = this.publisher.build(config, {
      nextHops,
      overrides: this.backends.overrides,
      down,
      ports: this.fleet.interfaces.map((entry) => ({
        name: entry.name,
        index: entry.index,
        repairChecksum: entry.repairChecksums(config.interfaces[entry.index].checksum),
      })),
      workers: this.fleet.queues,
      sets: this.sets,
    });
    this.builtHops = nextHops;
    this.built = config;
    this.backends.built(this.publisher.plans, down);
    for (const warning of this.publisher.warnings) this.log.limited(`publish ${warning}`, 0.1).warn(warning);
    this.view = null;
    this.counters.assign(this.runtime());
    return tables;
  }

  private async neighboursChanged(): Promise<void> {
    if (this.stopped || this.resolver.hops === this.builtHops) return;
    await this.publishAgain();
  }

  private async backendsChanged(): Promise<void> {
    if (!this.stopped) await this.publishAgain();
  }

  /** Tables of the configuration in force, with what is known now. */
  private async publishAgain(): Promise<void> {
    const refusals = await this.fleet.publish(this.build(this.config), this.offload);
    for (const { queue, fault } of refusals) this.log.error('tables refused', { queue, message: fault.message });
  }

  version(): VersionInfo {
    return { version: VERSION, protocol: CONTROL_PROTOCOL, node: process.version, pid: process.pid };
  }

  status(): Status {
    return buildStatus(this.runtime());
  }

  capture(params: Record<string, unknown>): ControlStream {
    return this.fleet.captures.open(params, () => this.runtime());
  }

  /** What the surfaces read from; counters and kernel state by reference. */
  runtime(): RuntimeView {
    this.view ??= runtimeView({
      config: this.built,
      numbers: this.publisher.numbers,
      overrides: this.backends.overrides,
      standing: (key) => this.backends.standing(key),
      health: (key) => this.backends.health(key),
      nextHops: this.resolver.hops,
      generation: this.publisher.tables?.generation ?? 0,
      startedAtMs: this.startedAtMs,
      counters: this.counters,
      fleet: this.fleet,
      lastReload: () => this.lastReload,
      rulesExpired: () => this.rules.expired,
      sets: () => this.sets.list().sets,
    });
    return this.view;
  }

  /** Reads the config file again and applies it whole, or says why not and goes on as before. */
  reload(): Promise<ReloadResult> {
    return this.serialize(async () => {
      try {
        const result = await this.applyReload(loadConfig(this.config.path));
        this.lastReload = { success: true, atMs: Date.now(), error: '' };
        const { generation, changes } = result;
        this.log.info('configuration reloaded', { generation, changes: abridged(changes) });
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
    const formerModules = this.modules;
    this.modules = new Map();
    try {
      await this.resolve(next);
      this.sets.prepare(next);
      const tables = this.build(next);
      if (
        !isDeepStrictEqual([...formerModules], [...this.modules]) ||
        !isDeepStrictEqual(former.filters, next.filters)
      ) {
        await trialOfFilters(tables.filters);
      }
      this.fleet.addVips(vipsOf(next));
      await this.publishOrThrow(tables);
      this.replacePrograms(next);
    } catch (error) {
      this.modules = formerModules;
      this.sets.discard();
      await this.goBack(former);
      throw error;
    }
    this.config = next;
    this.rules.adopt(next);
    this.sets.adopt();
    this.view = null;
    this.configureBackends(next);
    this.fleet.setVips(vipsOf(next));
    this.log.setLevel(next.log.level);
    return { applied: true, generation: this.tables.generation, changes: [...diff.live], problems: [] };
  }

  /** The settings that XDP itself has to know; see ManagedInterface.replaceProgram. */
  private replacePrograms(config: Config): void {
    for (const entry of this.fleet.interfaces) entry.replaceProgram(config.interfaces[entry.index]);
  }

  private async publishOrThrow(tables: Tables): Promise<void> {
    const refusals = await this.fleet.publish(tables, this.offload);
    if (refusals.length === 0) return;
    const { queue, fault } = refusals[0];
    throw new SluiceError('SLUICE_CONFIG', `worker ${queue} refuses it: ${fault.message}`, fault.remedy);
  }

  /** After a failed reload: next hops, destinations and, where a worker had adopted the new tables, tables of the former config. */
  private async goBack(former: Config): Promise<void> {
    try {
      await this.lookUp(former);
      this.replacePrograms(former);
      await this.fleet.publish(this.build(former), this.offload);
      this.fleet.setVips(vipsOf(former));
    } catch (error) {
      this.log.error('going back to the former configuration failed', { err: error });
    }
  }

  setBackend(service: string, backend: string, change: BackendChange): Promise<BackendSetResult> {
    return this.serialize(async () => {
      const found = resolveBackend(this.runtime().services, service, backend);
      const key = backendKey(found.service.name, found.backend.address);
      const { weight, state } = found.backend as { weight: number; state: BackendSetResult['before']['state'] };
      const overrides = this.backends.overrides;
      const former = overrides.get(key);
      overrides.set(key, overrideOf(former, change));
      try {
        await this.publishOrThrow(this.build(this.config));
      } catch (error) {
        if (former) overrides.set(key, former);
        else overrides.delete(key);
        await this.goBack(this.config);
        throw error;
      }
      this.configureBackends(this.config);
      return {
        service: found.service.name,
        backend: found.backend.address,
        before: { weight, state },
        after: { weight: change.weight ?? weight, state: change.state ?? state },
        generation: this.tables.generation,
      };
    });
  }

  /** Detaches, drains, closes. Idempotent. */
  async stop(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    this.resolver.close();
    this.rules.close();
    this.sets.close();
    await this.backends.close();
    if (this.fleet) await this.fleet.stop();
  }
}

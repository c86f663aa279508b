/**
 * What is said of backends beside the configuration: by operators, by health checks, by time. Says when tables have to be
 * built again for it, and what from.
 */
import type { Config } from '../../shared/config.js';
import type { BackendHealthView } from '../api/view.js';
import { BackendBook, DRAIN_TIMEOUT, type BackendStanding } from '../backend_book.js';
import { applyHealth } from '../health/all_down.js';
import { healthTargets, type BackendHealth } from '../health/backend_health.js';
import { HealthMonitor } from '../health/monitor.js';
import type { TunnelAccess } from '../health/tunnel/access.js';
import type { Log } from '../log.js';
import { backendKey } from '../registry.js';
import type { BackendChange } from '../api/contract.js';
import type { BackendOverride, ServicePlan } from '../service_plan.js';

/** Longest timer of Node, ms. */
const MAX_TIMER_MS = 0x7fffffff;
/** Changes of health are gathered for this long: backends that go down together change the tables once. */
const GATHER_MS = 20;
/** Where tables take long to build, health has them built for at most a fifth of the time: so many times as long is waited. */
const REST = 4;
const MAX_REST_MS = 1000;

export interface BackendStatesOptions {
  log: Log;
  /** Carries health checks through the tunnel; null: none may ask for it. */
  tunnel: TunnelAccess | null;
  /** The tables are to be built again: a backend's health changed, or its time to drain is over. */
  onChange: () => Promise<void>;
}

export class BackendStates {
  /** What operators say, by `backendKey`. */
  readonly overrides = new Map<string, BackendOverride>();
  private readonly book = new BackendBook();
  private readonly monitor: HealthMonitor;
  private drainTimer: NodeJS.Timeout | null = null;
  private gatherTimer: NodeJS.Timeout | null = null;
  private gatherMs = GATHER_MS;
  private building = false;
  /** Health changed since tables were thought about last. */
  private changed = false;
  private config: Config | null = null;
  /** What the tables were built from last. */
  private builtDown: ReadonlyMap<string, string> = new Map();
  private closed = false;

  constructor(private readonly options: BackendStatesOptions) {
    const { tunnel } = options;
    this.monitor = new HealthMonitor(tunnel === null ? {} : { tunnel });
    this.monitor.on('change', (health) => this.healthChanged(health));
  }

  /** Checks the backends of this configuration from now on, and forgets what was said of others. */
  configure(config: Config): void {
    this.config = config;
    const keys = new Set(config.services.flatMap((s) => s.backends.map((b) => backendKey(s.name, b.address.text))));
    for (const key of this.overrides.keys()) if (!keys.has(key)) this.overrides.delete(key);
    const inactive = (key: string): boolean => this.overrides.get(key)?.state === 'inactive';
    this.monitor.setTargets(healthTargets(config).filter(({ key }) => !inactive(key)));
  }

  /** Backends that health checks take out of service, by key, and why; after each service's policy for when all are down. */
  down(config: Config): Map<string, string> {
    const down = new Map<string, string>();
    for (const service of config.services) {
      if (service.health === null) continue;
      const judged: BackendHealth[] = [];
      for (const backend of service.backends) {
        const key = backendKey(service.name, backend.address.text);
        const override = this.overrides.get(key);
        const wanted = (override?.state ?? backend.state) === 'active' && (override?.weight ?? backend.weight) > 0;
        const health = this.monitor.get(key);
        if (wanted && health !== undefined) judged.push(health);
      }
      const { keys } = applyHealth(judged, service.health);
      for (const health of judged) if (!keys.has(health.key)) down.set(health.key, reasonOf(health));
    }
    return down;
  }

  /** Takes down what tables were built from, and waits for the next backend whose time to drain will be over. */
  built(plans: readonly ServicePlan[], down: ReadonlyMap<string, string>): void {
    this.builtDown = down;
    this.book.update(plans, this.overrides, down);
    this.arm();
  }

  standing(key: string): BackendStanding | undefined {
    return this.book.get(key);
  }

  health(key: string): BackendHealthView | null {
    const health = this.monitor.get(key);
    if (health === undefined) return null;
    const { up, lastError, lastLatencyMs, ok, failed, held } = health;
    const sinceMs = Date.now() - (performance.now() - health.sinceMs);
    return { up, sinceMs, lastError, latencyMs: Number.isNaN(lastLatencyMs) ? null : lastLatencyMs, ok, failed, held };
  }

  async close(): Promise<void> {
    this.closed = true;
    if (this.drainTimer !== null) clearTimeout(this.drainTimer);
    if (this.gatherTimer !== null) clearTimeout(this.gatherTimer);
    await this.monitor.close();
  }

  private healthChanged(health: BackendHealth): void {
    const { service, address, up, held, lastError } = health;
    const log = this.options.log.limited(`health ${health.key}`, 1);
    if (up === false) log.warn('backend is down', { service, backend: address, reason: lastError });
    else if (held) log.warn('backend is up, and held back: it changes too often', { service, backend: address });
    else log.info('backend is up', { service, backend: address });
    this.changed = true;
    this.gather();
  }

  private gather(): void {
    if (this.closed || this.building || this.gatherTimer !== null) return;
    this.gatherTimer = setTimeout(() => {
      this.gatherTimer = null;
      void this.changeTables();
    }, this.gatherMs);
  }

  /** Most changes change nothing: the first good result of a backend, which counts as up already, and those below a policy. */
  private async changeTables(): Promise<void> {
    this.changed = false;
    if (this.config === null || isSame(this.down(this.config), this.builtDown)) return;
    const startMs = performance.now();
    this.building = true;
    await this.options.onChange().finally(() => (this.building = false));
    this.gatherMs = Math.min(MAX_REST_MS, Math.max(GATHER_MS, REST * (performance.now() - startMs)));
    if (this.changed) this.gather();
  }

  private arm(): void {
    if (this.drainTimer !== null) clearTimeout(this.drainTimer);
    this.drainTimer = null;
    const at = this.book.nextDeadlineMs;
    if (this.closed || at === Infinity) return;
    this.drainTimer = setTimeout(() => this.endDrains(), Math.min(MAX_TIMER_MS, Math.max(0, at - Date.now())));
    this.drainTimer.unref();
  }

  private endDrains(): void {
    const overdue = this.book.overdue();
    for (const { id, service, address } of overdue) {
      this.overrides.set(id, { ...this.overrides.get(id), state: 'inactive', reason: DRAIN_TIMEOUT });
      this.options.log.info('backend has drained for as long as it may', { service, backend: address });
    }
    if (overdue.length > 0) void this.options.onChange();
    else this.arm();
  }
}

/** The same backends for the same reasons. */
function isSame(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  if (a.size !== b.size) return false;
  for (const [key, reason] of a) if (b.get(key) !== reason) return false;
  return true;
}

function reasonOf({ held, up, lastError }: BackendHealth): string {
  if (up !== false && held) return 'flaps';
  return lastError === '' ? 'down' : lastError;
}

/** A reason is for the state that it came with: a new state without one has none, the same state again keeps it. */
export function overrideOf(former: BackendOverride | undefined, change: BackendChange): BackendOverride {
  const next = { ...former, ...change };
  const isNewState = change.state !== undefined && change.state !== former?.state;
  if (isNewState && change.reason === undefined) delete next.reason;
  return next;
}

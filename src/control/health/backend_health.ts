/** What is checked, and what is known of it. */
import type { Address, Config, Prefix, ServiceConfig } from '../../shared/config.js';
import type { HealthConfig } from '../../shared/health_config.js';
import { backendKey } from '../registry.js';

export interface HealthTarget {
  /** `backendKey(service, address)`. */
  key: string;
  service: string;
  /** Of the backend. */
  address: Address;
  /** Of the service. */
  vip: Prefix;
  port: number;
  config: HealthConfig;
}

/** Times are of a monotonic clock, ms. */
export interface BackendHealth {
  key: string;
  service: string;
  /** Text of the backend's address. */
  address: string;
  /** What the checks say after rise and fall; null: not known yet, which counts as up. */
  up: boolean | null;
  /** Kept out of use by flap dampening, whatever `up` says. */
  held: boolean;
  /** When `up` last changed; before the first result, when checking began. */
  sinceMs: number;
  /** Why the last bad or skipped check was so; '' when there was none since the backend last came up. */
  lastError: string;
  /** How long the last good check took; NaN before the first. */
  lastLatencyMs: number;
  /** Results so far. `skipped` are those that say nothing of the backend: the fault was on this node. */
  ok: number;
  failed: number;
  skipped: number;
  /** Changes of `up` from true to false or back. */
  changes: number;
}

/** A backend whose state is `inactive` is not checked: nothing would come of it. */
export function healthTargets(config: Pick<Config, 'services'>): HealthTarget[] {
  return config.services.flatMap((service) => (service.health === null ? [] : targetsOf(service, service.health)));
}

function targetsOf({ name, vip, ports, backends }: ServiceConfig, config: HealthConfig): HealthTarget[] {
  // The configuration was refused when there is neither.
  const port = config.port ?? ports[0]?.first ?? 0;
  return backends
    .filter(({ state }) => state !== 'inactive')
    .map(({ address }) => ({ key: backendKey(name, address.text), service: name, address, vip, port, config }));
}

/** A service's backends with all said of them: by the config, by an operator, by health checks. */
import type { BackendConfig, BackendState, ServiceConfig } from '../shared/config.js';
import type { RingBackend } from './maglev_build.js';
import { backendKey } from './registry.js';

/** What an operator says of a backend, over what the config says. */
export interface BackendOverride {
  state?: BackendState;
  weight?: number;
  /** Why, in the operator's words. */
  reason?: string;
}

export interface PlannedBackend {
  /** Its name in registry, overrides and health checks. */
  id: string;
  backend: BackendConfig;
  state: BackendState;
  /** Also of one that takes no flows just now. */
  weight: number;
  ring: RingBackend;
}

/** A service's backends in the order of its run in the backend list. */
export interface ServicePlan {
  service: ServiceConfig;
  backends: PlannedBackend[];
}

/**
 * Backends sorted by address, so that two services (or two versions of one) with equal backends have equal rings. One that
 * health checks found down takes no new flows and keeps those it has, as if it were draining: when the check is wrong nothing
 * breaks, and when it is right its flows are lost either way.
 *
 * @param overrides by `backendKey`
 * @param down by `backendKey`: what health checks take out, and why
 */
export function planService(
  service: ServiceConfig,
  overrides: ReadonlyMap<string, BackendOverride>,
  down: ReadonlyMap<string, string>,
): ServicePlan {
  const backends = service.backends.map((backend) => {
    const id = backendKey(service.name, backend.address.text);
    const override = overrides.get(id);
    const wanted = override?.state ?? backend.state;
    const state = wanted === 'active' && down.has(id) ? 'draining' : wanted;
    const weight = override?.weight ?? backend.weight;
    return { id, backend, state, weight, ring: { key: backend.address.text, weight: state === 'active' ? weight : 0 } };
  });
  backends.sort((a, b) => (a.ring.key < b.ring.key ? -1 : a.ring.key > b.ring.key ? 1 : 0));
  return { service, backends };
}

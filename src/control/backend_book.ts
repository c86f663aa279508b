/** Since when each backend has the state that it has, and why: what an operator wants to know of one that is not active. */
import type { BackendState, ServiceConfig } from '../shared/config.js';
import type { BackendOverride, PlannedBackend, ServicePlan } from './service_plan.js';

export interface BackendStanding {
  state: BackendState;
  /** "config", what an operator gave as the reason, "health: …" or "drain timeout". */
  reason: string;
  /** Since when it has the state, Unix time, ms. Another reason for it changes this only when health checks had or have the say. */
  sinceMs: number;
}

/** A backend that has drained for as long as its service allows. */
export interface Overdue {
  id: string;
  service: string;
  address: string;
}

export const DRAIN_TIMEOUT = 'drain timeout';

export class BackendBook {
  readonly #now: () => number;
  #standings: ReadonlyMap<string, BackendStanding> = new Map();
  /** Draining backends of services with a limit: when it is reached. */
  #deadlines: readonly { atMs: number; backend: Overdue }[] = [];

  /** `now`: Unix time in ms. */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  get(id: string): BackendStanding | undefined {
    return this.#standings.get(id);
  }

  /** When the next draining backend is overdue, Unix time in ms; Infinity when none will be. */
  get nextDeadlineMs(): number {
    let next = Infinity;
    for (const { atMs } of this.#deadlines) next = Math.min(next, atMs);
    return next;
  }

  /** Takes down what tables were built from. A backend that kept its state, by will or by health, keeps its time. */
  update(
    plans: readonly ServicePlan[],
    overrides: ReadonlyMap<string, BackendOverride>,
    down: ReadonlyMap<string, string>,
  ): void {
    const nowMs = this.#now();
    const standings = new Map<string, BackendStanding>();
    const deadlines: { atMs: number; backend: Overdue }[] = [];
    for (const { service, backends } of plans) {
      for (const planned of backends) {
        const { id, state } = planned;
        const reason = reasonOf(planned, overrides.get(id), down.get(id));
        const before = this.#standings.get(id);
        // Words change, of health checks from one check to the next and of operators who ask again; the state's age is what counts.
        const same = before?.state === state && isHealth(before.reason) === isHealth(reason);
        const standing = { state, reason, sinceMs: same ? before.sinceMs : nowMs };
        standings.set(id, standing);
        const limitMs = service.drain.timeout * 1000;
        if (state === 'draining' && limitMs > 0 && drainsByWill(planned, overrides.get(id))) {
          deadlines.push({ atMs: standing.sinceMs + limitMs, backend: overdueOf(service, planned) });
        }
      }
    }
    this.#standings = standings;
    this.#deadlines = deadlines;
  }

  /** Backends whose time to drain is over. */
  overdue(): Overdue[] {
    const nowMs = this.#now();
    return this.#deadlines.filter(({ atMs }) => atMs <= nowMs).map(({ backend }) => backend);
  }
}

/** Whether somebody asked for it: one that health checks found down may come back, and is not to be cut off. */
function drainsByWill({ backend }: PlannedBackend, override: BackendOverride | undefined): boolean {
  return (override?.state ?? backend.state) === 'draining';
}

function reasonOf(
  { backend, state }: PlannedBackend,
  override: BackendOverride | undefined,
  down: string | undefined,
): string {
  const wanted = override?.state ?? backend.state;
  if (state !== wanted) return `health: ${down ?? 'down'}`;
  return override?.state === undefined ? 'config' : (override.reason ?? 'operator');
}

function isHealth(reason: string): boolean {
  return reason.startsWith('health:');
}

function overdueOf(service: ServiceConfig, { id, ring }: PlannedBackend): Overdue {
  return { id, service: service.name, address: ring.key };
}

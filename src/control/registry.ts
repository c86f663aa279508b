/**
 * Stable numbers for what the tables and counters index by number: services by name, backends by service and address,
 * rules by name. A thing keeps its number over reloads for as long as it is configured, so that flows, counters and
 * rings of a new generation still mean the same thing.
 *
 * A number that was freed rests for `reuseAfterMs`: flows may still point at it, and its owner may come back (it then gets the
 * same number and incarnation). After that it may go to another owner, under a higher incarnation. Nothing points at a rule's number
 * but tables and counters, so when no other is left it goes on sooner: as soon as no worker can have the tables from before.
 */
import { SluiceError } from '../errors.js';
import { MAX_BACKENDS, MAX_RULES, MAX_SERVICES } from '../shared/layout.js';

export interface Numbered {
  readonly number: number;
  /** From 1; counts up each time the number goes to another owner. */
  readonly incarnation: number;
}

export interface RegistryOptions {
  /** Monotonic clock, ms. */
  now: () => number;
  /** How long a freed number rests, ms. Default 10 minutes. */
  reuseAfterMs?: number;
  /** For tests. */
  limits?: { services: number; backends: number; rules: number };
}

/** How long a rule's number rests at least, ms: workers adopt new tables within one burst, and a change waits for them. */
const RULE_RESTS_MS = 2000;

export interface RegistryNames {
  services: readonly string[];
  /** `backendKey()` of each. */
  backends: readonly string[];
  rules: readonly string[];
}

/** Numbers of everything that is configured, by name. */
export interface Numbers {
  services: ReadonlyMap<string, Numbered>;
  backends: ReadonlyMap<string, Numbered>;
  rules: ReadonlyMap<string, Numbered>;
}

/** Name of a backend in the registry and in overrides. Unambiguous, because an address has no slash. */
export function backendKey(service: string, address: string): string {
  return `${service}/${address}`;
}

export class Registry {
  readonly #services: NumberPool;
  readonly #backends: NumberPool;
  readonly #rules: NumberPool;

  constructor({ now, reuseAfterMs = 600_000, limits }: RegistryOptions) {
    this.#services = new NumberPool('services', limits?.services ?? MAX_SERVICES, now, reuseAfterMs, reuseAfterMs);
    this.#backends = new NumberPool('backends', limits?.backends ?? MAX_BACKENDS, now, reuseAfterMs, reuseAfterMs);
    const least = Math.min(RULE_RESTS_MS, reuseAfterMs);
    this.#rules = new NumberPool('rules', limits?.rules ?? MAX_RULES, now, reuseAfterMs, least);
  }

  /**
   * Numbers for every name listed; those of names no longer listed become free. Nothing changes before `commit()`, and
   * a plan is good for as long as no other was committed after it was made.
   *
   * @throws SluiceError SLUICE_CONFIG when there are more names than numbers
   */
  plan(names: RegistryNames): { numbers: Numbers; commit(): void } {
    const services = this.#services.plan(names.services);
    const backends = this.#backends.plan(names.backends);
    const rules = this.#rules.plan(names.rules);
    return {
      numbers: { services: services.live, backends: backends.live, rules: rules.live },
      commit: () => {
        services.commit();
        backends.commit();
        rules.commit();
      },
    };
  }

  /** Plans and commits at once. All or nothing. */
  assign(names: RegistryNames): Numbers {
    const { numbers, commit } = this.plan(names);
    commit();
    return numbers;
  }

  /** What is assigned now. The maps are never changed afterwards: the next commit brings new ones. */
  numbers(): Numbers {
    return { services: this.#services.live, backends: this.#backends.live, rules: this.#rules.live };
  }
}

/** A number at rest, and who had it. */
interface Freed extends Numbered {
  name: string;
  atMs: number;
}

/** Numbers of one kind, from 0 to limit - 1. */
class NumberPool {
  live: ReadonlyMap<string, Numbered> = new Map();
  /** In the order in which they were freed. */
  #freed: readonly Freed[] = [];
  /** Numbers from here on were never used. */
  #fresh = 0;

  constructor(
    readonly kind: string,
    readonly limit: number,
    readonly now: () => number,
    readonly reuseAfterMs: number,
    /** The same for when no number is left that was never used. */
    readonly reuseWhenFullMs: number,
  ) {}

  plan(names: readonly string[]): { live: ReadonlyMap<string, Numbered>; commit(): void } {
    const nowMs = this.now();
    const live = new Map<string, Numbered>();
    const missing = new Set<string>();
    for (const name of names) {
      const mine = this.live.get(name);
      if (mine) live.set(name, mine);
      else missing.add(name);
    }
    // Former owners come first: nobody else may take what is still theirs.
    const freed: Freed[] = [];
    for (const rest of this.#freed) {
      if (missing.delete(rest.name)) live.set(rest.name, { number: rest.number, incarnation: rest.incarnation });
      else freed.push(rest);
    }
    let fresh = this.#fresh;
    let reused = 0;
    for (const name of missing) {
      const rest = freed[reused];
      const rests = fresh < this.limit ? this.reuseAfterMs : this.reuseWhenFullMs;
      if (rest && nowMs - rest.atMs >= rests) {
        live.set(name, { number: rest.number, incarnation: rest.incarnation + 1 });
        reused++;
      } else if (fresh < this.limit) {
        live.set(name, { number: fresh++, incarnation: 1 });
      } else {
        throw this.#full();
      }
    }
    const freedNow: Freed[] = [];
    for (const [name, mine] of this.live) if (!live.has(name)) freedNow.push({ ...mine, name, atMs: nowMs });
    const freedAfter = [...freed.slice(reused), ...freedNow];
    return {
      live,
      commit: () => {
        this.live = live;
        this.#freed = freedAfter;
        this.#fresh = fresh;
      },
    };
  }

  #full(): SluiceError {
    const ms = this.reuseWhenFullMs;
    const rest = ms < 60_000 ? `${ms / 1000} seconds` : `${ms / 60_000} minutes`;
    return new SluiceError(
      'SLUICE_CONFIG',
      `too many ${this.kind}: the limit is ${this.limit}, and numbers of removed ones rest for ${rest}`,
      `Have at most ${this.limit} ${this.kind}; when many are being replaced, remove and add in two steps.`,
    );
  }
}

/**
 * Checks backends, each at its interval, and says when one goes up or down.
 *
 * One heap of what is due and one timer for all targets, so that ten thousand of them cost ten thousand small objects. Starts are
 * spread over time and over turns of the event loop; at most `concurrency` checks are under way at once, and the others wait in
 * the order in which they were due.
 */
import { EventEmitter } from 'node:events';
import { probeAddress } from './probe_address.js';
import type { BackendHealth, HealthTarget } from './backend_health.js';
import { DueQueue } from './due_queue.js';
import type { Endpoint, Outcome } from './outcome.js';
import { runCheck, startCheck, type StartCheck } from './run_check.js';
import type { Lease, TunnelAccess } from './tunnel/access.js';
import { Watched } from './watched.js';

export interface HealthMonitorOptions {
  /** Monotonic clock, ms. */
  now?: () => number;
  /** 0 to 1. */
  random?: () => number;
  /** For targets whose checks go through the tunnel; without one those are skipped. Closed with the monitor. */
  tunnel?: TunnelAccess;
  /** Most checks under way at once. Default 1024: a descriptor and a few KiB each. */
  concurrency?: number;
  /** For tests. */
  start?: StartCheck;
}

interface HealthEvents {
  /** `up` or `held` of a backend changed; also the first result. */
  change: [health: BackendHealth];
}

export interface MonitorLoad {
  targets: number;
  running: number;
  /** Due, but waiting for others to end. */
  waiting: number;
}

const CONCURRENCY = 1024;
/** Checks begun in one turn of the event loop: some 2 ms of work. */
const STARTS_A_TURN = 32;
/** New targets begin this far apart, ms, as far as their interval has room. */
const FIRST_APART_MS = 1;
/** A timer that is later than this tells that the process stood still. */
const PAUSE_MS = 250;
/** Longest timer of Node. */
const MAX_TIMER_MS = 0x7fffffff;

export class HealthMonitor extends EventEmitter<HealthEvents> {
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #tunnel: TunnelAccess | null;
  readonly #concurrency: number;
  readonly #start: StartCheck;
  readonly #watched = new Map<string, Watched>();
  readonly #due = new DueQueue<Watched>();
  #running = 0;
  #timer: NodeJS.Timeout | null = null;
  #timerDueMs = Infinity;
  #turn: NodeJS.Immediate | null = null;
  #closed = false;

  constructor(options: HealthMonitorOptions = {}) {
    super();
    this.#now = options.now ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
    this.#tunnel = options.tunnel ?? null;
    this.#concurrency = options.concurrency ?? CONCURRENCY;
    this.#start = options.start ?? startCheck;
  }

  /**
   * Checks these from now on, and nothing else. A target that was there before keeps its state, its counts and its place in
   * the schedule, also when its configuration is another one. Keys are unique.
   */
  setTargets(targets: readonly HealthTarget[]): void {
    if (this.#closed) return;
    const nowMs = this.#now();
    const keys = new Set(targets.map(({ key }) => key));
    for (const [key, watched] of this.#watched) if (!keys.has(key)) this.#forget(key, watched);
    const added: Watched[] = [];
    for (const target of targets) {
      const watched = this.#watched.get(target.key);
      if (watched === undefined) {
        const fresh = new Watched(target, nowMs);
        this.#watched.set(target.key, fresh);
        added.push(fresh);
      } else if (watched.replace(target, nowMs)) {
        this.#abandon(watched);
      }
    }
    for (const watched of added) {
      const spreadMs = Math.min(watched.target.config.intervalMs, added.length * FIRST_APART_MS);
      this.#schedule(watched, nowMs + this.#random() * spreadMs);
    }
    this.#tunnel?.setVips(
      targets.filter(({ config }) => config.through === 'tunnel').map(({ vip }) => probeAddress(vip)),
    );
    this.#arm();
  }

  get(key: string): BackendHealth | undefined {
    return this.#watched.get(key)?.health();
  }

  /** In the order in which they first came. */
  all(): BackendHealth[] {
    return [...this.#watched.values()].map((watched) => watched.health());
  }

  load(): MonitorLoad {
    const targets = this.#watched.size;
    // What is neither running nor due later has been due and waits.
    const first = this.#due.first;
    const waiting = first !== undefined && first.dueMs <= this.#now() ? this.#countWaiting() : 0;
    return { targets, running: this.#running, waiting };
  }

  /** Stops at once: no socket, timer or event is left. The promise is for what the tunnel undoes. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#turn !== null) clearImmediate(this.#turn);
    for (const [key, watched] of this.#watched) this.#forget(key, watched);
    this.removeAllListeners();
    await this.#tunnel?.close();
  }

  #countWaiting(): number {
    const nowMs = this.#now();
    let waiting = 0;
    for (const { position, dueMs } of this.#watched.values()) if (position >= 0 && dueMs <= nowMs) waiting++;
    return waiting;
  }

  #forget(key: string, watched: Watched): void {
    this.#watched.delete(key);
    this.#due.remove(watched);
    this.#stop(watched);
  }

  /** Ends the check under way, without a result. */
  #stop(watched: Watched): void {
    if (watched.running === null) return;
    watched.running.cancel();
    watched.running = null;
    this.#running--;
  }

  /** The check under way asks for what nobody wants to know any more: the next one is due now. */
  #abandon(watched: Watched): void {
    if (watched.running === null) return;
    this.#stop(watched);
    this.#schedule(watched, this.#now());
  }

  // --- When

  #schedule(watched: Watched, dueMs: number): void {
    watched.dueMs = dueMs;
    this.#due.add(watched);
  }

  /** From the time when the last one was due, so that the rate is that of the interval, however long a check takes. */
  #nextDueMs({ target, dueMs, begun }: Watched, nowMs: number): number {
    const { intervalMs, jitter } = target.config;
    // The second check finds a phase of its own: those that began together part here.
    if (begun === 1) return nowMs + intervalMs * (0.5 + 0.5 * this.#random());
    const next = dueMs + intervalMs * (1 + jitter * (2 * this.#random() - 1));
    if (next > nowMs) return next;
    // Behind the schedule, alone (a check longer than the interval) or with all others (a pause of the process): not all at once.
    return nowMs + intervalMs * jitter * this.#random();
  }

  #arm(): void {
    const first = this.#due.first;
    if (this.#closed || first === undefined || this.#turn !== null || this.#running >= this.#concurrency) return;
    if (this.#timer !== null) {
      if (this.#timerDueMs <= first.dueMs) return;
      clearTimeout(this.#timer);
    }
    this.#timerDueMs = first.dueMs;
    const nowMs = this.#now();
    const inMs = Math.min(MAX_TIMER_MS, Math.max(0, Math.ceil(first.dueMs - nowMs)));
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (this.#now() - nowMs - inMs > PAUSE_MS) this.#spread();
      this.#beginDue();
    }, inMs);
  }

  /** After a pause of the process everything is due at once: each gets a new phase instead. */
  #spread(): void {
    const nowMs = this.#now();
    for (let first = this.#due.first; first !== undefined && first.dueMs <= nowMs; first = this.#due.first) {
      this.#due.remove(first);
      // Above now, or this would not end.
      this.#schedule(first, nowMs + 1 + this.#random() * first.target.config.intervalMs);
    }
    this.#arm();
  }

  #beginDue(): void {
    const nowMs = this.#now();
    let starts = STARTS_A_TURN;
    for (;;) {
      const first = this.#due.first;
      if (first === undefined || first.dueMs > nowMs || this.#running >= this.#concurrency) break;
      if (starts-- === 0) {
        // Other things of this thread have their turn in between.
        this.#turn = setImmediate(() => {
          this.#turn = null;
          this.#beginDue();
        });
        return;
      }
      this.#due.remove(first);
      this.#begin(first);
    }
    this.#arm();
  }

  // --- One check

  #begin(watched: Watched): void {
    const { target } = watched;
    watched.begun++;
    this.#running++;
    const lease = this.#endpointOf(target);
    if ('result' in lease) {
      // In a later turn, as any other check.
      const turn = setImmediate(() => this.#end(watched, null, lease, 0));
      watched.running = { cancel: () => clearImmediate(turn) };
      return;
    }
    const { check, timeoutMs } = target.config;
    const running = runCheck(this.#start, lease.endpoint, check, timeoutMs, this.#now, (outcome, latencyMs) =>
      this.#end(watched, lease, outcome, latencyMs),
    );
    watched.running = {
      cancel: () => {
        running.cancel();
        lease.release();
      },
    };
  }

  #endpointOf({ key, address, vip, port, config }: HealthTarget): Lease | Outcome {
    if (config.through === 'tunnel') {
      return (
        this.#tunnel?.lease(key, probeAddress(vip), port) ?? {
          result: 'skipped',
          reason: 'this node: there is no tunnel',
        }
      );
    }
    const endpoint: Endpoint = { host: address.text, family: address.family, port };
    return { endpoint, release: () => undefined };
  }

  #end(watched: Watched, lease: Lease | null, outcome: Outcome, latencyMs: number): void {
    lease?.release();
    watched.running = null;
    this.#running--;
    const nowMs = this.#now();
    const changed = watched.take(outcome, latencyMs, nowMs);
    this.#schedule(watched, this.#nextDueMs(watched, nowMs));
    this.#arm();
    if (changed) this.emit('change', watched.health());
  }
}

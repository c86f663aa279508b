import { isDeepStrictEqual } from 'node:util';
import type { BackendHealth, HealthTarget } from './backend_health.js';
import type { Due } from './due_queue.js';
import { FlapDampener } from './flap.js';
import type { Outcome } from './outcome.js';
import { RiseFall } from './rise_fall.js';
import type { LimitedCheck } from './run_check.js';

/** One target and all that is known of it. */
export class Watched implements Due {
  dueMs = 0;
  position = -1;
  /** The check under way. */
  running: LimitedCheck | null = null;
  /** Checks begun so far. */
  begun = 0;

  private readonly state: RiseFall;
  private readonly flap: FlapDampener;
  private held = false;
  /** The last check came to nothing because the process stood still. */
  private stalled = false;
  private lastError = '';
  private lastLatencyMs = NaN;
  private ok = 0;
  private failed = 0;
  private skipped = 0;
  private changes = 0;

  constructor(
    public target: HealthTarget,
    private sinceMs: number,
  ) {
    const { rise, fall, flap } = target.config;
    this.state = new RiseFall(rise, fall);
    this.flap = new FlapDampener(flap);
  }

  /** Takes the target as it is now configured. Returns whether checks that are under way mean something else now. */
  replace(target: HealthTarget, nowMs: number): boolean {
    const { config, port, vip } = this.target;
    this.target = target;
    if (isDeepStrictEqual(config, target.config) && port === target.port && vip.text === target.vip.text) return false;
    this.state.retune(target.config.rise, target.config.fall);
    if (!isDeepStrictEqual(config.flap, target.config.flap)) this.flap.retune(target.config.flap, nowMs);
    return (
      !isDeepStrictEqual(config.check, target.config.check) ||
      config.through !== target.config.through ||
      port !== target.port ||
      vip.text !== target.vip.text
    );
  }

  /** Takes the result of a check. Returns whether `up` or `held` changed. */
  take(outcome: Outcome, latencyMs: number, nowMs: number): boolean {
    const skip = outcome.result === 'skipped' && !(outcome.stalled === true && this.stalled);
    this.stalled = outcome.result === 'skipped' && outcome.stalled === true;
    if (outcome.result !== 'ok') this.lastError = outcome.reason;
    if (skip) {
      this.skipped++;
      return this.settleHeld(nowMs);
    }
    const good = outcome.result === 'ok';
    if (good) {
      this.ok++;
      this.lastLatencyMs = latencyMs;
    } else this.failed++;
    const before = this.state.up;
    const changed = this.state.take(good);
    if (changed) {
      this.sinceMs = nowMs;
      if (before !== null) this.changes++;
      if (good) this.lastError = '';
      // The first result of all says how it is, not that it went down.
      else if (before !== null) this.flap.down(nowMs);
    }
    return this.settleHeld(nowMs) || changed;
  }

  private settleHeld(nowMs: number): boolean {
    const before = this.held;
    this.held = this.flap.held(nowMs);
    return this.held !== before;
  }

  health(): BackendHealth {
    const { target, sinceMs, held, lastError, lastLatencyMs, ok, failed, skipped, changes } = this;
    const { key, service, address } = target;
    const up = this.state.up;
    return {
      key,
      service,
      address: address.text,
      up,
      held,
      sinceMs,
      lastError,
      lastLatencyMs,
      ok,
      failed,
      skipped,
      changes,
    };
  }
}

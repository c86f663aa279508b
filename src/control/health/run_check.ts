import type { CheckConfig } from '../../shared/health_config.js';
import { checkDns } from './checks/dns.js';
import { checkHttp } from './checks/http.js';
import { checkTcp } from './checks/tcp.js';
import { checkUdp } from './checks/udp.js';
import type { Done, Endpoint, Outcome, RunningCheck } from './outcome.js';
import { outcomeOfError } from './outcome.js';

/** Starts one check. `done` is called at most once, never before this returns. */
export type StartCheck = (endpoint: Endpoint, config: CheckConfig, done: Done) => RunningCheck;

export const startCheck: StartCheck = (endpoint, config, done) => {
  switch (config.type) {
    case 'tcp':
      return checkTcp(endpoint, done);
    case 'http':
    case 'https':
      return checkHttp(endpoint, config, done);
    case 'udp':
      return checkUdp(endpoint, config, done);
    case 'dns':
      return checkDns(endpoint, config, done);
  }
};

/**
 * A timer that is later than this tells that the process itself stood still (stopped, swapped out, in a long collection), and that
 * answers may have come and not been read yet.
 */
const STALL_MS = 100;

export interface LimitedCheck {
  cancel(): void;
}

/**
 * One check with its time limit. When it is over, sockets are closed, whatever state they are in. A check whose timer came too
 * late is skipped: after a pause of this process no backend is to blame.
 *
 * @param now monotonic clock, ms
 */
export function runCheck(
  start: StartCheck,
  endpoint: Endpoint,
  config: CheckConfig,
  timeoutMs: number,
  now: () => number,
  done: (outcome: Outcome, latencyMs: number) => void,
): LimitedCheck {
  const startMs = now();
  let running: RunningCheck | null = null;
  let over = false;
  const finish = (outcome: Outcome): void => {
    if (over) return;
    over = true;
    clearTimeout(timer);
    done(outcome, now() - startMs);
  };
  const timer = setTimeout(() => {
    const lateMs = now() - startMs - timeoutMs;
    const stage = running?.stage ?? 'not started';
    running?.cancel();
    const reason = `this process stood still for ${Math.round(lateMs)} ms`;
    if (lateMs > STALL_MS) finish({ result: 'skipped', reason, stalled: true });
    else finish({ result: 'failed', reason: `${stage} within ${timeoutMs} ms` });
  }, timeoutMs);
  try {
    running = start(endpoint, config, finish);
  } catch (error) {
    // Node reports some failures (a port that is not free) when the socket is made.
    setImmediate(finish, outcomeOfError(error));
  }
  return {
    cancel: () => {
      over = true;
      clearTimeout(timer);
      running?.cancel();
    },
  };
}

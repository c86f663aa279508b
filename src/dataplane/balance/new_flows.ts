import { MAX_SERVICES } from '../../shared/layout.js';

const SECOND_MS = 1000;

/**
 * Counts the new flows that enter the flow table, against the worker's limit and each service's own. What is above a limit is the
 * caller's to judge; nothing here looks at packets.
 *
 * Windows of a second, not a bucket: a flood's first second fills the table by at most one limit, and the count starts
 * anew without a division a packet.
 */
export class NewFlows {
  /** Of the worker, and by service. */
  private total = 0;
  private readonly byService = new Int32Array(MAX_SERVICES);
  private startMs = 0;

  /** Counts one new flow. False, and not counted, above a limit; 0 is no limit. */
  admit(service: number, workerLimit: number, serviceLimit: number, nowMs: number): boolean {
    if (workerLimit === 0 && serviceLimit === 0) return true;
    const elapsed = (nowMs - this.startMs) | 0;
    if (elapsed >= SECOND_MS || elapsed < 0) this.restart(nowMs);
    if (workerLimit > 0 && this.total >= workerLimit) return false;
    if (serviceLimit > 0 && this.byService[service] >= serviceLimit) return false;
    this.total++;
    this.byService[service]++;
    return true;
  }

  private restart(nowMs: number): void {
    this.startMs = nowMs;
    this.total = 0;
    this.byService.fill(0);
  }
}

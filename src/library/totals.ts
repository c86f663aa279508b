import { PortCounter } from '../shared/layout.js';
import type { XskStatistics } from '../native.js';

/**
 * Totals since the port was opened, over all its queues. Packets, unless the name says otherwise.
 *
 *     rx = dropped + passed + tx + redirected + aborted          between any two polls
 */
export interface PortTotals {
  /** Packets that the policy was asked about, and their bytes as they came in. */
  rx: number;
  rxBytes: number;
  /** By what the policy said. */
  dropped: number;
  passed: number;
  tx: number;
  redirected: number;
  /** The policy threw, or returned something that is no Verdict: dropped. */
  aborted: number;
  /** Bytes that went onto a TX ring, by Tx or Redirect. */
  txBytes: number;
  /** Of `tx` and `redirected`: not sent, because the TX ring was full, the packet too short, or its target none. */
  txLost: number;
  /** Of `passed`: the host did not get it, because there is no host path or it was too slow. */
  passLost: number;
  /** Never reached the policy: the kernel had no room in the rings, or the packet did not fit a frame. Not part of `rx`. */
  missed: number;
}

/** The counting of one port. Fields are written on the data path. */
export class Tally {
  rx = 0;
  rxBytes = 0;
  dropped = 0;
  passed = 0;
  tx = 0;
  redirected = 0;
  aborted = 0;
  // Of sockets that are closed
  private txBytes = 0;
  private txLost = 0;
  private passLost = 0;
  private missed = 0;

  /** Adds what native code counted; for a socket that is about to close. */
  keep(counters: Float64Array, kernel: XskStatistics): void {
    this.txBytes += counters[PortCounter.txBytes];
    this.txLost += counters[PortCounter.txFull] + counters[PortCounter.txInvalid];
    this.passLost += counters[PortCounter.passLost];
    this.missed += kernel.rxDropped + kernel.rxRingFull;
  }

  /** Packets of a last burst that nobody was asked about. */
  skip(packets: number): void {
    this.missed += packets;
  }

  totals(sockets: readonly { counters: Float64Array; statistics(): XskStatistics }[]): PortTotals {
    const { rx, rxBytes, dropped, passed, tx, redirected, aborted } = this;
    const sum = new Tally();
    for (const { counters, statistics } of sockets) sum.keep(counters, statistics());
    return {
      rx,
      rxBytes,
      dropped,
      passed,
      tx,
      redirected,
      aborted,
      txBytes: this.txBytes + sum.txBytes,
      txLost: this.txLost + sum.txLost,
      passLost: this.passLost + sum.passLost,
      missed: this.missed + sum.missed,
    };
  }
}

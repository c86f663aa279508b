import type { PortRange } from '../../../shared/config.js';

/**
 * Source ports of checks, by which their packets are told apart. The port that was given back longest ago is taken first, so
 * that what is left of a check (a reset, a late retransmission) finds no other one under its number.
 */
export class PortPool {
  /** Owner of each port, also after it was given back: its last packets are still to be sent. */
  private readonly owners: (string | null)[];
  /** A ring of free ports, as offsets from the first. */
  private readonly free: number[];
  private head: number;
  private count: number;

  /** @param random where to begin, 0 to 1: not where the process before began, whose answers may still be on their way */
  constructor(
    readonly range: PortRange,
    random: number,
  ) {
    const size = range.last - range.first + 1;
    this.head = Math.floor(random * size);
    this.owners = Array.from({ length: size }, () => null);
    this.free = Array.from({ length: size }, (_, i) => i);
    this.count = size;
  }

  /** A port for this owner; null when all are in use. */
  take(owner: string): number | null {
    if (this.count === 0) return null;
    const offset = this.free[this.head];
    this.head = (this.head + 1) % this.free.length;
    this.count--;
    this.owners[offset] = owner;
    return this.range.first + offset;
  }

  /** Each port once for each time that it was taken. */
  giveBack(port: number): void {
    this.free[(this.head + this.count) % this.free.length] = port - this.range.first;
    this.count++;
  }

  /** Who has the port, or had it last; null when nobody did. */
  ownerOf(port: number): string | null {
    return this.owners[port - this.range.first] ?? null;
  }
}

/**
 * xt_hashlimit revision 3 as a model: 64-bit integers, jiffies, one table, the collector at its ticks. Written from what
 * net/netfilter/xt_hashlimit.c does; slow and plain, for tests to hold the data plane against.
 */

export interface ModelConfig {
  hz: number;
  /** As iptables hands it down: packets: microseconds between two; bytes: 2^32 / (16-byte steps a second). */
  avg: bigint;
  /** Packets, or refills. */
  burst: bigint;
  bytes: boolean;
  /** Seconds of rate match; 0: none. */
  interval: number;
  expireMs: number;
  gcIntervalMs: number;
  max: number;
}

interface Key {
  since: number;
  credit: bigint;
  left: bigint;
  seen: bigint;
  over: boolean;
  expires: number;
}

const SCALE = 1_000_000n;
const U32 = 0xffffffffn;

/** Largest power of two that is not above. */
function powerBelow(value: bigint): bigint {
  return 1n << BigInt(value.toString(2).length - 1);
}

/** iptables' number for a rate. */
export const packetAverage = (amount: number, seconds: number): bigint => (SCALE * BigInt(seconds)) / BigInt(amount);
export const byteAverage = (amount: number): bigint => U32 / ((BigInt(amount) >> 4n) + 1n);
/** iptables' bytes a second from that number, and the refills that it makes of a burst. */
export const averageBytes = (avg: bigint): bigint => (U32 / avg - 1n) << 4n;
export const byteBurst = (burst: number, avg: bigint): bigint =>
  (BigInt(burst) + averageBytes(avg) - 1n) / averageBytes(avg);

export class HashlimitModel {
  private readonly keys = new Map<string, Key>();
  private readonly perJiffy: bigint;
  private readonly cost: bigint;
  private readonly full: bigint;
  private collected: number | null = null;

  constructor(private readonly config: ModelConfig) {
    const { hz, avg, burst, bytes } = config;
    const perDay = BigInt(hz * 86400);
    this.perJiffy = bytes ? powerBelow(U32 / BigInt(hz)) : powerBelow(0xffffffffffffffffn / perDay);
    const perSecond = this.perJiffy * BigInt(hz);
    const credits = (user: bigint) => (SCALE >= perSecond ? user / (SCALE / perSecond) : user * (perSecond / SCALE));
    this.cost = bytes ? (avg * perSecond) >> 32n : credits(avg);
    this.full = bytes ? perSecond : credits(avg * burst);
  }

  get count(): number {
    return this.keys.size;
  }

  /** 'within', 'above', or 'drop' when the table is full. `ms`: a multiple of the jiffy. */
  packet(name: string, length: number, ms: number): 'within' | 'above' | 'drop' {
    const { config } = this;
    this.collect(ms);
    let key = this.keys.get(name);
    if (key === undefined) {
      if (this.keys.size >= config.max) return 'drop';
      key = { since: ms, credit: this.full, left: config.burst, seen: 0n, over: false, expires: 0 };
      this.keys.set(name, key);
    } else {
      this.advance(key, ms);
    }
    key.expires = ms + config.expireMs;
    if (config.interval > 0) {
      key.seen += config.bytes ? BigInt(length) : 1n;
      return !key.over && key.seen <= this.intervalMost() ? 'within' : 'above';
    }
    let cost = this.cost;
    if (config.bytes) {
      cost *= BigInt((length >> 4) + 1);
      if (cost > this.full) cost = this.full;
      if (key.credit < cost && key.left > 0n) {
        key.left--;
        key.credit = this.full;
      }
    }
    if (key.credit < cost) return 'above';
    key.credit -= cost;
    return 'within';
  }

  private advance(key: Key, ms: number): void {
    const { config } = this;
    const jiffies = BigInt(((ms - key.since) * config.hz) / 1000);
    if (jiffies === 0n) return;
    if (config.interval > 0) {
      const interval = BigInt(config.interval * config.hz);
      if (jiffies < interval) return;
      key.over = key.seen * interval > jiffies * this.perSecond();
      key.seen = 0n;
    } else {
      key.credit += jiffies * this.perJiffy;
      if (key.credit > this.full) key.credit = this.full;
    }
    key.since = ms;
  }

  private perSecond(): bigint {
    return this.config.bytes ? averageBytes(this.config.avg) : SCALE / this.config.avg;
  }

  private intervalMost(): bigint {
    const { burst, bytes } = this.config;
    if (!bytes) return burst + this.perSecond();
    return burst === 0n ? this.perSecond() : burst * this.perSecond();
  }

  /** The collector: at each tick what has expired goes. */
  private collect(ms: number): void {
    this.collected ??= ms;
    const past = ms - this.collected;
    if (past < this.config.gcIntervalMs) return;
    this.collected += past - (past % this.config.gcIntervalMs);
    for (const [name, key] of this.keys) if (key.expires <= this.collected) this.keys.delete(name);
  }
}

import { readFileSync } from 'node:fs';

/** Between two looks, ms. */
const WATCH_MS = 1000;
/** Packets between two looks from which it is believed what they say. */
const TELLING_PACKETS = 8;

/** Holds what a cache gave to its interface's driver against what the driver dropped. */
export class DropWatch {
  private lookedMs = 0;
  private sent = 0;
  private dropped: number;

  /** `droppedOf`: packets that an interface could not send, since it is there. */
  constructor(
    private readonly name: string,
    private readonly droppedOf: (name: string) => number = txDropped,
  ) {
    this.dropped = droppedOf(name);
  }

  /** `sent`: by XDP_TX, since the cache is. Returns what was sent and dropped since the last look when the driver dropped half of it, else null. */
  look(sent: () => number, nowMs: number): { sent: number; dropped: number } | null {
    if (nowMs - this.lookedMs < WATCH_MS) return null;
    this.lookedMs = nowMs;
    const since = { sent: sent() - this.sent, dropped: this.droppedOf(this.name) - this.dropped };
    this.sent += since.sent;
    this.dropped += since.dropped;
    return since.sent >= TELLING_PACKETS && since.dropped * 2 >= since.sent ? since : null;
  }
}

/** Position of the dropped among the numbers of an interface in /proc/net/dev that are about sending, which follow eight about receiving. */
const TX_DROPPED = 8 + 3;

/** Not by /sys, which may be another namespace's. */
function txDropped(name: string): number {
  const line = readFileSync('/proc/thread-self/net/dev', 'utf8')
    .split('\n')
    .find((text) => text.trimStart().startsWith(`${name}:`));
  const numbers = line?.slice(line.indexOf(':') + 1).trim();
  return Number(numbers?.split(/\s+/)[TX_DROPPED] ?? 0);
}

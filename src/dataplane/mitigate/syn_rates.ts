import { FlowHash } from '../balance/hash.js';
import type { Packet } from '../packet/packet.js';

const enum Field {
  STRIDE = 4,
  STRIDE_SHIFT = 2,
  startMs = 0,
  count = 1,
  /** 1: above its rate. */
  active = 2,
  untilMs = 3,
}

/** Length of a window, ms. A flood is noticed when a tenth of a second's worth has passed. */
const WINDOW_MS = 100;

/** Destinations that are told apart. Two that share a place are challenged together, no more. */
const PLACES = 4096;

/**
 * SYNs a second by destination address and port, and for which of them there are too many: from the moment that a window of 100 ms
 * has a tenth of `startRate`, until no window had a tenth of `stopRate` for `holdMs`.
 *
 * The rate of SYNs alone counts, not how many of them became connections: whoever forges SYNs can forge the ACK that would
 * complete them just as well, since the answers do not pass here.
 */
export class SynRates {
  private readonly words = new Int32Array(PLACES << Field.STRIDE_SHIFT);
  private readonly hash: FlowHash;
  /** SYNs of a window. */
  private readonly start: number;
  private readonly stop: number;

  /** `key`: four int32. Rates are SYNs a second that this worker sees. */
  constructor(
    key: readonly number[],
    startRate: number,
    stopRate: number,
    private readonly holdMs: number,
  ) {
    this.hash = new FlowHash(key);
    this.start = Math.max(1, Math.ceil((startRate * WINDOW_MS) / 1000));
    this.stop = Math.max(1, Math.ceil((stopRate * WINDOW_MS) / 1000));
  }

  /** Counts a SYN; true when its destination gets too many. */
  note(syn: Packet, nowMs: number): boolean {
    const words = this.words;
    const hash = this.hash;
    const address = syn.family === 4 ? syn.dst0 : hash.ipv4(syn.dst0, syn.dst1, syn.dst2, syn.family) ^ syn.dst3;
    const at = (hash.ipv4(address, 0, syn.ports & 0xffff, syn.family) & (PLACES - 1)) << Field.STRIDE_SHIFT;
    const elapsed = (nowMs - words[at + Field.startMs]) | 0;
    if (elapsed >= WINDOW_MS || elapsed < 0) this.turn(at, nowMs);
    if (++words[at + Field.count] >= this.start) {
      words[at + Field.active] = 1;
      words[at + Field.untilMs] = (nowMs + this.holdMs) | 0;
    }
    return words[at + Field.active] !== 0;
  }

  /** Destinations that get too many now: looks at all places. */
  active(nowMs: number): number {
    const words = this.words;
    let count = 0;
    for (let at = 0; at < words.length; at += Field.STRIDE) {
      if (words[at + Field.active] !== 0 && ((nowMs - words[at + Field.untilMs]) | 0) < 0) count++;
    }
    return count;
  }

  /** Ends a window, all of whose SYNs came within WINDOW_MS of its start, and begins the next. */
  private turn(at: number, nowMs: number): void {
    const words = this.words;
    if (words[at + Field.active] !== 0) {
      if (words[at + Field.count] >= this.stop) {
        words[at + Field.untilMs] = (words[at + Field.startMs] + WINDOW_MS + this.holdMs) | 0;
      }
      if (((nowMs - words[at + Field.untilMs]) | 0) >= 0) words[at + Field.active] = 0;
    }
    words[at + Field.startMs] = nowMs;
    words[at + Field.count] = 0;
  }
}

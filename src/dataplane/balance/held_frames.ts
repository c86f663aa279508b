import { Counter, CounterBlock, MAX_PORTS } from '../../shared/layout.js';
import type { Packet } from '../packet/packet.js';
import { DropReason } from '../verdict.js';

/** The part of a Port that has frames to hold. */
export interface FrameHolder {
  readonly index: number;
  resume(offset: number, length: number): boolean;
  release(offset: number): boolean;
}

/** Words of a held frame's record. */
const enum Held {
  SHIFT = 3,
  offset = 0,
  length = 1,
  port = 2,
  sinceMs = 3,
  /** Next frame of the same datagram. */
  next = 4,
  /** Neighbours in the order of arrival, over all datagrams; `newer` also chains the free records. */
  newer = 5,
  older = 6,
  datagram = 7,
}

const NONE = -1;

/**
 * Frames that wait for the first fragment of their datagram: at most `capacity`, each in two lists, that of its datagram and that of all, both in the
 * order of arrival. Datagrams are numbers below `datagrams`. Nothing is allocated once it is made.
 *
 * It keeps the worker's counters: a frame that is not resumed in the end is a drop of reason fragmentTimeout. Those that are counted
 * in Counter.framesHeld are the path's, which adds and takes them out with the burst.
 */
export class HeldFrames {
  private readonly words: Int32Array;
  /** By datagram: its first and last frame. */
  private readonly first: Int32Array;
  private readonly last: Int32Array;
  private readonly ports: (FrameHolder | null)[] = new Array<FrameHolder | null>(MAX_PORTS).fill(null);
  private free = 0;
  private oldest = NONE;
  private newest = NONE;
  /** Frames that are held. */
  count = 0;

  constructor(
    readonly capacity: number,
    datagrams: number,
    private readonly counters: Float64Array,
  ) {
    this.words = new Int32Array(capacity << Held.SHIFT);
    this.first = new Int32Array(datagrams).fill(NONE);
    this.last = new Int32Array(datagrams).fill(NONE);
    for (let i = 0; i < capacity; i++) this.words[(i << Held.SHIFT) + Held.newer] = i + 1 < capacity ? i + 1 : NONE;
  }

  /** Frames of this port may be held from now on. */
  attach(port: FrameHolder): void {
    this.ports[port.index] = port;
  }

  holds(datagram: number): boolean {
    return this.first[datagram] !== NONE;
  }

  /** Puts the packet behind those that its datagram has. There must be room. */
  push(datagram: number, packet: Packet, nowMs: number): void {
    const words = this.words;
    const number = this.free;
    const at = number << Held.SHIFT;
    this.free = words[at + Held.newer];
    words[at + Held.offset] = packet.data;
    words[at + Held.length] = packet.dataEnd - packet.data;
    words[at + Held.port] = packet.port;
    words[at + Held.sinceMs] = nowMs;
    words[at + Held.next] = NONE;
    words[at + Held.newer] = NONE;
    words[at + Held.older] = this.newest;
    words[at + Held.datagram] = datagram;
    if (this.newest === NONE) this.oldest = number;
    else words[(this.newest << Held.SHIFT) + Held.newer] = number;
    this.newest = number;
    if (this.first[datagram] === NONE) this.first[datagram] = number;
    else words[(this.last[datagram] << Held.SHIFT) + Held.next] = number;
    this.last[datagram] = number;
    this.count++;
  }

  /** Gives a datagram's frames back to their ports, which hand them out first with their next bursts, in the order of arrival. */
  resumeAll(datagram: number): void {
    for (let number = this.first[datagram]; number !== NONE; number = this.first[datagram]) {
      const at = number << Held.SHIFT;
      const port = this.ports[this.words[at + Held.port]];
      const resumed = port?.resume(this.words[at + Held.offset], this.words[at + Held.length]) ?? false;
      if (!resumed) this.countLost();
      this.remove(number);
    }
  }

  /** Drops a datagram's frames. */
  dropAll(datagram: number): void {
    for (let number = this.first[datagram]; number !== NONE; number = this.first[datagram]) this.drop(number);
  }

  /** Drops the frame that has waited longest; returns its datagram, −1 when none is held. */
  dropOldest(): number {
    if (this.oldest === NONE) return NONE;
    const datagram = this.words[(this.oldest << Held.SHIFT) + Held.datagram];
    this.drop(this.oldest);
    return datagram;
  }

  /** How long the oldest frame has waited, ms; −1 when none is held. */
  longestWait(nowMs: number): number {
    return this.oldest === NONE ? -1 : (nowMs - this.words[(this.oldest << Held.SHIFT) + Held.sinceMs]) | 0;
  }

  /** Forgets all frames of a port that is closed or about to be: closing frees them. */
  detach(port: number): void {
    for (let number = this.oldest; number !== NONE;) {
      const at = number << Held.SHIFT;
      const newer = this.words[at + Held.newer];
      if (this.words[at + Held.port] === port) {
        this.countLost();
        this.remove(number);
      }
      number = newer;
    }
    this.ports[port] = null;
  }

  private drop(number: number): void {
    const at = number << Held.SHIFT;
    this.ports[this.words[at + Held.port]]?.release(this.words[at + Held.offset]);
    this.countLost();
    this.remove(number);
  }

  private countLost(): void {
    this.counters[Counter.framesHeld]--;
    this.counters[Counter.drop]++;
    this.counters[CounterBlock.reasons + DropReason.fragmentTimeout]++;
  }

  /** Takes a record out of both lists and frees it. */
  private remove(number: number): void {
    const words = this.words;
    const at = number << Held.SHIFT;
    const newer = words[at + Held.newer];
    const older = words[at + Held.older];
    if (newer === NONE) this.newest = older;
    else words[(newer << Held.SHIFT) + Held.older] = older;
    if (older === NONE) this.oldest = newer;
    else words[(older << Held.SHIFT) + Held.newer] = newer;
    this.unchain(number, words[at + Held.datagram]);
    words[at + Held.newer] = this.free;
    this.free = number;
    this.count--;
  }

  /** Nearly always the first of its datagram: only a port that closes takes frames out of the middle. */
  private unchain(number: number, datagram: number): void {
    const words = this.words;
    const next = words[(number << Held.SHIFT) + Held.next];
    let before = NONE;
    for (let at = this.first[datagram]; at !== number; at = words[(at << Held.SHIFT) + Held.next]) before = at;
    if (before === NONE) this.first[datagram] = next;
    else words[(before << Held.SHIFT) + Held.next] = next;
    if (next === NONE) this.last[datagram] = before;
  }
}

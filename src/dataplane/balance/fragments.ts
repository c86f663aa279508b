import { Counter, type FragmentSettings } from '../../shared/layout.js';
import { fragmentId } from '../packet/fragment_id.js';
import type { Packet } from '../packet/packet.js';
import type { FlowHash } from './hash.js';
import { HeldFrames, type FrameHolder } from './held_frames.js';

/** What is to become of a fragment behind the first, where that is no backend's number. */
export const enum FragmentFate {
  /** The first was passed to the host. */
  pass = -1,
  /** The first was dropped. */
  drop = -2,
  /** It waits for its first: Verdict.Hold. */
  hold = -3,
  /** Its first has not been seen, and it is not to wait or there is no room. */
  unknown = -4,
}

/** Words of a datagram's record: one cache line. */
const enum Datagram {
  SHIFT = 4,
  state = 0,
  /** family << 8, with IPv4 also the protocol. In IPv6 the id is of a pair of addresses alone (RFC 8200 §4.5). */
  kind = 1,
  id = 2,
  src0 = 3,
  src1 = 4,
  src2 = 5,
  src3 = 6,
  dst0 = 7,
  dst1 = 8,
  dst2 = 9,
  dst3 = 10,
  /** Burst clock when it was decided, or when its first frame came, ms. */
  sinceMs = 11,
  /** Backend number, FragmentFate.pass or .drop. */
  decision = 12,
  incarnation = 13,
}

const enum State {
  empty = 0,
  /** Frames wait for the first fragment. */
  waiting = 1,
  decided = 2,
}

/** Records that a datagram can be in. */
const WAYS = 8;

/** Most held frames that one sweep drops: 2,000 of them take some 100 µs. */
const SWEEP_FRAMES = 2000;

/**
 * Where fragments go. Only the first of a datagram has ports, so only for it a backend can be found; the others follow it by addresses, protocol
 * and datagram id. Fragments that come before their first may be held until it comes.
 *
 * Bounded in everything: `slots` records of 64 bytes, each datagram in one of 8 places that a keyed hash names; `held` frames, `timeout` seconds. What an
 * attacker can do:
 * - first fragments that nothing follows push out the oldest decision of their set, and frames that wait before any decision;
 * - later fragments that have no first take only places that are free or that other waiting datagrams have, so they displace no decision;
 *   of frames that wait, the oldest gives way when `held` is reached: a flood shortens how long each can wait, no more;
 * - ids that come again too soon (RFC 4963), or forged ones, send a fragment to the wrong backend, where reassembly fails as it would without us.
 *
 * Overlapping and tiny fragments (RFC 1858, 5722) are sanity checks' business and that of the backend, which reassembles.
 */
export class FragmentTable {
  private words = new Int32Array(0);
  private held: HeldFrames;
  private ways = WAYS;
  private setMask = 0;
  private timeoutMs = 0;
  private holds = false;
  private readonly ports: FrameHolder[] = [];
  /** Out parameter of `follow`: incarnation of the backend when the first fragment went there. */
  incarnation = 0;

  /** `hash`: keyed with a secret of this worker's own. */
  constructor(
    settings: FragmentSettings,
    private readonly hash: FlowHash,
    private readonly counters: Float64Array,
  ) {
    this.held = new HeldFrames(0, 0, counters);
    this.configure(settings);
  }

  /** New settings. Other sizes empty the table: what is held then is dropped. */
  configure(settings: FragmentSettings): void {
    const { slots, held, timeout, outOfOrder } = settings;
    this.timeoutMs = Math.round(timeout * 1000);
    this.holds = outOfOrder === 'hold';
    if (slots << Datagram.SHIFT === this.words.length && held === this.held.capacity) return;
    this.dropHeld();
    this.words = new Int32Array(slots << Datagram.SHIFT);
    this.ways = Math.min(WAYS, slots);
    this.setMask = (slots / this.ways - 1) | 0;
    this.held = new HeldFrames(held, slots, this.counters);
    for (const port of this.ports) this.held.attach(port);
  }

  /** A port whose frames may be held: before the first of its packets comes. */
  attach(port: FrameHolder): void {
    this.ports.push(port);
    this.held.attach(port);
  }

  /** Forgets a port that is closed, with the frames of it that are held. */
  detach(index: number): void {
    const at = this.ports.findIndex((port) => port.index === index);
    if (at >= 0) this.ports.splice(at, 1);
    this.held.detach(index);
    this.clearEmptied();
  }

  /** Frames that are held. */
  get heldFrames(): number {
    return this.held.count;
  }

  /**
   * Notes where a datagram's first fragment goes, and has the frames resumed that waited for it. `decision`: a backend's number,
   * FragmentFate.pass or FragmentFate.drop. The packet must be a first fragment.
   */
  decide(packet: Packet, decision: number, incarnation: number, nowMs: number): void {
    const id = fragmentId(packet);
    const set = this.setOf(packet, id);
    let at = this.find(set, packet, id, nowMs);
    if (at < 0) {
      at = this.place(set, nowMs);
      this.write(at, packet, id, nowMs);
    }
    const words = this.words;
    words[at + Datagram.state] = State.decided;
    words[at + Datagram.sinceMs] = nowMs;
    words[at + Datagram.decision] = decision;
    words[at + Datagram.incarnation] = incarnation;
    const datagram = at >> Datagram.SHIFT;
    if (this.held.holds(datagram)) this.held.resumeAll(datagram);
  }

  /**
   * Where a fragment behind the first goes: a backend's number, with `incarnation` set, or a FragmentFate. After `hold` the caller must settle the
   * packet as Verdict.Hold, where it is and as long as it is.
   */
  follow(packet: Packet, nowMs: number): number {
    const id = fragmentId(packet);
    const set = this.setOf(packet, id);
    const at = this.find(set, packet, id, nowMs);
    if (at >= 0 && this.words[at + Datagram.state] === State.decided) {
      const decision = this.words[at + Datagram.decision];
      this.incarnation = this.words[at + Datagram.incarnation];
      if (decision >= 0) this.counters[Counter.fragmentsFollowed]++;
      return decision;
    }
    return this.holds ? this.hold(set, packet, id, nowMs) : FragmentFate.unknown;
  }

  /** Drops what has waited too long, a bounded number a call. */
  sweep(nowMs: number): void {
    for (let frames = 0; frames < SWEEP_FRAMES; frames++) {
      const waited = this.held.longestWait(nowMs);
      if (waited >= 0 ? waited <= this.timeoutMs : this.held.count === 0) return;
      this.dropOldest();
    }
  }

  /** Drops all that is held: the worker stops. */
  dropHeld(): void {
    while (this.held.count > 0) this.dropOldest();
  }

  private hold(set: number, packet: Packet, id: number, nowMs: number): FragmentFate {
    const held = this.held;
    if (held.count === held.capacity) this.dropOldest();
    // Only now: its datagram may have lost its last frame, and with that its place.
    let at = this.find(set, packet, id, nowMs);
    if (at < 0) {
      at = this.placeWaiting(set, nowMs);
      if (at < 0) return FragmentFate.unknown;
      this.write(at, packet, id, nowMs);
      this.words[at + Datagram.state] = State.waiting;
      this.words[at + Datagram.sinceMs] = nowMs;
    }
    held.push(at >> Datagram.SHIFT, packet, nowMs);
    this.counters[Counter.fragmentsHeld]++;
    return FragmentFate.hold;
  }

  private dropOldest(): void {
    const datagram = this.held.dropOldest();
    if (datagram >= 0 && !this.held.holds(datagram)) this.words[datagram << Datagram.SHIFT] = State.empty;
  }

  /** First word of the datagram's set. */
  private setOf(packet: Packet, id: number): number {
    const hash =
      packet.family === 4
        ? this.hash.ipv4(packet.src0, packet.dst0, id, packet.protocol)
        : this.hash.ipv6(
            packet.src0,
            packet.src1,
            packet.src2,
            packet.src3,
            packet.dst0,
            packet.dst1,
            packet.dst2,
            packet.dst3,
            id,
            0,
          );
    return Math.imul(hash & this.setMask, this.ways) << Datagram.SHIFT;
  }

  /** The datagram's record, −1 when there is none or its decision has timed out. */
  private find(set: number, packet: Packet, id: number, nowMs: number): number {
    const words = this.words;
    const kind = kindOf(packet);
    const end = set + (this.ways << Datagram.SHIFT);
    for (let at = set; at < end; at += 1 << Datagram.SHIFT) {
      if (
        words[at + Datagram.id] === id &&
        words[at + Datagram.src0] === packet.src0 &&
        words[at + Datagram.dst0] === packet.dst0 &&
        words[at + Datagram.kind] === kind &&
        words[at + Datagram.src1] === packet.src1 &&
        words[at + Datagram.src2] === packet.src2 &&
        words[at + Datagram.src3] === packet.src3 &&
        words[at + Datagram.dst1] === packet.dst1 &&
        words[at + Datagram.dst2] === packet.dst2 &&
        words[at + Datagram.dst3] === packet.dst3 &&
        !this.isFree(at, nowMs)
      ) {
        return at;
      }
    }
    return -1;
  }

  private isFree(at: number, nowMs: number): boolean {
    const state = this.words[at + Datagram.state];
    return state === State.empty || (state === State.decided && this.age(at, nowMs) > this.timeoutMs);
  }

  /** ms, as uint32: a clock that went back makes it old. */
  private age(at: number, nowMs: number): number {
    return (nowMs - this.words[at + Datagram.sinceMs]) >>> 0;
  }

  /** A record for a decision: a free one, else the oldest that waits, else the oldest of all, whose datagram is forgotten. */
  private place(set: number, nowMs: number): number {
    const waiting = this.placeWaiting(set, nowMs);
    return waiting >= 0 ? waiting : this.oldest(set, State.decided, nowMs);
  }

  /** A record for frames that wait: a free one, else the oldest that waits, else −1. */
  private placeWaiting(set: number, nowMs: number): number {
    const end = set + (this.ways << Datagram.SHIFT);
    for (let at = set; at < end; at += 1 << Datagram.SHIFT) if (this.isFree(at, nowMs)) return at;
    const at = this.oldest(set, State.waiting, nowMs);
    if (at >= 0) {
      this.held.dropAll(at >> Datagram.SHIFT);
      this.words[at + Datagram.state] = State.empty;
    }
    return at;
  }

  private oldest(set: number, state: State, nowMs: number): number {
    const end = set + (this.ways << Datagram.SHIFT);
    let oldest = -1;
    for (let at = set; at < end; at += 1 << Datagram.SHIFT) {
      if (this.words[at + Datagram.state] !== state) continue;
      if (oldest < 0 || this.age(at, nowMs) > this.age(oldest, nowMs)) oldest = at;
    }
    return oldest;
  }

  private write(at: number, packet: Packet, id: number, nowMs: number): void {
    const words = this.words;
    words[at + Datagram.kind] = kindOf(packet);
    words[at + Datagram.id] = id;
    words[at + Datagram.src0] = packet.src0;
    words[at + Datagram.src1] = packet.src1;
    words[at + Datagram.src2] = packet.src2;
    words[at + Datagram.src3] = packet.src3;
    words[at + Datagram.dst0] = packet.dst0;
    words[at + Datagram.dst1] = packet.dst1;
    words[at + Datagram.dst2] = packet.dst2;
    words[at + Datagram.dst3] = packet.dst3;
    words[at + Datagram.sinceMs] = nowMs;
  }

  /** Frees records of datagrams that wait with no frame left. */
  private clearEmptied(): void {
    for (let at = 0; at < this.words.length; at += 1 << Datagram.SHIFT) {
      const waits = this.words[at + Datagram.state] === State.waiting;
      if (waits && !this.held.holds(at >> Datagram.SHIFT)) this.words[at + Datagram.state] = State.empty;
    }
  }
}

function kindOf(packet: Packet): number {
  return packet.family === 4 ? (4 << 8) | packet.protocol : 6 << 8;
}

import type { FlowTimeouts } from '../../shared/layout.js';
import type { Packet } from '../packet/packet.js';
import { FlowField, FlowState, Lodgers, Weight, firstState, isProven, nextState } from './flow_entry.js';
import { FlowSlots } from './flow_slots.js';

export { FlowField, FlowState } from './flow_entry.js';

/** Time in which the sweeper goes once around the table, ms, when it is called often enough. */
const SWEEP_ROUND_MS = 8192;
/** Most slots that one call looks at: some 20 µs. */
const SWEEP_MOST = 8192;

/** What gives way in a window. */
const enum Survey {
  proven = 0,
  unproven = 1,
  timedOut = 2,
}

/**
 * A worker's connection table: five-tuple → backend. Fixed size, no rehash; where flows lie is the business of FlowSlots.
 *
 * When both windows of a new flow are full of live flows of which none can move, one gives way: of the unproven (half-open,
 * closing, one packet so far) the one that has been silent longest, and of the proven only where there is no unproven. A flood of
 * first packets, whatever its keys, pushes out itself. docs/flow-table.md has the measurements.
 *
 * `words` must hold `slots * 16` int32, all zero; `slots` is a power of two. A place is a word index into it, and holds until
 * `changes` changes: flows move, and not only the one that is inserted.
 */
export class FlowTable {
  readonly words: Int32Array;
  private readonly wordMask: number;
  /** Where its flows lie. */
  readonly places: FlowSlots;
  /** From this number of flows on none is moved: with one slot in 128 empty, the search for room costs more than it finds. */
  readonly crowded: number;
  /** By FlowState, with room for the states of a table that has its own; −1: no such state. Call `timeoutsChanged` after writing. */
  readonly timeoutMs: Int32Array;
  /** The shortest of them, at most what a weight can say: nothing that was silent for less has timed out. */
  leastTimeoutMs = 0;
  /** Number of the slot that the sweeper looks at next. */
  private cursor = 0;
  private sweptMs = 0;
  protected prefetched = 0;
  /** Live flows. */
  count = 0;
  /** Counts insertions and removals: where a flow was found holds for as long as this stays the same. */
  changes = 0;
  /** Out parameters of `insert`: backend of the flow whose slot was taken, or −1; and whether that flow was still alive. */
  evictedBackend = -1;
  evictedAlive = false;
  /** Of the same flow, where the table tells: its state, 0 when no slot was taken from another flow, its `kind` word and its addresses. */
  evictedState: number = FlowState.free;
  evictedKind = 0;
  evictedSrc0 = 0;
  evictedSrc1 = 0;
  evictedSrc2 = 0;
  evictedSrc3 = 0;
  evictedDst0 = 0;
  evictedDst1 = 0;
  evictedDst2 = 0;
  evictedDst3 = 0;
  /** Out parameter of `survey`. */
  private victim = 0;

  /** `tellsEvicted`: whether somebody reads more of an evicted flow than its backend. */
  constructor(
    words: Int32Array,
    timeouts: FlowTimeouts,
    private readonly tellsEvicted = false,
  ) {
    this.places = new FlowSlots(words);
    this.words = words;
    this.wordMask = (words.length - 1) | 0;
    this.crowded = this.slots - (this.slots >> 7);
    this.timeoutMs = new Int32Array(16).fill(-1);
    this.setTimeouts(timeouts);
  }

  get slots(): number {
    return this.words.length >> FlowField.STRIDE_SHIFT;
  }

  /** Seconds by state; takes effect for all flows at once. */
  setTimeouts(timeouts: FlowTimeouts): void {
    this.timeoutMs[FlowState.other] = timeouts.other * 1000;
    this.timeoutMs[FlowState.otherSingle] = timeouts.other * 1000;
    this.timeoutMs[FlowState.udp] = timeouts.udp * 1000;
    this.timeoutMs[FlowState.udpSingle] = timeouts.udp * 1000;
    this.timeoutMs[FlowState.tcpSyn] = timeouts.tcpSyn * 1000;
    this.timeoutMs[FlowState.tcpEstablished] = timeouts.tcpEstablished * 1000;
    this.timeoutMs[FlowState.tcpPickup] = timeouts.tcpEstablished * 1000;
    this.timeoutMs[FlowState.tcpClosing] = timeouts.tcpClosing * 1000;
    this.timeoutsChanged();
  }

  /** To be called when `timeoutMs` was written. */
  timeoutsChanged(): void {
    this.leastTimeoutMs = Math.min(Weight.UNPROVEN - 1, ...this.timeoutMs.filter((timeout) => timeout >= 0));
  }

  /**
   * Reads one word of each packet's home slot, so that the slots are in the cache when `find` comes. The loop is so short that
   * the processor has a whole burst's cache misses under way at once, instead of one after the other.
   */
  prefetch(packets: readonly Packet[], count: number): void {
    const words = this.words;
    const mask = this.wordMask;
    let seen = 0;
    for (let i = 0; i < count; i++) seen |= words[(packets[i].flowHash << FlowField.STRIDE_SHIFT) & mask];
    // Only so that the reads are not optimised away.
    this.prefetched = seen;
  }

  /** Place of the packet's flow, or −1. May return a flow that has timed out: see `expired`. */
  find(packet: Packet): number {
    const words = this.words;
    const kind = 0x10000 | (packet.family << 8) | packet.protocol;
    const home = (packet.flowHash << FlowField.STRIDE_SHIFT) & this.wordMask;
    if (
      words[home + FlowField.kind] === kind &&
      words[home + FlowField.src0] === packet.src0 &&
      words[home + FlowField.ports] === packet.ports &&
      words[home + FlowField.dst0] === packet.dst0 &&
      (packet.family === 4 || this.hasRestOf6(home, packet))
    ) {
      return home;
    }
    const lodgers = words[home + FlowField.lodgers];
    // What lies in the home slot itself was looked at.
    const at = this.findIn(home, lodgers & (Lodgers.HERE - 1), kind, packet);
    if (at >= 0 || lodgers >>> Lodgers.AWAY_SHIFT === 0) return at;
    const second = this.places.secondHome(packet.flowHash);
    return this.findIn(second, words[second + FlowField.lodgers] & Lodgers.HERE, kind, packet);
  }

  /** Looks at the slots of the window that starts at `home` whose bit is set in `bits`. */
  private findIn(home: number, bits: number, kind: number, packet: Packet): number {
    const words = this.words;
    const mask = this.wordMask;
    for (let left = bits; left !== 0; left &= left - 1) {
      const at = (home + ((31 - Math.clz32(left & -left)) << FlowField.STRIDE_SHIFT)) & mask;
      if (
        words[at + FlowField.kind] === kind &&
        words[at + FlowField.src0] === packet.src0 &&
        words[at + FlowField.ports] === packet.ports &&
        words[at + FlowField.dst0] === packet.dst0 &&
        (packet.family === 4 || this.hasRestOf6(at, packet))
      ) {
        return at;
      }
    }
    return -1;
  }

  private hasRestOf6(at: number, packet: Packet): boolean {
    const words = this.words;
    return (
      words[at + FlowField.src1] === packet.src1 &&
      words[at + FlowField.src2] === packet.src2 &&
      words[at + FlowField.src3] === packet.src3 &&
      words[at + FlowField.dst1] === packet.dst1 &&
      words[at + FlowField.dst2] === packet.dst2 &&
      words[at + FlowField.dst3] === packet.dst3
    );
  }

  /** True when the flow at `at` has been idle for longer than its state allows. */
  expired(at: number, nowMs: number): boolean {
    const idle = (nowMs - this.words[at + FlowField.lastSeen]) | 0;
    return idle > this.timeoutMs[this.words[at + FlowField.state]];
  }

  /** Notes one more packet of the flow at `at`: time and state. */
  touch(at: number, packet: Packet, nowMs: number): void {
    const words = this.words;
    words[at + FlowField.lastSeen] = nowMs;
    words[at + FlowField.state] = nextState(words[at + FlowField.state], packet);
  }

  /**
   * Remembers a flow that `find` did not find, and returns its place. Always succeeds; when another flow had to give
   * way, `evictedBackend` and `evictedAlive` tell which.
   */
  insert(packet: Packet, backend: number, incarnation: number, nowMs: number): number {
    const words = this.words;
    const at = this.claim(packet.flowHash, nowMs);
    this.changes++;
    words[at + FlowField.kind] = 0x10000 | (packet.family << 8) | packet.protocol;
    words[at + FlowField.src0] = packet.src0;
    words[at + FlowField.dst0] = packet.dst0;
    words[at + FlowField.ports] = packet.ports;
    if (packet.family === 6) {
      words[at + FlowField.src1] = packet.src1;
      words[at + FlowField.src2] = packet.src2;
      words[at + FlowField.src3] = packet.src3;
      words[at + FlowField.dst1] = packet.dst1;
      words[at + FlowField.dst2] = packet.dst2;
      words[at + FlowField.dst3] = packet.dst3;
    }
    this.assign(at, packet, backend, incarnation, nowMs);
    return at;
  }

  /** Gives the flow at `at` to a backend, as a flow that starts now. */
  assign(at: number, packet: Packet, backend: number, incarnation: number, nowMs: number): void {
    const words = this.words;
    words[at + FlowField.backend] = backend;
    words[at + FlowField.incarnation] = incarnation;
    words[at + FlowField.state] = firstState(packet);
    words[at + FlowField.lastSeen] = nowMs;
  }

  /** A slot for a flow with this hash: an empty one, that of a flow which timed out or moved, or that of one which gives way. */
  private claim(hash: number, nowMs: number): number {
    this.evictedBackend = -1;
    this.evictedAlive = false;
    this.evictedState = FlowState.free;
    const empty = this.places.take(hash);
    if (empty >= 0) {
      this.count++;
      return empty;
    }
    const home = this.places.home(hash);
    const fromFirst = this.claimIn(home, hash, nowMs);
    if (fromFirst >= 0) return fromFirst;
    const longest = this.victim;
    // Its home has as many away as it can count.
    if (!this.places.mayGoAway(home)) return this.evict(longest, home, hash, true);
    const second = this.places.secondHome(hash);
    const fromSecond = this.claimIn(second, hash, nowMs);
    if (fromSecond >= 0) return fromSecond;
    const isOlder = ((nowMs - this.seen(longest)) | 0) >= ((nowMs - this.seen(this.victim)) | 0);
    return isOlder ? this.evict(longest, home, hash, true) : this.evict(this.victim, second, hash, true);
  }

  /** A slot in a full window; −1 when that would cost a proven flow, which is then `victim`. */
  private claimIn(window: number, hash: number, nowMs: number): number {
    const found = this.survey(window, nowMs);
    if (found === Survey.timedOut) return this.evict(this.victim, window, hash, false);
    const room = this.count < this.crowded ? this.places.makeRoom(window) : -1;
    if (room >= 0) {
      this.places.takeAt(room, window, hash);
      this.count++;
      return room;
    }
    return found === Survey.unproven ? this.evict(this.victim, window, hash, true) : -1;
  }

  /**
   * Looks through a full window for who gives way, `victim`: a flow that timed out; else the unproven one that was silent longest; else the proven one.
   *
   * Who is best so far changes at random as it goes, which a branch would predict wrongly four or five times a window. So the comparison is arithmetic, of
   * numbers in which unproven comes before idle; and whether something timed out is asked once, at the end.
   */
  private survey(window: number, nowMs: number): Survey {
    const words = this.words;
    const mask = this.wordMask | 0;
    const now = nowMs | 0;
    const least = this.leastTimeoutMs | 0;
    const end = ((window + Lodgers.WINDOW * FlowField.STRIDE) | 0) & mask;
    let best = -1;
    let victim = window | 0;
    let at = window | 0;
    // Negative once a flow was silent for longer than the shortest timeout.
    let margin = 0;
    do {
      const state = words[(at + FlowField.state) | 0];
      const idle = (now - words[(at + FlowField.lastSeen) | 0]) | 0;
      margin |= (least - idle) | 0;
      const weight = idle | (Weight.UNPROVEN & (((Weight.PROVEN >> state) & 1) - 1));
      const isMore = ((best - weight) | 0) >> 31;
      best ^= (best ^ weight) & isMore;
      victim ^= (victim ^ at) & isMore;
      at = ((at + FlowField.STRIDE) | 0) & mask;
    } while (at !== end);
    this.victim = victim;
    if (margin < 0) return this.surveyExactly(window, nowMs);
    return best >= Weight.UNPROVEN ? Survey.unproven : Survey.proven;
  }

  private surveyExactly(window: number, nowMs: number): Survey {
    const words = this.words;
    let provenIdle = -1;
    let unprovenIdle = -1;
    let proven = window;
    let unproven = -1;
    for (let i = 0, at = window; i < Lodgers.WINDOW; i++, at = (at + FlowField.STRIDE) & this.wordMask) {
      if (this.expired(at, nowMs)) {
        this.victim = at;
        return Survey.timedOut;
      }
      const idle = (nowMs - words[at + FlowField.lastSeen]) | 0;
      if (isProven(words[at + FlowField.state])) {
        if (idle <= provenIdle) continue;
        provenIdle = idle;
        proven = at;
      } else if (idle > unprovenIdle || unproven < 0) {
        unprovenIdle = idle;
        unproven = at;
      }
    }
    this.victim = unproven >= 0 ? unproven : proven;
    return unproven >= 0 ? Survey.unproven : Survey.proven;
  }

  private seen(at: number): number {
    return this.words[at + FlowField.lastSeen];
  }

  /** Gives the slot at `at` to the flow with this hash, one of whose windows starts at `window`. */
  private evict(at: number, window: number, hash: number, alive: boolean): number {
    const words = this.words;
    this.evictedBackend = words[at + FlowField.backend];
    this.evictedAlive = alive;
    if (this.tellsEvicted) this.tellEvicted(at);
    this.places.replace(at, window, hash);
    return at;
  }

  private tellEvicted(at: number): void {
    const words = this.words;
    this.evictedState = words[at + FlowField.state];
    this.evictedKind = words[at + FlowField.kind];
    this.evictedSrc0 = words[at + FlowField.src0];
    this.evictedSrc1 = words[at + FlowField.src1];
    this.evictedSrc2 = words[at + FlowField.src2];
    this.evictedSrc3 = words[at + FlowField.src3];
    this.evictedDst0 = words[at + FlowField.dst0];
    this.evictedDst1 = words[at + FlowField.dst1];
    this.evictedDst2 = words[at + FlowField.dst2];
    this.evictedDst3 = words[at + FlowField.dst3];
  }

  /** Forgets the flow at `at`. */
  remove(at: number): void {
    this.places.release(at);
    this.words[at + FlowField.kind] = 0;
    this.words[at + FlowField.state] = FlowState.free;
    this.count--;
    this.changes++;
  }

  /**
   * Looks at the slots whose turn has come since the last call and forgets what has timed out; `onExpire` hears
   * the backend and the place of each, whose words are still there. Returns the number forgotten. Once around the table takes about eight seconds; a call right after
   * another costs nothing.
   */
  sweep(nowMs: number, onExpire: (backend: number, at: number) => void): number {
    const elapsed = (nowMs - this.sweptMs) | 0;
    this.sweptMs = nowMs;
    if (elapsed === 0 || this.count === 0) return 0;
    const due =
      elapsed < 0 || elapsed > SWEEP_ROUND_MS ? this.slots : Math.ceil((this.slots / SWEEP_ROUND_MS) * elapsed);
    return this.sweepSlots(Math.min(due, SWEEP_MOST), nowMs, onExpire);
  }

  private sweepSlots(slots: number, nowMs: number, onExpire: (backend: number, at: number) => void): number {
    const occupied = this.places.occupied;
    const slotMask = (this.slots - 1) | 0;
    let slot = this.cursor;
    let forgotten = 0;
    for (let budget = slots; budget > 0;) {
      // The occupied slots from this one to the end of its word of 32.
      const bits = occupied[slot >>> 5] >>> (slot & 31);
      const skip = bits === 0 ? 31 - (slot & 31) : 31 - Math.clz32(bits & -bits);
      slot = (slot + skip) | 0;
      budget -= skip + 1;
      const at = slot << FlowField.STRIDE_SHIFT;
      if (bits !== 0 && this.expired(at, nowMs)) {
        onExpire(this.words[at + FlowField.backend], at);
        this.remove(at);
        forgotten++;
      }
      slot = (slot + 1) & slotMask;
    }
    this.cursor = slot;
    return forgotten;
  }
}

import type { FlowTimeouts } from '../../shared/layout.js';
import type { Packet } from '../packet/packet.js';
import { FlowField, FlowState, Lodgers, firstState, isProven, nextState } from './flow_entry.js';
import { FlowSlots } from './flow_slots.js';

export { FlowField, FlowState } from './flow_entry.js';

/** Time in which the sweeper goes once around the table, ms, when it is called often enough. */
const SWEEP_ROUND_MS = 8192;
/** Most slots that one call looks at: some 20 µs. */
const SWEEP_MOST = 8192;

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
  private readonly crowded: number;
  /** By FlowState, with room for the states of a table that has its own. */
  readonly timeoutMs: Int32Array;
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
  /** Of the same flow: its state, 0 when no slot was taken from another flow, its `kind` word and its addresses. */
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
  // What `survey` found in a window.
  private timedOut = -1;
  private unproven = -1;
  private proven = -1;

  constructor(words: Int32Array, timeouts: FlowTimeouts) {
    this.places = new FlowSlots(words);
    this.words = words;
    this.wordMask = (words.length - 1) | 0;
    this.crowded = this.slots - (this.slots >> 7);
    this.timeoutMs = new Int32Array(16);
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
    const longest = this.proven;
    // Its home has as many away as it can count.
    if (!this.places.mayGoAway(home)) return this.evict(longest, home, hash, true);
    const second = this.places.secondHome(hash);
    const fromSecond = this.claimIn(second, hash, nowMs);
    if (fromSecond >= 0) return fromSecond;
    const isOlder = ((nowMs - this.seen(longest)) | 0) >= ((nowMs - this.seen(this.proven)) | 0);
    return isOlder ? this.evict(longest, home, hash, true) : this.evict(this.proven, second, hash, true);
  }

  /** A slot in a full window; −1 when that would cost a proven flow. */
  private claimIn(window: number, hash: number, nowMs: number): number {
    this.survey(window, nowMs);
    if (this.timedOut >= 0) return this.evict(this.timedOut, window, hash, false);
    const room = this.count < this.crowded ? this.places.makeRoom(window) : -1;
    if (room >= 0) {
      this.places.takeAt(room, window, hash);
      this.count++;
      return room;
    }
    return this.unproven >= 0 ? this.evict(this.unproven, window, hash, true) : -1;
  }

  /** Looks through a full window: a flow that timed out, and the unproven and the proven flow that were silent longest. */
  private survey(window: number, nowMs: number): void {
    const words = this.words;
    const timeoutMs = this.timeoutMs;
    const mask = this.wordMask;
    // In locals: a store to a field is not kept in a register over the next look at the table.
    let unproven = -1;
    let proven = -1;
    let unprovenIdle = -1;
    let provenIdle = -1;
    let at = window;
    this.timedOut = -1;
    for (let i = 0; i < Lodgers.WINDOW; i++) {
      const idle = (nowMs - words[(at + FlowField.lastSeen) | 0]) | 0;
      const state = words[(at + FlowField.state) | 0];
      if (idle > timeoutMs[state]) {
        this.timedOut = at;
        return;
      }
      if (isProven(state)) {
        if (idle > provenIdle || proven < 0) {
          provenIdle = idle;
          proven = at;
        }
      } else if (idle > unprovenIdle || unproven < 0) {
        unprovenIdle = idle;
        unproven = at;
      }
      at = (at + FlowField.STRIDE) & mask;
    }
    this.unproven = unproven;
    this.proven = proven;
  }

  private seen(at: number): number {
    return this.words[at + FlowField.lastSeen];
  }

  /** Gives the slot at `at` to the flow with this hash, one of whose windows starts at `window`. */
  private evict(at: number, window: number, hash: number, alive: boolean): number {
    const words = this.words;
    this.evictedBackend = words[at + FlowField.backend];
    this.evictedAlive = alive;
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
    this.places.release(at);
    this.places.takeAt(at, window, hash);
    return at;
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

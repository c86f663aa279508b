import type { FlowTimeouts } from '../../shared/layout.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';

/** Words of an entry: 64 bytes, one cache line, the same for IPv4 and IPv6. */
export const enum FlowField {
  STRIDE = 16,
  STRIDE_SHIFT = 4,
  /** 1 << 16 | family << 8 | protocol; 0: never used. */
  kind = 0,
  src0 = 1,
  dst0 = 2,
  ports = 3,
  backend = 4,
  /** Incarnation of the backend when the flow was given to it. */
  incarnation = 5,
  /** FlowState; 0 marks a slot that was used and is free again, which look-ups walk over. */
  state = 6,
  /** Clock in ms, wrapping int32. */
  lastSeen = 7,
  src1 = 8,
  src2 = 9,
  src3 = 10,
  dst1 = 11,
  dst2 = 12,
  dst3 = 13,
}

export const enum FlowState {
  free = 0,
  other = 1,
  udp = 2,
  /** The client's SYN was seen, no ACK of its own yet. */
  tcpSyn = 3,
  tcpEstablished = 4,
  /** The client sent FIN or RST. */
  tcpClosing = 5,
}

/** Slots that a key may lie away from its home. */
const WINDOW = 32;

/** Time in which the sweeper goes once around the table, ms, when it is called often enough. */
const SWEEP_ROUND_MS = 8192;
/** Most slots that one call looks at: some 20 µs. */
const SWEEP_MOST = 8192;

/**
 * A worker's connection table: five-tuple → backend. Fixed size, open addressing, entries never move, no rehash.
 *
 * A key lies within 32 slots of its home. When all 32 are taken by live flows, a new flow takes the place of the one that
 * has been silent longest: a flood can push out idle flows of its own neighbourhood, never grow the table or lengthen a
 * look-up. Forgotten flows leave "free" slots that look-ups walk over; the sweeper, going from high to low, turns them
 * to "never used" where nothing lies behind them.
 *
 * `words` must hold `slots * 16` int32; `slots` is a power of two.
 */
export class FlowTable {
  readonly words: Int32Array;
  private readonly wordMask: number;
  /** By FlowState. */
  readonly timeoutMs: Int32Array;
  private cursor: number;
  private sweptMs = 0;
  protected prefetched = 0;
  /** Live flows. */
  count = 0;
  /** Counts insertions and removals: where a flow was found holds for as long as this stays the same. */
  changes = 0;
  /** Out parameters of `insert`: backend of the flow whose slot was taken, or −1; and whether that flow was still alive. */
  evictedBackend = -1;
  evictedAlive = false;

  constructor(words: Int32Array, timeouts: FlowTimeouts) {
    const slots = words.length >> FlowField.STRIDE_SHIFT;
    if (slots < WINDOW || (slots & (slots - 1)) !== 0) {
      throw new RangeError(`a flow table has a power of two of slots, at least ${WINDOW}, not ${slots}`);
    }
    this.words = words;
    this.wordMask = (words.length - 1) | 0;
    this.timeoutMs = new Int32Array(8);
    this.cursor = words.length - FlowField.STRIDE;
    this.setTimeouts(timeouts);
  }

  get slots(): number {
    return this.words.length >> FlowField.STRIDE_SHIFT;
  }

  /** Seconds by state; takes effect for all flows at once. */
  setTimeouts(timeouts: FlowTimeouts): void {
    this.timeoutMs[FlowState.other] = timeouts.other * 1000;
    this.timeoutMs[FlowState.udp] = timeouts.udp * 1000;
    this.timeoutMs[FlowState.tcpSyn] = timeouts.tcpSyn * 1000;
    this.timeoutMs[FlowState.tcpEstablished] = timeouts.tcpEstablished * 1000;
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

  /** Word index of the packet's flow, or −1. May return a flow that has timed out: see `expired`. */
  find(packet: Packet): number {
    return packet.family === 4 ? this.find4(packet) : this.find6(packet);
  }

  private find4(packet: Packet): number {
    const words = this.words;
    const kind = 0x10400 | packet.protocol;
    const src = packet.src0;
    const dst = packet.dst0;
    const ports = packet.ports;
    let at = (packet.flowHash << FlowField.STRIDE_SHIFT) & this.wordMask;
    for (let probe = 0; probe < WINDOW; probe++) {
      const found = words[at + FlowField.kind];
      if (
        found === kind &&
        words[at + FlowField.src0] === src &&
        words[at + FlowField.ports] === ports &&
        words[at + FlowField.dst0] === dst &&
        words[at + FlowField.state] !== FlowState.free
      ) {
        return at;
      }
      if (found === 0) return -1;
      at = (at + FlowField.STRIDE) & this.wordMask;
    }
    return -1;
  }

  private find6(packet: Packet): number {
    const words = this.words;
    const kind = 0x10600 | packet.protocol;
    let at = (packet.flowHash << FlowField.STRIDE_SHIFT) & this.wordMask;
    for (let probe = 0; probe < WINDOW; probe++) {
      const found = words[at + FlowField.kind];
      if (
        found === kind &&
        words[at + FlowField.ports] === packet.ports &&
        words[at + FlowField.src0] === packet.src0 &&
        words[at + FlowField.src1] === packet.src1 &&
        words[at + FlowField.src2] === packet.src2 &&
        words[at + FlowField.src3] === packet.src3 &&
        words[at + FlowField.dst0] === packet.dst0 &&
        words[at + FlowField.dst1] === packet.dst1 &&
        words[at + FlowField.dst2] === packet.dst2 &&
        words[at + FlowField.dst3] === packet.dst3 &&
        words[at + FlowField.state] !== FlowState.free
      ) {
        return at;
      }
      if (found === 0) return -1;
      at = (at + FlowField.STRIDE) & this.wordMask;
    }
    return -1;
  }

  /** True when the flow at `at` has been idle for longer than its state allows. */
  expired(at: number, nowMs: number): boolean {
    const idle = (nowMs - this.words[at + FlowField.lastSeen]) | 0;
    return idle > this.timeoutMs[this.words[at + FlowField.state]];
  }

  /** Notes a packet of the flow at `at`: time, and TCP state as far as the client's side shows it. */
  touch(at: number, packet: Packet, nowMs: number): void {
    this.words[at + FlowField.lastSeen] = nowMs;
    if (packet.protocol === IpProtocol.tcp) this.follow(at, packet.tcpFlags);
  }

  private follow(at: number, tcpFlags: number): void {
    if ((tcpFlags & (TcpFlag.fin | TcpFlag.rst)) !== 0) {
      this.words[at + FlowField.state] = FlowState.tcpClosing;
    } else if ((tcpFlags & TcpFlag.ack) !== 0 && this.words[at + FlowField.state] === FlowState.tcpSyn) {
      this.words[at + FlowField.state] = FlowState.tcpEstablished;
    }
  }

  /**
   * Remembers a flow that `find` did not find, and returns its word index. Always succeeds; when another flow had to give
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
    words[at + FlowField.state] = initialState(packet);
    words[at + FlowField.lastSeen] = nowMs;
  }

  /** A slot in the key's window: never used, free, timed out, or that of the live flow that was silent longest. */
  private claim(hash: number, nowMs: number): number {
    const words = this.words;
    let at = (hash << FlowField.STRIDE_SHIFT) & this.wordMask;
    let oldest = at;
    let oldestIdle = -1;
    this.evictedBackend = -1;
    this.evictedAlive = false;
    for (let probe = 0; probe < WINDOW; probe++) {
      if (words[at + FlowField.state] === FlowState.free) {
        this.count++;
        return at;
      }
      if (this.expired(at, nowMs)) {
        this.evictedBackend = words[at + FlowField.backend];
        return at;
      }
      const idle = (nowMs - words[at + FlowField.lastSeen]) | 0;
      if (idle > oldestIdle) {
        oldestIdle = idle;
        oldest = at;
      }
      at = (at + FlowField.STRIDE) & this.wordMask;
    }
    this.evictedBackend = words[oldest + FlowField.backend];
    this.evictedAlive = true;
    return oldest;
  }

  /** Forgets the flow at `at`. */
  remove(at: number): void {
    this.words[at + FlowField.state] = FlowState.free;
    this.count--;
    this.changes++;
  }

  /**
   * Looks at the slots whose turn has come since the last call, high to low, and forgets what has timed out; `onExpire` hears
   * the backend of each. Returns the number forgotten. Once around the table takes about eight seconds; a call right after
   * another costs nothing.
   */
  sweep(nowMs: number, onExpire: (backend: number) => void): number {
    const elapsed = (nowMs - this.sweptMs) | 0;
    if (elapsed === 0 || this.count === 0) {
      this.sweptMs = nowMs;
      return 0;
    }
    const due =
      elapsed < 0 || elapsed > SWEEP_ROUND_MS ? this.slots : Math.ceil((this.slots / SWEEP_ROUND_MS) * elapsed);
    this.sweptMs = nowMs;
    return this.sweepSlots(Math.min(due, SWEEP_MOST), nowMs, onExpire);
  }

  private sweepSlots(slots: number, nowMs: number, onExpire: (backend: number) => void): number {
    const words = this.words;
    let at = this.cursor;
    let forgotten = 0;
    for (let budget = slots; budget > 0; budget--) {
      if (words[at + FlowField.kind] !== 0) {
        if (words[at + FlowField.state] !== FlowState.free && this.expired(at, nowMs)) {
          this.remove(at);
          onExpire(words[at + FlowField.backend]);
          forgotten++;
        }
        if (
          words[at + FlowField.state] === FlowState.free &&
          words[((at + FlowField.STRIDE) & this.wordMask) + FlowField.kind] === 0
        ) {
          words[at + FlowField.kind] = 0;
        }
      }
      at = (at - FlowField.STRIDE) & this.wordMask;
    }
    this.cursor = at;
    return forgotten;
  }
}

function initialState(packet: Packet): FlowState {
  if (packet.protocol === IpProtocol.tcp) {
    if ((packet.tcpFlags & (TcpFlag.fin | TcpFlag.rst)) !== 0) return FlowState.tcpClosing;
    return (packet.tcpFlags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn
      ? FlowState.tcpSyn
      : FlowState.tcpEstablished;
  }
  if (packet.protocol === IpProtocol.udp) return FlowState.udp;
  return (packet.flags & PacketFlag.hasPorts) !== 0 ? FlowState.udp : FlowState.other;
}

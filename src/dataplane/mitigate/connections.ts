import type { ConnectionTimeouts } from '../../shared/mitigation_layout.js';
import { FlowField } from '../balance/flow_entry.js';
import { FlowTable } from '../balance/flow_table.js';
import type { Packet } from '../packet/packet.js';
import { TcpFlag } from '../packet/wire.js';
import { DropReason } from '../verdict.js';
import { ConnectionField, ConnectionState, isCounted, isLoose, setConnectionTimeouts } from './connection_state.js';

/** Why a packet does not belong to a connection: some of DropReason. */
export const enum TcpReason {
  none = 0,
  /** Flags that no client sends: SYN-ACK, SYN with FIN or RST, RST with FIN, none of SYN, ACK and RST. */
  unexpected = DropReason.tcpUnexpected,
  /** No connection has these addresses and ports. */
  notFound = DropReason.tcpNotFound,
  /** Its sequence number is too far from those of its connection. */
  outOfSequence = DropReason.tcpOutOfSequence,
  /** The client reset this connection. */
  alreadyClosed = DropReason.tcpAlreadyClosed,
}

/** What a packet did to the number of its sender's connections. */
export const enum ConnectionEvent {
  close = -1,
  none = 0,
  open = 1,
}

/** The largest window there is: 65,535 scaled by 14 (RFC 7323 §2.3), rounded up. */
export const LARGEST_WINDOW = 1 << 30;

/**
 * Sequence numbers up to this far from the last are near: a fresh client's first window (at most 65,535, since a SYN-ACK's window is not
 * scaled) with the data of its SYN. A near packet moves the connection on by itself; a far one only with its neighbour.
 */
const NEAR = 0x20000;

/** Words of `ended` for one connection: family, source, destination. */
export const ENDED_WORDS = 9;
/** What FlowTable's sweep looks at in one call, at most. */
const SWEEP_MOST = 8192;

/**
 * A worker's TCP connections, seen from the client's side only: five-tuple to state and sequence number. Made of a FlowTable: same entries of
 * 64 bytes, same bounds, same order of giving way.
 *
 * What it must never do is tell a client's own packet from its connection; so sequence numbers are taken within the largest window either
 * way, no packet moves a connection far by itself, and a SYN into a connection that is open makes it loose: its numbers are no longer looked at.
 *
 * Packets must be parsed, be TCP with ports, and have their `flowHash`.
 */
export class Connections {
  readonly table: FlowTable;
  /** Farthest that a sequence number may be from the last, bytes. */
  private window = LARGEST_WINDOW;

  // Out parameters of `check`, for whoever counts connections.
  /** For the packet's own addresses. */
  event: ConnectionEvent = ConnectionEvent.none;
  /** True when a counted connection had to give way: that of `table.evictedKind` (family in bits 8-15), `evictedSrc0` to `evictedDst3`. */
  evicted = false;
  /** Out parameter of `sweep`: the counted connections that it forgot, ENDED_WORDS each: family, four words of source, four of destination. */
  readonly ended = new Int32Array(SWEEP_MOST * ENDED_WORDS);
  private endedWords = 0;
  /** Counted connections that gave way to others while alive. */
  evictions = 0;

  /** `words`: 16 int32 a connection, all zero; a power of two of them, at least 32. `window`: 2^17 to 2^30 bytes. */
  constructor(words: Int32Array, timeouts: ConnectionTimeouts, window = LARGEST_WINDOW) {
    this.table = new FlowTable(words, { tcpSyn: 0, tcpEstablished: 0, tcpClosing: 0, udp: 0, other: 0 }, true);
    this.configure(timeouts, window);
  }

  /** Takes effect for all connections at once. */
  configure(timeouts: ConnectionTimeouts, window: number): void {
    setConnectionTimeouts(this.table.timeoutMs, timeouts);
    this.table.timeoutsChanged();
    if (!(window >= NEAR && window <= LARGEST_WINDOW)) {
      throw new RangeError(`a window is ${NEAR} to ${LARGEST_WINDOW} bytes, not ${window}`);
    }
    this.window = window;
  }

  /**
   * What this packet is to its connection, and notes it there. `adopt`: packets of unknown connections are taken for those of
   * connections that are older than the table.
   */
  check(packet: Packet, adopt: boolean, nowMs: number): TcpReason {
    this.event = ConnectionEvent.none;
    this.evicted = false;
    const flags = packet.tcpFlags & (TcpFlag.syn | TcpFlag.rst | TcpFlag.ack | TcpFlag.fin);
    if (!isOfClient(flags)) return TcpReason.unexpected;
    const table = this.table;
    let at = table.find(packet);
    if (at >= 0 && table.expired(at, nowMs)) {
      this.change(table.words[at + FlowField.state], ConnectionState.free);
      table.remove(at);
      at = -1;
    }
    const sequence = packet.view.getInt32(packet.l4 + 4);
    if (flags === TcpFlag.syn) {
      this.syn(at, (sequence + 1) | 0, packet, nowMs);
      return TcpReason.none;
    }
    if (at < 0) return adopt ? this.adopt(packet, flags, sequence, nowMs) : TcpReason.notFound;
    const reason = this.fit(at, packet, flags, sequence);
    if (reason === TcpReason.none) table.words[at + FlowField.lastSeen] = nowMs;
    return reason;
  }

  /**
   * Takes back the connection that the last `check` opened (`event` was open): its first packet goes no further, and the next SYN opens
   * it again.
   */
  undo(packet: Packet): void {
    const at = this.table.find(packet);
    if (at < 0) return;
    if (this.table.words[at + FlowField.state] === ConnectionState.looseFresh)
      this.become(at, ConnectionState.looseClosing);
    else this.table.remove(at);
    this.event = ConnectionEvent.none;
  }

  /** Forgets what timed out, as FlowTable.sweep; returns how many words of `ended` say whose. */
  sweep(nowMs: number): number {
    this.endedWords = 0;
    this.table.sweep(nowMs, this.onExpire);
    return this.endedWords;
  }

  private readonly onExpire = (_sequence: number, at: number): void => {
    const words = this.table.words;
    if (!isCounted(words[at + FlowField.state])) return;
    const { ended, endedWords: to } = this;
    this.endedWords = to + ENDED_WORDS;
    const family = (words[at + FlowField.kind] >>> 8) & 0xff;
    ended[to] = family;
    ended[to + 1] = words[at + FlowField.src0];
    ended[to + 5] = words[at + FlowField.dst0];
    // An IPv4 entry may have these words from the flow that lay here before.
    for (let i = 0; i < 3; i++) {
      ended[to + 2 + i] = family === 4 ? 0 : words[at + FlowField.src1 + i];
      ended[to + 6 + i] = family === 4 ? 0 : words[at + FlowField.dst1 + i];
    }
  };

  /** A SYN always passes: at worst its server answers that it has an open connection. `next`: the sequence number after it. */
  private syn(at: number, next: number, packet: Packet, nowMs: number): void {
    if (at < 0) {
      this.insert(packet, ConnectionState.fresh, next, nowMs);
      return;
    }
    const words = this.table.words;
    words[at + FlowField.lastSeen] = nowMs;
    const state: ConnectionState = words[at + FlowField.state];
    if (state === ConnectionState.closed) {
      words[at + ConnectionField.sequence] = next;
      this.become(at, ConnectionState.fresh);
    } else if (state === ConnectionState.fresh) {
      // Not the same one sent again.
      if (words[at + ConnectionField.sequence] !== next) this.become(at, ConnectionState.looseFresh);
    } else if (state === ConnectionState.closing || state === ConnectionState.looseClosing) {
      this.become(at, ConnectionState.looseFresh);
    } else if (!isLoose(state)) {
      this.become(at, ConnectionState.loose);
    }
  }

  private adopt(packet: Packet, flags: number, sequence: number, nowMs: number): TcpReason {
    // An RST ends a connection that is not known: there is nothing to remember.
    if ((flags & TcpFlag.rst) !== 0) return TcpReason.none;
    const state = (flags & TcpFlag.fin) !== 0 ? ConnectionState.closing : ConnectionState.adopted;
    this.insert(packet, state, endOf(packet, flags, sequence), nowMs);
    return TcpReason.none;
  }

  /** A packet of a known connection, no SYN. */
  private fit(at: number, packet: Packet, flags: number, sequence: number): TcpReason {
    const words = this.table.words;
    const state: ConnectionState = words[at + FlowField.state];
    if (isLoose(state)) {
      this.loose(at, flags, state);
      return TcpReason.none;
    }
    const distance = (sequence - words[at + ConnectionField.sequence]) | 0;
    // Behind a SYN, nothing is sent again but the SYN; and the window that the SYN-ACK gave is small.
    if (state === ConnectionState.fresh ? distance < -1 || distance > NEAR : !this.isWithin(distance)) {
      return TcpReason.outOfSequence;
    }
    if (state === ConnectionState.closed) {
      // A client without the connection resets each packet of the server that was still under way.
      return (flags & TcpFlag.rst) !== 0 ? TcpReason.none : TcpReason.alreadyClosed;
    }
    if ((flags & TcpFlag.rst) !== 0) this.reset(at, sequence, distance, state);
    else this.advance(at, packet, flags, sequence, distance);
    return TcpReason.none;
  }

  private loose(at: number, flags: number, state: ConnectionState): void {
    if ((flags & (TcpFlag.fin | TcpFlag.rst)) !== 0) this.become(at, ConnectionState.looseClosing);
    else if (state === ConnectionState.looseFresh) this.become(at, ConnectionState.loose);
  }

  /** An RST within the window. Only an exact one is sure to be taken (RFC 9293 §3.10.7.4, RFC 5961 §3.2). */
  private reset(at: number, sequence: number, distance: number, state: ConnectionState): void {
    if (distance === 0) this.become(at, ConnectionState.closed);
    // Of a fresh one, the server goes on waiting for the ACK.
    if (distance === 0 || state === ConnectionState.fresh || !isNear(distance)) return;
    // What was sent before it may still come.
    if (distance > 0) this.table.words[at + ConnectionField.sequence] = sequence;
    this.become(at, ConnectionState.closing);
  }

  /** Notes a packet, no RST, that is within the window. */
  private advance(at: number, packet: Packet, flags: number, sequence: number, distance: number): void {
    const words = this.table.words;
    const state: ConnectionState = words[at + FlowField.state];
    const end = endOf(packet, flags, sequence);
    if (state === ConnectionState.adopted || state === ConnectionState.fresh) this.become(at, ConnectionState.open);
    if (!isNear(distance)) {
      // Two neighbours from far off: the packets between were lost on their way here, or these are sent again.
      if (sequence === words[at + ConnectionField.far]) words[at + ConnectionField.sequence] = end;
      words[at + ConnectionField.far] = end;
      return;
    }
    const isAhead = ((end - words[at + ConnectionField.sequence]) | 0) > 0;
    if (isAhead) words[at + ConnectionField.sequence] = end;
    if ((flags & TcpFlag.fin) !== 0) this.become(at, ConnectionState.closing);
    // Data behind its FIN: then that was not the client's.
    else if (isAhead && state === ConnectionState.closing) this.become(at, ConnectionState.open);
  }

  private insert(packet: Packet, state: ConnectionState, sequence: number, nowMs: number): void {
    const table = this.table;
    const at = table.insert(packet, sequence, sequence, nowMs);
    if (isCounted(table.evictedState)) {
      this.evicted = true;
      if (table.evictedAlive) this.evictions++;
    }
    table.words[at + FlowField.state] = state;
    this.change(ConnectionState.free, state);
  }

  private become(at: number, state: ConnectionState): void {
    const words = this.table.words;
    this.change(words[at + FlowField.state], state);
    words[at + FlowField.state] = state;
  }

  private change(before: ConnectionState, after: ConnectionState): void {
    this.event = (this.event + (isCounted(after) ? 1 : 0) - (isCounted(before) ? 1 : 0)) as ConnectionEvent;
  }

  private isWithin(distance: number): boolean {
    // One more behind: keep-alives and window probes send the number before (RFC 9293 §3.8.4, Linux's tcp_xmit_probe_skb).
    return distance >= -this.window - 1 && distance <= this.window;
  }
}

/** RFC 9293 §3.10.7: only SYN and RST come without ACK; SYN-ACK is a server's. `flags`: SYN, RST, ACK and FIN. */
function isOfClient(flags: number): boolean {
  if ((flags & TcpFlag.syn) !== 0) return flags === TcpFlag.syn;
  if ((flags & TcpFlag.rst) !== 0) return (flags & TcpFlag.fin) === 0;
  return (flags & TcpFlag.ack) !== 0;
}

function isNear(distance: number): boolean {
  return distance >= -NEAR && distance <= NEAR;
}

/** Sequence number behind the packet's last byte; of a first fragment, behind what it has of it. */
function endOf(packet: Packet, flags: number, sequence: number): number {
  const headerBytes = (packet.view.getUint8(packet.l4 + 12) >>> 2) & 0x3c;
  const payload = (packet.l3 + packet.l3Length - packet.l4 - headerBytes) | 0;
  return (sequence + payload + (flags & TcpFlag.fin)) | 0;
}

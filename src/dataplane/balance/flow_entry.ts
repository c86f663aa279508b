import type { Packet } from '../packet/packet.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';

/** Words of a slot: 64 bytes, one cache line, the same for IPv4 and IPv6. */
export const enum FlowField {
  STRIDE = 16,
  STRIDE_SHIFT = 4,
  /** 1 << 16 | family << 8 | protocol; 0: nothing in this slot. */
  kind = 0,
  src0 = 1,
  dst0 = 2,
  ports = 3,
  backend = 4,
  /** Incarnation of the backend when the flow was given to it. */
  incarnation = 5,
  /** FlowState; 0: nothing in this slot. */
  state = 6,
  /** Clock in ms, wrapping int32. */
  lastSeen = 7,
  src1 = 8,
  src2 = 9,
  src3 = 10,
  dst1 = 11,
  dst2 = 12,
  dst3 = 13,
  /** Of the slot as a home, not of the flow in it; see Lodgers. */
  lodgers = 14,
  /** Hash of the flow: where its two windows start. */
  hash = 15,
}

/** Where the flows are whose first window starts at a slot, and those that came to it as their second. */
export const enum Lodgers {
  /** Slots of a window: how far from its home a flow may lie. */
  WINDOW = 24,
  /** Bit i: the i-th slot of the window that starts here has a flow that belongs to this window. */
  HERE = 0xffffff,
  /** From this bit on: how many flows of this home are in their second window instead. */
  AWAY_SHIFT = 24,
  MOST_AWAY = 255,
}

/**
 * How far a flow has come, as its client's side shows it; the answers do not pass here. Those that one packet is enough for are the
 * first to give way when the table is full: see `isProven`.
 */
export const enum FlowState {
  free = 0,
  /** Neither TCP nor UDP; two packets and more. */
  other = 1,
  /** UDP; two packets and more. */
  udp = 2,
  /** The client's SYN was seen, no ACK of its own yet. */
  tcpSyn = 3,
  tcpEstablished = 4,
  /** The client sent FIN or RST. */
  tcpClosing = 5,
  /** UDP, one packet. */
  udpSingle = 6,
  /** A connection that was first seen in its middle, one packet: another node had it, or nobody. */
  tcpPickup = 7,
  /** Neither TCP nor UDP, one packet. */
  otherSingle = 8,
  /** Number of states. */
  COUNT = 9,
}

/** For looking through a full window; see FlowTable. */
export const enum Weight {
  /** Bit of a flow's weight that says it is unproven; below it, how long it was silent, ms. */
  UNPROVEN = 1 << 30,
  /** `isProven` by state, a bit each. */
  PROVEN = (1 << FlowState.tcpEstablished) | (1 << FlowState.udp) | (1 << FlowState.other),
}

/** True for a flow that sent more than the one packet that made it, and did not end. */
export function isProven(state: FlowState): boolean {
  return state === FlowState.tcpEstablished || state === FlowState.udp || state === FlowState.other;
}

/** State of a flow that this packet is the first of. */
export function firstState(packet: Packet): FlowState {
  if (packet.protocol === IpProtocol.udp) return FlowState.udpSingle;
  if (packet.protocol !== IpProtocol.tcp) return FlowState.otherSingle;
  const flags = packet.tcpFlags;
  if ((flags & (TcpFlag.fin | TcpFlag.rst)) !== 0) return FlowState.tcpClosing;
  return (flags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn ? FlowState.tcpSyn : FlowState.tcpPickup;
}

/** State after one more packet of the client. */
export function nextState(state: FlowState, packet: Packet): FlowState {
  if (packet.protocol === IpProtocol.tcp) return nextTcpState(state, packet.tcpFlags);
  if (state === FlowState.udpSingle) return FlowState.udp;
  return state === FlowState.otherSingle ? FlowState.other : state;
}

/**
 * State after one more TCP packet of the client. FIN and RST close from any state, and nothing re-opens: the ACKs that follow a FIN
 * leave the flow on its short timeout. (A new connection on the same ports is a new flow: see `startsAnew`.)
 */
function nextTcpState(state: FlowState, tcpFlags: number): FlowState {
  if ((tcpFlags & (TcpFlag.fin | TcpFlag.rst)) !== 0) return FlowState.tcpClosing;
  if (state !== FlowState.tcpSyn && state !== FlowState.tcpPickup) return state;
  // A SYN alone is one sent again, or the client that was picked up begins anew.
  return (tcpFlags & TcpFlag.ack) !== 0 ? FlowState.tcpEstablished : FlowState.tcpSyn;
}

/**
 * True when a TCP packet on a remembered flow begins another connection, which is balanced like any new one: a SYN after the old one
 * was closed, or a SYN on a backend that is draining, unless that SYN is only sent again. On any other flow a SYN changes nothing:
 * it may be spoofed, and a client that lost its state gets its RST from the backend that has the old connection.
 */
export function startsAnew(state: FlowState, tcpFlags: number, draining: boolean): boolean {
  if ((tcpFlags & (TcpFlag.syn | TcpFlag.ack)) !== TcpFlag.syn) return false;
  if (state === FlowState.tcpClosing) return true;
  return draining && (state === FlowState.tcpEstablished || state === FlowState.tcpPickup);
}

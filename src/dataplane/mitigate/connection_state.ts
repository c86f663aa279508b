import { FlowField, FlowState } from '../balance/flow_entry.js';

/**
 * How far a TCP connection has come, as its client's packets show it. Connections lie in a FlowTable, so each number is that of the
 * FlowState which gives way in the same order when the table is full: first those that are not proven. Numbers above FlowState's
 * are not proven.
 */
export const enum ConnectionState {
  free = FlowState.free,
  /** New: the client's SYN was seen. `sequence` is the number after it. */
  fresh = FlowState.tcpSyn,
  /** As fresh, and then a SYN with another number: `second` is the number after that one. */
  freshTwice = FlowState.udpSingle,
  /** The client sent ACK. */
  open = FlowState.tcpEstablished,
  /** Open or closing, and then a SYN with another number: `second` is the number after it. The client began anew, or somebody else sent it. */
  offered = FlowState.other,
  /** As offered, and then packets that fit `second`: both go on. */
  twofold = FlowState.udp,
  /** As twofold, and then a FIN or RST of either. */
  ending = FlowState.COUNT,
  /** First seen in its middle, one packet. */
  adopted = FlowState.tcpPickup,
  /** The client sent FIN, or an RST that its server may not have taken. */
  closing = FlowState.tcpClosing,
  /** The client sent an RST with the very number that its server waits for. */
  closed = FlowState.otherSingle,
}

/** Words of an entry, where a FlowTable has backend and incarnation. */
export const enum ConnectionField {
  /** Sequence number behind the last byte seen. */
  sequence = FlowField.backend,
  /** Of `freshTwice`, `offered`, `twofold` and `ending`: the other sequence number. Else: that behind the last packet from far off. */
  second = FlowField.incarnation,
}

/** Whether the client still has it: what connlimit counts. */
export function isCounted(state: ConnectionState): boolean {
  switch (state) {
    case ConnectionState.free:
    case ConnectionState.closing:
    case ConnectionState.ending:
    case ConnectionState.closed:
      return false;
    default:
      return true;
  }
}

/** Whether an open connection has a second beside it. */
export function hasSecond(state: ConnectionState): boolean {
  return state === ConnectionState.offered || state === ConnectionState.twofold || state === ConnectionState.ending;
}

/** Seconds without a packet after which a connection is forgotten, by how far it came. */
export interface ConnectionTimeouts {
  /** Above 64 s, the longest pause between the SYNs of one client (Linux: 1, 2, 4 … 64 s) and between a server's SYN-ACKs. */
  fresh: number;
  /** Above the time between keep-alives (Linux: 2 h). */
  open: number;
  /** The client has closed its half; the server may still send. */
  closing: number;
  closed: number;
}

export const DEFAULT_CONNECTION_TIMEOUTS: ConnectionTimeouts = { fresh: 90, open: 10_800, closing: 600, closed: 10 };

/** Milliseconds by state, for FlowTable.timeoutMs. */
export function setConnectionTimeouts(timeoutMs: Int32Array, timeouts: ConnectionTimeouts): void {
  timeoutMs[ConnectionState.fresh] = timeoutMs[ConnectionState.freshTwice] = timeouts.fresh * 1000;
  timeoutMs[ConnectionState.open] = timeoutMs[ConnectionState.offered] = timeouts.open * 1000;
  timeoutMs[ConnectionState.twofold] = timeoutMs[ConnectionState.adopted] = timeouts.open * 1000;
  timeoutMs[ConnectionState.closing] = timeoutMs[ConnectionState.ending] = timeouts.closing * 1000;
  timeoutMs[ConnectionState.closed] = timeouts.closed * 1000;
}

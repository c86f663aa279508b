import type { ConnectionTimeouts } from '../../shared/mitigation_layout.js';
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
  /** The client sent ACK. */
  open = FlowState.tcpEstablished,
  /** First seen in its middle, one packet. */
  adopted = FlowState.tcpPickup,
  /** The client sent FIN, or an RST that its server may not have taken. */
  closing = FlowState.tcpClosing,
  /** The client sent an RST with the very number that its server waits for. */
  closed = FlowState.otherSingle,
  /**
   * A SYN with another number came while it was fresh or closing: a client that tries again or uses its ports again, or somebody else. Which
   * sequence numbers are the client's cannot be told from here, so none is held against it.
   */
  looseFresh = FlowState.udpSingle,
  /** As looseFresh and then another packet; or such a SYN came while it was open. */
  loose = FlowState.other,
  /** As loose, and then a FIN or RST. */
  looseClosing = FlowState.COUNT,
}

/** Words of an entry, where a FlowTable has backend and incarnation. */
export const enum ConnectionField {
  /** Sequence number behind the last byte seen. */
  sequence = FlowField.backend,
  /** That behind the last packet from far off. */
  far = FlowField.incarnation,
}

/** Whether the client still has it: what connlimit counts. */
export function isCounted(state: ConnectionState): boolean {
  switch (state) {
    case ConnectionState.free:
    case ConnectionState.closing:
    case ConnectionState.looseClosing:
    case ConnectionState.closed:
      return false;
    default:
      return true;
  }
}

/** Whether sequence numbers are not looked at. */
export function isLoose(state: ConnectionState): boolean {
  return (
    state === ConnectionState.loose || state === ConnectionState.looseFresh || state === ConnectionState.looseClosing
  );
}

export const DEFAULT_CONNECTION_TIMEOUTS: ConnectionTimeouts = { fresh: 90, open: 10_800, closing: 600, closed: 10 };

/** Milliseconds by state, for FlowTable.timeoutMs. */
export function setConnectionTimeouts(timeoutMs: Int32Array, timeouts: ConnectionTimeouts): void {
  timeoutMs[ConnectionState.fresh] = timeouts.fresh * 1000;
  timeoutMs[ConnectionState.open] = timeouts.open * 1000;
  timeoutMs[ConnectionState.loose] = timeouts.open * 1000;
  timeoutMs[ConnectionState.adopted] = timeouts.open * 1000;
  timeoutMs[ConnectionState.closing] = timeouts.closing * 1000;
  timeoutMs[ConnectionState.looseClosing] = timeouts.closing * 1000;
  // The connection before it may be half-closed.
  timeoutMs[ConnectionState.looseFresh] = Math.max(timeouts.fresh, timeouts.closing) * 1000;
  timeoutMs[ConnectionState.closed] = timeouts.closed * 1000;
}

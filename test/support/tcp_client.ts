/**
 * A TCP client as the guard sees it: only its own packets, made by a little simulation of both ends and the path between. What the path
 * does to packets before they come to the guard is up to the test.
 */
import { DEFAULT_CONNECTION_TIMEOUTS } from '../../src/dataplane/mitigate/connection_state.js';
import { Connections, type TcpReason } from '../../src/dataplane/mitigate/connections.js';
import { Packet, PacketFlag } from '../../src/dataplane/packet/packet.js';
import { hashed } from './flow_packets.js';

export interface Segment {
  flags: number;
  /** Sequence number, int32. */
  sequence: number;
  payload: number;
}

export const SYN = 2;
export const ACK = 16;
export const FIN = 1;
export const RST = 4;

/** One packet object for all segments. Only what the tracker looks at is filled in. */
export class SegmentPacket {
  readonly packet = new Packet(new DataView(new ArrayBuffer(256)), 2048);

  /** A segment from this source port. `family` 6: the same numbers in other words. */
  of(port: number, segment: Segment, family: 4 | 6 = 4): Packet {
    const packet = this.packet;
    packet.family = family;
    packet.protocol = 6;
    packet.flags = PacketFlag.hasPorts;
    packet.src0 = 0x0a000001;
    packet.dst0 = 0xc6336401 | 0;
    packet.src1 = packet.src2 = packet.dst1 = packet.dst2 = 0;
    packet.src3 = packet.dst3 = family === 6 ? port : 0;
    packet.ports = (port << 16) | 80;
    packet.l3 = 14;
    packet.l4 = family === 4 ? 34 : 54;
    packet.l3Length = packet.l4 - 14 + 20 + segment.payload;
    packet.view.setInt32(packet.l4 + 4, segment.sequence);
    packet.view.setUint8(packet.l4 + 12, 0x50);
    packet.view.setUint8(packet.l4 + 13, segment.flags);
    return hashed(packet);
  }
}

/**
 * All packets of one connection in the order in which the client sends them, retransmissions included, for a random life: handshake with SYNs
 * sent again, data, ACKs, keep-alives, probes, an end by FIN or RST or none.
 */
export function connectionOf(next: () => number): Segment[] {
  const chance = (p: number): boolean => next() < p;
  const upTo = (most: number): number => Math.floor(next() * (most + 1));
  const first = (next() * 0x100000000) | 0;
  const early = chance(0.1) ? 1 + upTo(1400) : 0;
  const segments: Segment[] = [];
  const send = (flags: number, sequence: number, payload = 0): void => {
    segments.push({ flags, sequence: sequence | 0, payload });
  };
  for (let i = upTo(chance(0.2) ? 5 : 0); i >= 0; i--) send(SYN, first, i === 0 ? early : 0);
  let at = (first + 1) | 0;
  // Fast Open data that the server did not take is sent again.
  if (early > 0 && chance(0.5)) at = (at + early) | 0;
  if (chance(0.05)) {
    send(RST, at);
    return segments;
  }
  send(ACK, at);
  const start = at;
  for (let i = upTo(30); i > 0; i--) {
    const kind = next();
    if (kind < 0.5) {
      const payload = 1 + upTo(1459);
      send(ACK | 8, at, payload);
      at = (at + payload) | 0;
    } else if (kind < 0.7) {
      send(ACK, at);
    } else if (kind < 0.8) {
      // Keep-alive or window probe: the number before, with no byte or one.
      send(ACK, at - 1, upTo(1));
    } else if (at !== start) {
      // Sent again, from anywhere that the window still has.
      const back = Math.min((at - start) >>> 0, 1 + upTo(60_000));
      send(ACK, at - back, Math.min(back, 1 + upTo(1459)));
    }
  }
  if (chance(0.6)) {
    const payload = chance(0.3) ? upTo(1460) : 0;
    send(FIN | ACK, at, payload);
    if (chance(0.3)) send(FIN | ACK, at, payload);
    at = (at + payload + 1) | 0;
    for (let i = upTo(5); i > 0; i--) send(ACK, at);
    if (chance(0.2)) send(RST, at);
  } else if (chance(0.7)) {
    send(chance(0.5) ? RST : RST | ACK, at);
    // What the server had under way is reset once more.
    for (let i = upTo(2); i > 0; i--) send(RST, at);
  }
  return segments;
}

export function tracker(slots = 1024, window?: number): Connections {
  return new Connections(new Int32Array(slots * 16), DEFAULT_CONNECTION_TIMEOUTS, window);
}

/** Flags, sequence number, payload, ms since the one before. */
export type Step = [flags: number, sequence: number, payload?: number, afterMs?: number];

/** What becomes of a connection's packets. */
export function reasons(
  steps: Step[],
  { window, adopt = false }: { window?: number; adopt?: boolean } = {},
): TcpReason[] {
  const maker = new SegmentPacket();
  const connections = tracker(64, window);
  let now = 0x7fffff00;
  return steps.map(([flags, sequence, payload = 0, afterMs = 1]) => {
    now = (now + afterMs) | 0;
    return connections.check(maker.of(5000, { flags, sequence, payload }), adopt, now);
  });
}

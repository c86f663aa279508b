import type { Packet } from './packet.js';
import { IpProtocol, Wire } from './wire.js';

/** Kinds and whole lengths in bytes of TCP options (RFC 9293 section 3.1). */
export const enum TcpOption {
  end = 0,
  noOperation = 1,
  maximumSegmentSize = 2,
  maximumSegmentSizeBytes = 4,
  /** Katran's server id, from client to load balancer; not assigned by IANA. Servers send theirs to the client as kind 0xb6. */
  serverId = 0xb7,
  serverIdBytes = 6,
}

/**
 * Offset in packet memory of the first option of this kind, at its kind byte, or 0 when there is none. `length` is the whole
 * option's in bytes: one of the kind with another length ends the search, as does every malformed length and the
 * end-of-list option. Packets that are not TCP, and later fragments, have none. Never reads outside the TCP header; at most 40 steps.
 *
 * The packet must have been parsed; its data offset then lies in the IP packet.
 */
export function findTcpOption(packet: Packet, kind: number, length: number): number {
  if (packet.protocol !== IpProtocol.tcp || packet.l4 === 0) return 0;
  const view = packet.view;
  const end = (packet.l4 + ((view.getUint8(packet.l4 + 12) >>> 2) & 0x3c)) | 0;
  let at = (packet.l4 + Wire.tcpBytes) | 0;
  // An option of `length` has to fit, so nothing behind this can be one.
  const last = (end - length) | 0;
  while (at <= last) {
    const found = view.getUint8(at);
    if (found === TcpOption.noOperation) {
      at = (at + 1) | 0;
      continue;
    }
    if (found === TcpOption.end || end - at < 2) return 0;
    const bytes = view.getUint8(at + 1);
    if (bytes < 2 || bytes > end - at) return 0;
    if (found === kind) return bytes === length ? at : 0;
    at = (at + bytes) | 0;
  }
  return 0;
}

/** Where the maximum segment size option starts (kind 2, length 4; the value is at + 2), or 0. */
export function mssOptionOffset(packet: Packet): number {
  return findTcpOption(packet, TcpOption.maximumSegmentSize, TcpOption.maximumSegmentSizeBytes);
}

/**
 * The server id of Katran's option as int32, 0 when there is none (Katran gives 0 no meaning either). On the wire it is *little-endian*:
 * Katran copies it as it lies in the memory of x86. Katran looks at the first 15 options, each padding byte being one; this looks at all.
 *
 * Source: Katran `katran/lib/bpf/pckt_parsing.h`, tcp_hdr_opt_lookup_server_id.
 */
export function tcpServerId(packet: Packet): number {
  const at = findTcpOption(packet, TcpOption.serverId, TcpOption.serverIdBytes);
  return at === 0 ? 0 : packet.view.getInt32(at + 2, true);
}

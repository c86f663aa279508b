import { QuicPacketType, type QuicHeader } from './quic.js';

/** Bytes that Katran wants of a connection id before it looks at it (QUIC_MIN_CONNID_LEN). */
const MIN_CID_BYTES = 8;

/**
 * The server id in a connection id as Katran's servers make them, as int32, or 0 when there is none:
 *
 *   version 1:  01iiiiii iiiiiiii ii......                          16 bits
 *   version 2:  10...... iiiiiiii iiiiiiii iiiiiiii                 24 bits
 *   version 3:  11...... iiiiiiii iiiiiiii iiiiiiii iiiiiiii        32 bits
 *
 * Initial and 0-RTT packets have none: their id is the client's own. Neither has id 0, version 0, or an id shorter than 8 bytes. With a short
 * header, 8 bytes must follow the first one.
 *
 * Ids of 2^31 and above are found here; in Katran they turn negative and are not.
 *
 * Source: Katran `katran/lib/bpf/pckt_parsing.h`, parse_quic.
 */
export function katranServerId(view: DataView, header: QuicHeader): number {
  const type = header.type;
  if (type !== QuicPacketType.short && type !== QuicPacketType.handshake && type !== QuicPacketType.retry) return 0;
  if (header.cidBytes < MIN_CID_BYTES) return 0;
  const word = view.getInt32(header.cid);
  switch (word >>> 30) {
    case 1:
      return (word >>> 14) & 0xffff;
    case 2:
      return word & 0xffffff;
    case 3:
      return (word << 8) | view.getUint8(header.cid + 4);
    default:
      return 0;
  }
}

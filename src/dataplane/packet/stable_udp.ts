import type { Packet } from './packet.js';
import { udpPayload, udpPayloadEnd } from './udp_payload.js';

const enum StableUdp {
  /** First byte of a payload with a stable-routing header. */
  type = 0x52,
  bytes = 8,
}

/**
 * The server id of Katran's stable-routing header, 1 to 2^24 - 1, or 0 when the packet has none: 8 bytes at the start of the UDP payload,
 * of which the first is 0x52 and the next three are the id, big-endian. A shorter payload has no header.
 *
 * A QUIC packet with a short header may start with 0x52 too, so a service has one or the other.
 *
 * Source: Katran `katran/lib/bpf/pckt_parsing.h`, parse_udp_stable_rt_hdr.
 */
export function stableUdpServerId(packet: Packet): number {
  const at = udpPayload(packet);
  if (at === 0 || udpPayloadEnd(packet) - at < StableUdp.bytes) return 0;
  const word = packet.view.getInt32(at);
  return word >>> 24 === StableUdp.type ? word & 0xffffff : 0;
}

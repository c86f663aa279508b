/** A packet of the short way as the flow table wants it, where a loop cannot do what is to be done. */
import { Packet, PacketFlag } from './packet/packet.js';
import { TcpFlag } from './packet/wire.js';
import { Heading } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';

/** Where its TCP header would be, of which only the flags are there. 0 would say that it has none. */
const L4 = 4;
const FLAGS_AT = L4 + 13;

/** A packet without bytes, to be filled: TCP in mid-connection or UDP. */
export function tuplePacket(): Packet {
  const view = new DataView(new ArrayBuffer(FLAGS_AT + 1));
  // With others it would not be plain.
  view.setUint8(FLAGS_AT, TcpFlag.ack);
  const packet = new Packet(view, 1);
  packet.l4 = L4;
  packet.flags = PacketFlag.hasPorts;
  return packet;
}

/** Writes to a `tuplePacket` what the flow table asks of the packet at position `i`, but for its hash. */
export function fill(packet: Packet, headers: PlainHeaders, i: number): void {
  const head = headers.heading[i];
  packet.family = head < 0 ? 6 : 4;
  packet.protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
  packet.ports = headers.ports[i];
  packet.src0 = headers.src0[i];
  packet.dst0 = headers.dst0[i];
  if (head >= 0) return;
  packet.src1 = headers.src1[i];
  packet.src2 = headers.src2[i];
  packet.src3 = headers.src3[i];
  packet.dst1 = headers.dst1[i];
  packet.dst2 = headers.dst2[i];
  packet.dst3 = headers.dst3[i];
}

/** Packets for limits, as words: what parse() would have found, without bytes. */
import { Packet } from '../../src/dataplane/packet/packet.js';
import { parseAddress } from '../../src/shared/addr.js';

const memory = new DataView(new ArrayBuffer(2048));

export interface LimitPacket {
  src?: string;
  dst?: string;
  sport?: number;
  dport?: number;
  /** Layer-3 length, bytes. */
  length?: number;
}

export function limitPacket({
  src = '192.0.2.1',
  dst = '198.51.100.1',
  sport = 1024,
  dport = 443,
  length = 100,
}: LimitPacket = {}): Packet {
  const packet = new Packet(memory, 2048);
  const from = parseAddress(src);
  const to = parseAddress(dst);
  packet.family = from.family;
  [packet.src0, packet.src1, packet.src2, packet.src3] = [0, 1, 2, 3].map((i) => from.words[i] ?? 0);
  [packet.dst0, packet.dst1, packet.dst2, packet.dst3] = [0, 1, 2, 3].map((i) => to.words[i] ?? 0);
  packet.ports = (sport << 16) | dport;
  packet.protocol = 17;
  packet.l3Length = length;
  return packet;
}

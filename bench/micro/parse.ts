/** packet/parse.ts: headers to fields of a Packet. */
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import { BURST, measure, type MicroCase } from './harness.js';
import { burst, CHUNK, CLIENT_PORT, HEADROOM, SERVICE_PORT, type FrameOptions } from './packets.js';

/** What the loop costs that every body has: a packet object's turn, and one field of it. */
function loopOnly(): MicroCase {
  const packets = burst({ family: 4, protocol: IpProtocol.udp, bytes: 64 });
  const body = (): number => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) sum = (sum + packets[i].dataEnd) | 0;
    return sum;
  };
  return { name: 'the loop alone', body, expected: sumOf((i) => i * CHUNK + HEADROOM + 64) };
}

function parseCase(name: string, options: FrameOptions, l4: number): MicroCase {
  const packets = burst(options);
  return { name, body: () => parseAll(packets), expected: sumOf((i) => l4 + CLIENT_PORT + i + SERVICE_PORT) };
}

/** Places and parses a burst, as Path does; the sum has a field of each layer, and the reason if there was one. */
function parseAll(packets: readonly Packet[]): number {
  let sum = 0;
  for (let i = 0; i < BURST; i++) {
    const packet = packets[i];
    packet.place(packet.data, (packet.dataEnd - packet.data) | 0);
    const reason = parse(packet);
    const ports = ((packet.ports >>> 16) + (packet.ports & 0xffff)) | 0;
    sum = (sum + packet.l4 - packet.data + ports + (reason << 20)) | 0;
  }
  return sum;
}

function sumOf(each: (i: number) => number): number {
  return Array.from({ length: BURST }, (_, i) => each(i)).reduce((sum, value) => sum + value, 0);
}

const tcp = IpProtocol.tcp;
const udp = IpProtocol.udp;
measure([
  loopOnly(),
  parseCase('IPv4, UDP', { family: 4, protocol: udp, bytes: 64 }, 34),
  parseCase('IPv4, TCP', { family: 4, protocol: tcp, bytes: 64 }, 34),
  parseCase('IPv4, UDP, VLAN tag', { family: 4, protocol: udp, bytes: 64, vlan: 5 }, 38),
  parseCase('IPv6, TCP', { family: 6, protocol: tcp, bytes: 78 }, 54),
]);

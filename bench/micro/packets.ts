/** Packets for the micro benches: frames made by hand, and the objects of one burst that point at them. */
import { Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import { parseAddress } from '../../src/shared/addr.js';
import { BURST } from './harness.js';

export const CHUNK = 2048;
/** In front of each packet, as AF_XDP leaves it. */
export const HEADROOM = 256;
export const CLIENT_PORT = 1024;
export const SERVICE_PORT = 443;

const ADDRESSES = { 4: ['10.1.0.1', '198.51.100.10'], 6: ['2001:db8:1::1', '2001:db8::10'] } as const;
const HEADER_BYTES = { 4: 20, 6: 40 } as const;

export interface FrameOptions {
  family: 4 | 6;
  protocol: IpProtocol.tcp | IpProtocol.udp;
  /** Whole frame, bytes. */
  bytes: number;
  /** Source port. */
  sport?: number;
  /** A VLAN tag of this id. */
  vlan?: number;
  /** Bytes in front of the packet, default HEADROOM. */
  headroom?: number;
}

/** A frame to the benches' VIP. Transport checksums are 0: nothing here looks at them. TCP has ACK set. */
export function frame({ family, protocol, bytes, sport = CLIENT_PORT, vlan }: FrameOptions): Uint8Array {
  const data = new Uint8Array(bytes);
  const view = new DataView(data.buffer);
  const etherType = family === 4 ? 0x0800 : 0x86dd;
  data.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
  let l3 = 14;
  if (vlan === undefined) view.setUint16(12, etherType);
  else {
    view.setUint16(12, 0x8100);
    view.setUint16(14, vlan);
    view.setUint16(16, etherType);
    l3 = 18;
  }
  const l4 = l3 + HEADER_BYTES[family];
  if (family === 4) {
    data.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol], l3);
    view.setUint16(l3 + 2, bytes - l3);
  } else {
    data.set([0x60, 0, 0, 0, 0, 0, protocol, 64], l3);
    view.setUint16(l3 + 4, bytes - l4);
  }
  ADDRESSES[family].forEach((text, which) => {
    const words = family === 4 ? 1 : 4;
    const at = family === 4 ? l3 + 12 : l3 + 8;
    for (let word = 0; word < words; word++) {
      view.setInt32(at + (which * words + word) * 4, parseAddress(text).words[word]);
    }
  });
  if (family === 4) view.setUint16(l3 + 10, checksum(data.subarray(l3, l4)));
  view.setUint16(l4, sport);
  view.setUint16(l4 + 2, SERVICE_PORT);
  if (protocol === IpProtocol.udp) view.setUint16(l4 + 4, bytes - l4);
  else data.set([0x50, 0x10], l4 + 12);
  return data;
}

/** RFC 1071 by the book, byte by byte: what the fast one is held against. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) {
    sum += i % 2 === 0 ? bytes[i] * 256 : bytes[i];
    if (sum > 0xffff) sum -= 0xffff;
  }
  return 0xffff - sum;
}

/** A burst of packets as a worker has them, in chunks of their own, placed but not parsed. Source ports count up. */
export function burst(options: FrameOptions): Packet[] {
  const view = new DataView(new ArrayBuffer(BURST * CHUNK));
  const memory = new Uint8Array(view.buffer);
  return Array.from({ length: BURST }, (_, i) => {
    const bytes = frame({ sport: CLIENT_PORT + i, ...options });
    const packet = new Packet(view, CHUNK);
    packet.place(i * CHUNK + (options.headroom ?? HEADROOM), bytes.length);
    memory.set(bytes, packet.data);
    return packet;
  });
}

/** The same, parsed; throws when the parser objects. */
export function parsedBurst(options: FrameOptions): Packet[] {
  const packets = burst(options);
  for (const packet of packets) {
    if (parse(packet) !== 0) throw new Error(`a frame of the bench is malformed: reason ${packet.malformed}`);
  }
  return packets;
}

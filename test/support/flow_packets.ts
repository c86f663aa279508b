import { expect } from 'vitest';
import { FlowField, Lodgers } from '../../src/dataplane/balance/flow_entry.js';
import { FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { FlowHash } from '../../src/dataplane/balance/hash.js';
import { Packet } from '../../src/dataplane/packet/packet.js';

/** Seconds; long enough to tell apart. */
export const TIMEOUTS = { tcpSyn: 5, tcpEstablished: 100, tcpClosing: 2, udp: 30, other: 10 };
export const SYN = 2;
export const ACK = 16;
export const FIN = 1;
export const RST = 4;

export const hash = new FlowHash([1, 2, 3, 4]);
export const table = (slots: number): FlowTable => new FlowTable(new Int32Array(slots * FlowField.STRIDE), TIMEOUTS);

/** Sets `flowHash` from the packet's five-tuple. */
export function hashed(packet: Packet, by: FlowHash = hash): Packet {
  const { src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports, protocol } = packet;
  packet.flowHash =
    packet.family === 4
      ? by.ipv4(src0, dst0, ports, protocol)
      : by.ipv6(src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports, protocol);
  return packet;
}

/** A parsed packet of flow number n, without bytes: UDP over IPv4 unless `fields` say otherwise. */
export function flow(n: number, fields: Partial<Packet> = {}): Packet {
  const packet = new Packet(new DataView(new ArrayBuffer(64)), 2048);
  Object.assign(packet, { family: 4, protocol: 17, src0: n | 0, dst0: 0x0a000001, ports: (n * 65537) | 0 }, fields);
  return hashed(packet);
}

/** A TCP packet of flow number n with these flags. */
export function tcp(n: number, tcpFlags: number): Packet {
  const packet = flow(n, { protocol: 6, l4: 34 });
  packet.view.setUint8(34 + 13, tcpFlags);
  return packet;
}

/** One packet object for many flows, so that a test can have millions. */
export class Sender {
  readonly packet: Packet;

  constructor(fields: Partial<Packet> = { protocol: 6, l4: 34 }) {
    this.packet = flow(0, fields);
  }

  /** The packet of flow number n. */
  of(n: number, tcpFlags = ACK): Packet {
    const packet = this.packet;
    packet.src0 = n | 0;
    packet.ports = Math.imul(n, 65537);
    packet.view.setUint8(34 + 13, tcpFlags);
    return hashed(packet);
  }
}

/** Everything that the table says about where its flows are, checked against the flows themselves. */
export function expectSound(flows: FlowTable): void {
  const { words, slots } = flows;
  const mask = words.length - 1;
  const lodgers = new Int32Array(slots);
  const packet = flow(0);
  let live = 0;
  for (let slot = 0; slot < slots; slot++) {
    const at = slot * FlowField.STRIDE;
    const isLive = words[at + FlowField.kind] !== 0;
    if (isLive !== (words[at + FlowField.state] !== 0)) throw new Error(`slot ${slot}: kind and state disagree`);
    if (!isLive) continue;
    live++;
    packet.family = (words[at] >> 8) & 255;
    packet.protocol = words[at] & 255;
    packet.src0 = words[at + FlowField.src0];
    packet.dst0 = words[at + FlowField.dst0];
    packet.ports = words[at + FlowField.ports];
    hashed(packet);
    if (packet.flowHash !== words[at + FlowField.hash]) throw new Error(`slot ${slot}: the hash of another flow`);
    if (flows.find(packet) !== at) throw new Error(`slot ${slot}: its flow is not found there`);
    // In which window it is, only the bits can say.
    const home = (packet.flowHash << FlowField.STRIDE_SHIFT) & mask;
    const distance = ((at - home) & mask) / FlowField.STRIDE;
    const isHere = distance < Lodgers.WINDOW && (words[home + FlowField.lodgers] >>> distance) % 2 === 1;
    if (isHere) lodgers[home / FlowField.STRIDE] |= 1 << distance;
    else lodgers[home / FlowField.STRIDE] += 1 << Lodgers.AWAY_SHIFT;
  }
  expect(flows.count).toBe(live);
  let bits = 0;
  for (let slot = 0; slot < slots; slot++) {
    const word = words[slot * FlowField.STRIDE + FlowField.lodgers];
    if (word >>> Lodgers.AWAY_SHIFT !== lodgers[slot] >>> Lodgers.AWAY_SHIFT)
      throw new Error(`slot ${slot}: flows away`);
    if ((lodgers[slot] & Lodgers.HERE & ~word) !== 0) throw new Error(`slot ${slot}: flows here`);
    for (let left = word & Lodgers.HERE; left !== 0; left &= left - 1) bits++;
  }
  // One bit a flow, at home or in the second window.
  expect(bits).toBe(live);
}

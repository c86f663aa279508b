import { expect } from 'vitest';
import { internetChecksum, onesComplementSum, pseudoHeaderSum } from './packet_builder.js';

/** An ICMP message as a receiver sees it. */
export interface IcmpMessage {
  dmac: string;
  smac: string;
  /** VLAN tags as they are, hex. */
  tags: string;
  src: string;
  dst: string;
  ttl: number;
  type: number;
  code: number;
  /** Second word. */
  rest: number;
  body: Uint8Array;
  /** Bytes from the IP header on. */
  ipBytes: number;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Reads a frame byte by byte, with no code of the data path; fails when a length, version or checksum is not right. */
export function readIcmp(frame: Uint8Array): IcmpMessage {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let l3 = 14;
  while ([0x8100, 0x88a8].includes(view.getUint16(l3 - 2))) l3 += 4;
  const etherType = view.getUint16(l3 - 2);
  expect([0x0800, 0x86dd]).toContain(etherType);
  const isIpv4 = etherType === 0x0800;
  expect(frame[l3] >> 4).toBe(isIpv4 ? 4 : 6);
  const headerBytes = isIpv4 ? (frame[l3] & 15) * 4 : 40;
  const l4 = l3 + headerBytes;
  const ipBytes = isIpv4 ? view.getUint16(l3 + 2) : 40 + view.getUint16(l3 + 4);
  expect(frame.length).toBeGreaterThanOrEqual(l3 + ipBytes);
  const message = frame.subarray(l4, l3 + ipBytes);
  const [from, size] = isIpv4 ? [l3 + 12, 4] : [l3 + 8, 16];
  const src = frame.subarray(from, from + size);
  const dst = frame.subarray(from + size, from + 2 * size);
  if (isIpv4) {
    expect(internetChecksum(frame.subarray(l3, l4)), 'IPv4 header checksum').toBe(0);
    expect(frame[l3 + 9]).toBe(1);
    expect(onesComplementSum(message), 'ICMP checksum').toBe(0xffff);
  } else {
    expect(frame[l3 + 6]).toBe(58);
    const sum = onesComplementSum(message, pseudoHeaderSum(src, dst, 58, message.length));
    expect(sum, 'ICMPv6 checksum').toBe(0xffff);
  }
  return {
    dmac: hex(frame.subarray(0, 6)),
    smac: hex(frame.subarray(6, 12)),
    tags: hex(frame.subarray(12, l3 - 2)),
    src: hex(src),
    dst: hex(dst),
    ttl: frame[isIpv4 ? l3 + 8 : l3 + 7],
    type: message[0],
    code: message[1],
    rest: view.getUint32(l4 + 4),
    body: message.slice(8),
    ipBytes,
  };
}

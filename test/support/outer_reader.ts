/**
 * Reads an encapsulated frame back, from the RFCs and not by any code of src/: what a backend would see. Throws where a header
 * is not what it has to be; checksums are recomputed over the bytes.
 */
import { addressFromBytes } from '../../src/shared/addr.js';
import { onesComplementSum, pseudoHeaderSum } from './packet_builder.js';

export interface GueHeader {
  variant: 0 | 1;
  /** Variant 0: protocol field, private data. */
  protocol?: number;
  chain?: { type: number; nextHop: number; hops: string[] };
}

export interface Encapsulated {
  dmac: string;
  smac: string;
  /** TPID and TCI of each tag. */
  tags: [number, number][];
  version: 4 | 6;
  src: string;
  dst: string;
  tos: number;
  ttl: number;
  /** IPv4: identification and the flags/offset field; IPv6: flow label. */
  id: number;
  fragment: number;
  label: number;
  protocol: number;
  udp: { sport: number; dport: number; checksum: number; checksumRight: boolean } | null;
  gue: GueHeader | null;
  inner: Uint8Array;
}

function need(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`not what it should be: ${what}`);
}

export function readEncapsulated(frame: Uint8Array): Encapsulated {
  const at16 = (at: number) => (frame[at]! << 8) | frame[at + 1]!;
  const mac = (at: number) =>
    Buffer.from(frame.subarray(at, at + 6))
      .toString('hex')
      .replace(/(..)(?=.)/g, '$1:');
  const tags: [number, number][] = [];
  let at = 12;
  for (; at16(at) === 0x8100 || at16(at) === 0x88a8; at += 4) tags.push([at16(at), at16(at + 2)]);
  const etherType = at16(at);
  const ip = frame.subarray(at + 2);
  const head = etherType === 0x0800 ? readIpv4(ip) : readIpv6(ip, etherType);
  const udp = head.protocol === 17 ? readUdp(head.payload, head.srcBytes, head.dstBytes) : null;
  const gue = udp ? readGue(udp.payload) : null;
  const { srcBytes, dstBytes, payload, ...rest } = head;
  return {
    dmac: mac(0),
    smac: mac(6),
    tags,
    ...rest,
    src: addressFromBytes(srcBytes).text,
    dst: addressFromBytes(dstBytes).text,
    udp: udp && { sport: udp.sport, dport: udp.dport, checksum: udp.checksum, checksumRight: udp.checksumRight },
    gue: gue && gue.header,
    inner: gue ? gue.inner : payload,
  };
}

function readIpv4(ip: Uint8Array) {
  const view = new DataView(ip.buffer, ip.byteOffset, ip.length);
  need(ip[0] === 0x45, 'an IPv4 header without options');
  need(view.getUint16(2) === ip.length, `total length ${view.getUint16(2)} of ${ip.length} bytes`);
  need(onesComplementSum(ip.subarray(0, 20)) === 0xffff, 'IPv4 header checksum');
  return {
    version: 4 as const,
    tos: ip[1]!,
    id: view.getUint16(4),
    fragment: view.getUint16(6),
    ttl: ip[8]!,
    protocol: ip[9]!,
    label: 0,
    srcBytes: ip.subarray(12, 16),
    dstBytes: ip.subarray(16, 20),
    payload: ip.subarray(20),
  };
}

function readIpv6(ip: Uint8Array, etherType: number) {
  const view = new DataView(ip.buffer, ip.byteOffset, ip.length);
  need(etherType === 0x86dd, `EtherType ${etherType.toString(16)}`);
  need(ip[0]! >> 4 === 6, 'IPv6 version');
  need(view.getUint16(4) === ip.length - 40, `payload length ${view.getUint16(4)} of ${ip.length} bytes`);
  return {
    version: 6 as const,
    tos: (view.getUint16(0) >> 4) & 0xff,
    id: 0,
    fragment: 0,
    ttl: ip[7]!,
    protocol: ip[6]!,
    label: view.getUint32(0) & 0xfffff,
    srcBytes: ip.subarray(8, 24),
    dstBytes: ip.subarray(24, 40),
    payload: ip.subarray(40),
  };
}

function readUdp(udp: Uint8Array, src: Uint8Array, dst: Uint8Array) {
  const view = new DataView(udp.buffer, udp.byteOffset, udp.length);
  need(view.getUint16(4) === udp.length, `UDP length ${view.getUint16(4)} of ${udp.length} bytes`);
  return {
    sport: view.getUint16(0),
    dport: view.getUint16(2),
    checksum: view.getUint16(6),
    checksumRight: onesComplementSum(udp, pseudoHeaderSum(src, dst, 17, udp.length)) === 0xffff,
    payload: udp.subarray(8),
  };
}

function readGue(data: Uint8Array): { header: GueHeader; inner: Uint8Array } {
  if (data[0]! >> 6 === 1) return { header: { variant: 1 }, inner: data };
  need(data[0]! >> 5 === 0 && data[2] === 0 && data[3] === 0, 'GUE version 0, no control message, no flags');
  const bytes = 4 + 4 * (data[0]! & 0x1f);
  const header: GueHeader = { variant: 0, protocol: data[1]! };
  if (bytes > 4) {
    const type = (data[4]! << 8) | data[5]!;
    const size = type === 0 ? 4 : 16;
    const hops: string[] = [];
    for (let at = 8; at < bytes; at += size) hops.push(addressFromBytes(data.subarray(at, at + size)).text);
    need(hops.length === data[7], `${hops.length} hops, said to be ${data[7]}`);
    header.chain = { type, nextHop: data[6]!, hops };
  }
  return { header, inner: data.subarray(bytes) };
}

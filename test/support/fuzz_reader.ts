/** Reads frames as their senders and receivers would, from the RFCs and not by any code of src/. */
import { addressFromBytes } from '../../src/shared/addr.js';
import { onesComplementSum, pseudoHeaderSum } from './packet_builder.js';

export interface Tags {
  dmac: string;
  smac: string;
  /** All from the first TPID up to the EtherType. */
  tags: string;
}

/** A packet that is sound up to its transport header. */
export interface Read extends Tags {
  family: 4 | 6;
  src: string;
  dst: string;
  protocol: number;
  /** Of a whole packet or a first fragment of a protocol with ports, else null. */
  ports: { sport: number; dport: number } | null;
  fragment: 'none' | 'first' | 'later';
  tcpFlags: number;
  /** From the IP header to the packet's end. */
  packet: Uint8Array;
  /** Offset of the transport header in `packet`. */
  transport: number;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Null for what is no sound IP packet, or has more than two tags. */
export function readFrame(frame: Uint8Array): Read | null {
  if (frame.length < 14) return null;
  let at = 12;
  const at16 = (offset: number): number =>
    offset + 2 <= frame.length ? (frame[offset]! << 8) | frame[offset + 1]! : -1;
  for (let tags = 0; at16(at) === 0x8100 || at16(at) === 0x88a8; tags++, at += 4) if (tags === 2) return null;
  const type = at16(at);
  const link = { dmac: hex(frame.subarray(0, 6)), smac: hex(frame.subarray(6, 12)), tags: hex(frame.subarray(12, at)) };
  const rest = frame.subarray(at + 2);
  const read = type === 0x0800 ? readIpv4(rest) : type === 0x86dd ? readIpv6(rest) : null;
  return read && { ...link, ...read };
}

function readIpv4(bytes: Uint8Array): Omit<Read, keyof Tags> | null {
  if (bytes.length < 20 || bytes[0]! >> 4 !== 4) return null;
  const header = (bytes[0]! & 15) * 4;
  const total = (bytes[2]! << 8) | bytes[3]!;
  if (header < 20 || total < header || total > bytes.length) return null;
  const packet = bytes.subarray(0, total);
  const word = (packet[6]! << 8) | packet[7]!;
  const fragment = (word & 0x1fff) !== 0 ? 'later' : (word & 0x2000) !== 0 ? 'first' : 'none';
  return transportOf(packet, packet[9]!, header, fragment, {
    family: 4,
    src: addressFromBytes(packet.subarray(12, 16)).text,
    dst: addressFromBytes(packet.subarray(16, 20)).text,
  });
}

/** Extension headers that the fuzzer makes: destination options and the fragment header. */
function readIpv6(bytes: Uint8Array): Omit<Read, keyof Tags> | null {
  if (bytes.length < 40 || bytes[0]! >> 4 !== 6) return null;
  const total = 40 + ((bytes[4]! << 8) | bytes[5]!);
  if (total > bytes.length) return null;
  const packet = bytes.subarray(0, total);
  let protocol = packet[6]!;
  let at = 40;
  let fragment: Read['fragment'] = 'none';
  while (protocol === 60 || protocol === 44) {
    if (at + 8 > total) return null;
    const word = (packet[at + 2]! << 8) | packet[at + 3]!;
    const isFragment = protocol === 44;
    protocol = packet[at]!;
    if (isFragment && (word & 0xfff8) !== 0) fragment = 'later';
    else if (isFragment && (word & 1) !== 0) fragment = 'first';
    at += isFragment ? 8 : 8 * (packet[at + 1]! + 1);
    if (fragment === 'later') break;
  }
  if (at > total) return null;
  return transportOf(packet, protocol, at, fragment, {
    family: 6,
    src: addressFromBytes(packet.subarray(8, 24)).text,
    dst: addressFromBytes(packet.subarray(24, 40)).text,
  });
}

const LEAST: Record<number, number> = { 6: 20, 17: 8, 1: 8, 58: 8 };

function transportOf(
  packet: Uint8Array,
  protocol: number,
  transport: number,
  fragment: Read['fragment'],
  head: Pick<Read, 'family' | 'src' | 'dst'>,
): Omit<Read, keyof Tags> | null {
  const base = { ...head, protocol, packet, transport, fragment, ports: null, tcpFlags: 0 };
  if (fragment === 'later') return base;
  const body = packet.subarray(transport);
  if (body.length < (LEAST[protocol] ?? 0)) return null;
  const at16 = (offset: number): number => (body[offset]! << 8) | body[offset + 1]!;
  if (protocol === 6 && ((body[12]! >> 4) * 4 < 20 || (body[12]! >> 4) * 4 > body.length)) return null;
  if (protocol === 17 && (at16(4) < 8 || (at16(4) > body.length && fragment === 'none'))) return null;
  const hasPorts = [6, 17].includes(protocol) || ([132, 33, 136].includes(protocol) && body.length >= 8);
  return {
    ...base,
    ports: hasPorts ? { sport: at16(0), dport: at16(2) } : null,
    tcpFlags: protocol === 6 ? body[13]! : 0,
  };
}

/** Throws unless this is an ICMP message with a right IP checksum and, where asked for, a right one of its own. */
export function expectIcmp(read: Read, checksum: boolean): void {
  const { family, packet, transport, protocol } = read;
  if (protocol !== (family === 4 ? 1 : 58)) throw new Error(`neither to a backend nor ICMP: protocol ${protocol}`);
  if (family === 4 && onesComplementSum(packet.subarray(0, transport)) !== 0xffff)
    throw new Error('IPv4 checksum of ICMP');
  const body = packet.subarray(transport);
  const initial = family === 4 ? 0 : pseudoHeaderSum(packet.subarray(8, 24), packet.subarray(24, 40), 58, body.length);
  if (checksum && onesComplementSum(body, initial) !== 0xffff) throw new Error('ICMP checksum');
}

/**
 * A frame from a packet in words:
 *
 *   tcp|udp|icmp|icmp6|PROTOCOL SRC[:PORT] > DST[:PORT] [flags SA] [length N] [ttl N] [tos N] [vlan N] [fragment]
 *
 * IPv6 with a port is [2001:db8::1]:443. `length`: bytes of the IP packet, default headers alone. `fragment`: a fragment behind the first.
 */
import { SluiceError } from '../../errors.js';
import { addressToBytes, parseAddress } from '../../shared/addr.js';
import type { Address } from '../../shared/config.js';
import { show } from '../config/problem.js';
import { hasPorts, protocolNumber } from '../config/protocols.js';

interface Words {
  protocol: number;
  source: Address;
  destination: Address;
  sport: number | null;
  dport: number | null;
  flags: number;
  length: number | null;
  ttl: number;
  tos: number;
  vlan: number | null;
  fragment: boolean;
}

/** Where a client's packet usually comes from, when no port is given. */
const SOURCE_PORT = 40_000;

const FLAGS = 'FSRPAUEW';

/** @param remedy for what is not even the beginning of such a text */
export function frameFromWords(text: string, remedy: string): Uint8Array {
  return build(read(text, remedy));
}

function read(text: string, remedy: string): Words {
  const words = text.trim().split(/\s+/);
  const fail = (message: string, what = remedy): never => {
    throw new SluiceError('SLUICE_USAGE', `${show(text)}: ${message}`, what);
  };
  const [name, from, arrow, to, ...options] = words;
  const protocol = name === 'icmp6' ? 58 : protocolNumber(name);
  if (protocol === null) return fail(words.length === 1 ? 'is no packet' : `${show(name)} is no protocol`);
  if (from === undefined || arrow !== '>' || to === undefined)
    return fail('wants SOURCE > DESTINATION behind the protocol');
  const [source, sport] = endpoint(from, fail);
  const [destination, dport] = endpoint(to, fail);
  if (source.family !== destination.family) fail(`${from} and ${to} are of two families`);
  if (!hasPorts(protocol) && (sport ?? dport) !== null) fail(`${name} has no ports`);
  const packet: Words = {
    protocol,
    source,
    destination,
    sport,
    dport,
    flags: 2,
    length: null,
    ttl: 64,
    tos: 0,
    vlan: null,
    fragment: false,
  };
  while (options.length > 0) {
    const option = options.shift()!;
    if (option === 'fragment') {
      packet.fragment = true;
      continue;
    }
    const value = options.shift();
    if (option === 'flags') {
      const letters = (value ?? '').toUpperCase();
      if (!/^(NONE|[FSRPAUEW]+)$/.test(letters)) fail(`flags ${show(value ?? '')} are none of ${FLAGS}, or none`);
      if (protocol !== 6) fail(`${name} has no flags`);
      packet.flags =
        letters === 'NONE' ? 0 : [...letters].reduce((bits, letter) => bits | (1 << FLAGS.indexOf(letter)), 0);
      continue;
    }
    const most = { length: 65_535, ttl: 255, tos: 255, vlan: 4094 }[option];
    if (most === undefined) return fail(`${show(option)} is none of flags, length, ttl, tos, vlan, fragment`);
    const number = value !== undefined && /^\d+$/.test(value) ? Number(value) : NaN;
    if (!(number <= most)) fail(`${option} wants a number from 0 to ${most}`);
    packet[option as 'length' | 'ttl' | 'tos' | 'vlan'] = number;
  }
  const least = headerBytes(packet);
  if (packet.length !== null && packet.length < least)
    fail(`length ${packet.length} is less than its headers, ${least} bytes`);
  return packet;
}

function endpoint(text: string, fail: (message: string) => never): [Address, number | null] {
  const match = /^\[([^\]]+)\](?::(.*))?$/.exec(text) ?? /^([^:]+)(?::([^:]*))?$/.exec(text) ?? [text, text, undefined];
  if (match[2] !== undefined && !/^\d+$/.test(match[2])) fail(`${show(match[2])} is no port`);
  const port = match[2] === undefined ? null : Number(match[2]);
  if (port !== null && port > 65_535) fail(`port ${port} is above 65535`);
  try {
    return [parseAddress(match[1]), port];
  } catch {
    return fail(`${show(match[1])} is no address; an IPv6 address with a port is [2001:db8::1]:443`);
  }
}

function transportBytes({ protocol, fragment }: Words): number {
  if (fragment) return 0;
  if (protocol === 6) return 20;
  if (protocol === 132) return 12;
  if (protocol === 33) return 12;
  return hasPorts(protocol) || protocol === 1 || protocol === 58 ? 8 : 0;
}

function headerBytes(words: Words): number {
  const ip = words.source.family === 4 ? 20 : words.fragment ? 48 : 40;
  return ip + transportBytes(words);
}

function build(words: Words): Uint8Array {
  const { source, vlan } = words;
  // Someone's payload: fragments behind the first have some.
  const l3Bytes = words.length ?? headerBytes(words) + (words.fragment ? 8 : 0);
  const l2Bytes = vlan === null ? 14 : 18;
  const frame = new Uint8Array(l2Bytes + l3Bytes);
  const view = new DataView(frame.buffer);
  frame.set([0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1]);
  if (vlan !== null) view.setUint32(12, (0x8100 << 16) | vlan);
  view.setUint16(l2Bytes - 2, source.family === 4 ? 0x0800 : 0x86dd);
  const l4 = source.family === 4 ? ipv4(frame, view, l2Bytes, words) : ipv6(frame, view, l2Bytes, words);
  if (!words.fragment) transport(view, l4, l2Bytes + l3Bytes - l4, words);
  return frame;
}

function ipv4(frame: Uint8Array, view: DataView, at: number, words: Words): number {
  view.setUint8(at, 0x45);
  view.setUint8(at + 1, words.tos);
  view.setUint16(at + 2, frame.length - at);
  view.setUint16(at + 4, words.fragment ? 1 : 0);
  // A later fragment far enough behind that no check takes it for a tiny one.
  view.setUint16(at + 6, words.fragment ? 185 : 0x4000);
  view.setUint8(at + 8, words.ttl);
  view.setUint8(at + 9, words.protocol);
  frame.set(addressToBytes(words.source), at + 12);
  frame.set(addressToBytes(words.destination), at + 16);
  view.setUint16(at + 10, checksum(view, at, 20, 0));
  return at + 20;
}

function ipv6(frame: Uint8Array, view: DataView, at: number, words: Words): number {
  view.setUint32(at, 0x60000000 | (words.tos << 20));
  view.setUint16(at + 4, frame.length - at - 40);
  view.setUint8(at + 6, words.fragment ? 44 : words.protocol);
  view.setUint8(at + 7, words.ttl);
  frame.set(addressToBytes(words.source), at + 8);
  frame.set(addressToBytes(words.destination), at + 24);
  if (!words.fragment) return at + 40;
  view.setUint8(at + 40, words.protocol);
  view.setUint16(at + 42, 185 << 3);
  view.setUint32(at + 44, 1);
  return at + 48;
}

function transport(view: DataView, at: number, bytes: number, words: Words): void {
  const { protocol } = words;
  if (hasPorts(protocol)) {
    view.setUint16(at, words.sport ?? SOURCE_PORT);
    view.setUint16(at + 2, words.dport ?? 0);
  }
  if (protocol === 6) {
    view.setUint8(at + 12, 0x50);
    view.setUint8(at + 13, words.flags);
    view.setUint16(at + 14, 65_535);
    view.setUint16(at + 16, checksum(view, at, bytes, pseudoSum(words, bytes)));
  } else if (protocol === 17) {
    view.setUint16(at + 4, bytes);
    view.setUint16(at + 6, checksum(view, at, bytes, pseudoSum(words, bytes)) || 0xffff);
  } else if (protocol === 1 || protocol === 58) {
    view.setUint8(at, protocol === 1 ? 8 : 128);
    view.setUint16(at + 2, checksum(view, at, bytes, protocol === 1 ? 0 : pseudoSum(words, bytes)));
  }
}

function pseudoSum({ source, destination, protocol }: Words, bytes: number): number {
  const addresses = [...addressToBytes(source), ...addressToBytes(destination)];
  return addresses.reduce((sum, byte, i) => sum + (i % 2 === 0 ? byte << 8 : byte), protocol + bytes);
}

/** RFC 1071. */
function checksum(view: DataView, at: number, bytes: number, initial: number): number {
  let sum = initial;
  for (let i = 0; i < bytes; i++) sum += i % 2 === 0 ? view.getUint8(at + i) << 8 : view.getUint8(at + i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/**
 * Addresses as text, as bytes and as the int32 words that packets and tables hold.
 *
 * Reading is strict on purpose: `010.0.0.1` (octal to inet_aton, decimal to inet_pton), `0x7f.1` and `10.1` mean different
 * addresses to different programs, so each of them is refused. IPv6 text is written as RFC 5952 says.
 */
import ipaddr from 'ipaddr.js';
import { SluiceError } from '../errors.js';
import type { Address, Prefix } from './config.js';
import { maskWords } from './mask_words.js';

export { maskWords };

export type Words = readonly [number, number, number, number];

/** Longer than any address or prefix; keeps a megabyte of text out of the regular expressions and the error message. */
const MAX_TEXT = 64;

/** Text that is no address, prefix, hardware address or endpoint. `code` is SLUICE_FORMAT; `message` quotes the text. */
export class AddressError extends SluiceError {
  constructor(message: string, remedy = '') {
    super('SLUICE_FORMAT', message, remedy);
  }
}

/** `text` in quotes, shortened to what fits on a line. */
function quote(text: string): string {
  return JSON.stringify(text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);
}

/** Bits of an address of this family: 32 or 128. */
export function addressBits(family: 4 | 6): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/**
 * Reads an IPv4 (four decimal parts) or IPv6 address. Throws AddressError for anything else, for IPv6 zones ("%eth0") and
 * for IPv4-mapped IPv6 (::ffff:a.b.c.d), which never appears on the wire (RFC 6890, RFC 4942 section 2.2).
 */
export function parseAddress(text: string): Address {
  const family = text.includes(':') ? 6 : 4;
  if (text.length > MAX_TEXT) throw new AddressError(`${quote(text)} is not an IP address`);
  if (family === 4) {
    if (!ipaddr.IPv4.isValidFourPartDecimal(text)) throw notAnAddress(text);
    const [a, b, c, d] = ipaddr.IPv4.parse(text).octets;
    return { family, words: [(a << 24) | (b << 16) | (c << 8) | d, 0, 0, 0], text };
  }
  if (text.includes('%')) {
    throw new AddressError(`${quote(text)} has a zone`, 'Write the address without "%" and what follows it.');
  }
  if (text.includes('/') || !ipaddr.IPv6.isValid(text)) throw notAnAddress(text);
  const parsed = ipaddr.IPv6.parse(text);
  if (parsed.isIPv4MappedAddress()) {
    const inner = parsed.toIPv4Address().toString();
    throw new AddressError(`${quote(text)} is an IPv4-mapped IPv6 address`, `Write the IPv4 address: ${inner}`);
  }
  const parts = parsed.parts;
  const word = (i: number): number => (parts[i * 2] << 16) | parts[i * 2 + 1];
  return { family, words: [word(0), word(1), word(2), word(3)], text: parsed.toRFC5952String() };
}

function notAnAddress(text: string): AddressError {
  if (text.includes('/'))
    return new AddressError(`${quote(text)} is a prefix, not an address`, 'Leave out "/" and the length.');
  if (/^\d+(\.\d+){3}$/.test(text) && /(^|\.)0\d/.test(text)) {
    return new AddressError(
      `${quote(text)} is not an IP address: a part starts with 0`,
      'Write the parts in decimal without leading zeros; some programs read such parts as octal.',
    );
  }
  const isRange = /^[\da-f.:]+ *- *[\da-f.:]+$/i.test(text);
  return new AddressError(`${quote(text)} is not an IP address`, isRange ? 'Write a range as prefixes.' : '');
}

/**
 * Reads "198.51.100.0/24", "2001:db8::/32", or an address alone, which is a prefix of all its bits. Throws AddressError, also
 * when bits beyond the length are set; the remedy then names the prefix that was probably meant.
 */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf('/');
  if (slash < 0) {
    const address = parseAddress(text);
    return { ...address, length: addressBits(address.family) };
  }
  const lengthText = text.slice(slash + 1);
  const address = parseAddress(text.slice(0, slash));
  const bits = addressBits(address.family);
  // Digits only: Number() would also take "", " 8", "0x8" and "1e1".
  const length = /^(0|[1-9]\d{0,2})$/.test(lengthText) ? Number(lengthText) : -1;
  if (length < 0 || length > bits) {
    throw new AddressError(`${quote(text)} is not a prefix: the length must be a number from 0 to ${bits}`);
  }
  const network = maskAddress(address, length);
  if (network.words.some((word, i) => word !== address.words[i])) {
    throw new AddressError(
      `${quote(text)} has bits set beyond its length`,
      `Write ${network.text}/${length} for the network, or ${address.text} for the one address.`,
    );
  }
  return { ...address, length };
}

function maskAddress(address: Address, length: number): Address {
  const mask = maskWords(length);
  const w = address.words;
  return addressFromWords(address.family, [w[0] & mask[0], w[1] & mask[1], w[2] & mask[2], w[3] & mask[3]]);
}

/** An address from its words in network byte order; the opposite of `parseAddress(…).words`. */
export function addressFromWords(family: 4 | 6, words: Words): Address {
  return { family, words: [words[0] | 0, words[1] | 0, words[2] | 0, words[3] | 0], text: formatWords(family, words) };
}

/** Text of an address that is given as words in network byte order. */
export function formatWords(family: 4 | 6, words: Words): string {
  if (family === 4) {
    const w = words[0];
    return `${w >>> 24}.${(w >>> 16) & 255}.${(w >>> 8) & 255}.${w & 255}`;
  }
  return new ipaddr.IPv6(words.flatMap((w) => [w >>> 16, w & 0xffff])).toRFC5952String();
}

/** Canonical text: "198.51.100.0/24", or the address alone when the prefix is one address. */
export function formatPrefix(prefix: Prefix): string {
  return prefix.length === addressBits(prefix.family) ? prefix.text : `${prefix.text}/${prefix.length}`;
}

/** The 4 or 16 bytes of an address in network byte order, newly made. For keys of BPF maps and for sockets. */
export function addressToBytes(address: Pick<Address, 'family' | 'words'>): Uint8Array {
  const bytes = new Uint8Array(addressBits(address.family) / 8);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < bytes.length; i += 4) view.setInt32(i, address.words[i / 4]);
  return bytes;
}

/** An address from 4 or 16 bytes in network byte order. Throws RangeError for another number of bytes. */
export function addressFromBytes(bytes: Uint8Array): Address {
  if (bytes.length !== 4 && bytes.length !== 16)
    throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length === 4) return addressFromWords(4, [view.getInt32(0), 0, 0, 0]);
  return addressFromWords(6, [view.getInt32(0), view.getInt32(4), view.getInt32(8), view.getInt32(12)]);
}

/** Whether both are of one family and equal. */
export function sameAddress(a: Pick<Address, 'family' | 'words'>, b: Pick<Address, 'family' | 'words'>): boolean {
  return a.family === b.family && a.words.every((word, i) => word === b.words[i]);
}

/** Whether the address lies in the prefix; false across families. */
export function prefixContains(prefix: Prefix, address: Pick<Address, 'family' | 'words'>): boolean {
  if (prefix.family !== address.family) return false;
  const mask = maskWords(prefix.length);
  return prefix.words.every((word, i) => ((address.words[i] ^ word) & mask[i]) === 0);
}

/** 127.0.0.0/8 and ::1. */
export function isLoopback(address: Pick<Address, 'family' | 'words'>): boolean {
  const w = address.words;
  return address.family === 4 ? w[0] >>> 24 === 127 : w[0] === 0 && w[1] === 0 && w[2] === 0 && w[3] === 1;
}

/** Reads a hardware address, "02:00:5e:10:00:01" or with "-". Throws AddressError. Returns its 6 bytes. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}$/i.test(text)) {
    throw new AddressError(
      `${quote(text)} is not a hardware address`,
      'Write six pairs of hex digits: 02:00:5e:10:00:01',
    );
  }
  return Uint8Array.from(text.split(/[:-]/), (part) => parseInt(part, 16));
}

/** "02:00:5e:10:00:01" from 6 bytes. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/**
 * The first 12 bytes of an Ethernet header (destination, then source) as the three big-endian words that
 * `BackendField.eth0`-`eth2` hold. Throws RangeError unless both have 6 bytes.
 */
export function ethernetWords(destination: Uint8Array, source: Uint8Array): [number, number, number] {
  if (destination.length !== 6 || source.length !== 6) throw new RangeError('a hardware address has 6 bytes');
  const view = new DataView(Uint8Array.of(...destination, ...source).buffer);
  return [view.getInt32(0), view.getInt32(4), view.getInt32(8)];
}

/** The opposite of `ethernetWords`. */
export function macsOfWords(words: readonly [number, number, number]): { destination: Uint8Array; source: Uint8Array } {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  words.forEach((word, i) => view.setInt32(i * 4, word));
  return { destination: bytes.slice(0, 6), source: bytes.slice(6) };
}

/**
 * Reads "127.0.0.1:9477", "[::1]:9477" or "localhost:9477". Throws AddressError. The host is an address in canonical text,
 * or "localhost"; other names are refused, because what they resolve to is not for the config to find out.
 */
export function parseEndpoint(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text.slice(0, 2 * MAX_TEXT));
  const port = match ? Number(match[3]) : -1;
  if (!match || port > 65535 || text.length > 2 * MAX_TEXT) {
    throw new AddressError(`${quote(text)} is not address:port`, 'Write for example 127.0.0.1:9477 or [::1]:9477');
  }
  if (match[2] === 'localhost') return { host: 'localhost', port };
  const address = parseAddress(match[1] ?? match[2]);
  if ((match[1] !== undefined) !== (address.family === 6)) {
    throw new AddressError(`${quote(text)} is not address:port`, 'Brackets are for IPv6 addresses: [::1]:9477');
  }
  return { host: address.text, port };
}

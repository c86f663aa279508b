/** Elements of sets as ipset writes them: "10.0.0.0/8", "10.0.0.1-10.0.0.9,tcp:80-82", "2001:db8::1,icmpv6:128/0". */
import { SluiceError } from '../../errors.js';
import { AddressError, addressBits, formatWords, maskWords, parseAddress } from '../../shared/addr.js';
import type { Words } from '../../shared/addr.js';
import { PortProtocol } from '../../shared/sets/packet_key.js';
import type { SetType } from '../../shared/sets/layout.js';
import { quickPrefix } from '../quick_prefix.js';
import { hasPortType, isNetType } from './options.js';
import { icmpName, PROTOCOL_NAMES, PROTOCOL_NUMBERS } from './protocol_names.js';

/** What an element names: addresses and ports, both perhaps many. */
export interface Element {
  family: 4 | 6;
  /** First address; for IPv6 the only one. */
  words: Words;
  /** Prefix length as written, else the family's bits. */
  length: number;
  /** Last address of an IPv4 range as written, as int32; null: no range was written. */
  last: number | null;
  /** 0 for sets without ports. */
  protocol: number;
  firstPort: number;
  lastPort: number;
}

const ELEMENT_MOST = 128;

/** A set's element that cannot be read or is not allowed. */
export function elementError(message: string, remedy = ''): SluiceError {
  return new SluiceError('SLUICE_FORMAT', message, remedy);
}

/** Reads an element of a set of this type. Throws SluiceError (SLUICE_FORMAT). Names are not looked up. */
export function parseElement(text: string, type: SetType): Element {
  if (text.length > ELEMENT_MOST) throw elementError(`an element of more than ${ELEMENT_MOST} characters`);
  const comma = text.lastIndexOf(',');
  if (!hasPortType(type)) {
    if (comma >= 0) throw elementError(`${quote(text)} has two parts, ${type} has one`, 'Leave out "," and the rest.');
    return parsePlace(text, type);
  }
  if (comma < 0) {
    throw elementError(`${quote(text)} has no port`, 'Write for example: 192.0.2.1,tcp:80 or 192.0.2.1,icmp:8/0');
  }
  const element = parsePlace(text.slice(0, comma), type);
  readPort(text.slice(comma + 1), element);
  return element;
}

/** The element of an address part, without ports. All have one shape: a list has a million of them. */
function elementOf(family: 4 | 6, words: Words, length: number, last: number | null): Element {
  return { family, words, length, last, protocol: 0, firstPort: 0, lastPort: 0 };
}

function parsePlace(text: string, type: SetType): Element {
  // Most elements are plain, and lists have a million of them.
  const plain = quickPrefix(text.includes('/') ? text : text.includes(':') ? `${text}/128` : `${text}/32`);
  if (plain !== null && plain.length > 0 && (plain.family === 4 || plain.length === 128 || isNetType(type))) {
    return elementOf(plain.family, plain.words, plain.length, null);
  }
  const inner = /^\[[^\]]*\]$/.test(text) ? text.slice(1, -1) : text;
  const isNet = isNetType(type);
  const dash = inner.indexOf('-');
  const slash = inner.indexOf('/');
  if (dash >= 0) {
    const from = address(inner.slice(0, dash));
    const to = address(inner.slice(dash + 1));
    if (from.family !== 4 || to.family !== 4) {
      throw elementError(
        `${quote(text)} is a range, which IPv6 addresses cannot be`,
        isNet ? 'Write prefixes.' : 'Write them one by one.',
      );
    }
    // As ipset does, the other way round is no error.
    const [first, last] =
      from.words[0] >>> 0 <= to.words[0] >>> 0 ? [from.words[0], to.words[0]] : [to.words[0], from.words[0]];
    if (isNet && first === 0 && last === -1) {
      throw elementError(`${quote(text)} is every address`, 'Write 0.0.0.0/1 and 128.0.0.0/1.');
    }
    return elementOf(4, [first, 0, 0, 0], 32, last);
  }
  const { family, words } = address(slash < 0 ? inner : inner.slice(0, slash));
  const bits = addressBits(family);
  if (slash < 0) return elementOf(family, words, bits, null);
  const lengthText = inner.slice(slash + 1);
  const length = /^(0|[1-9]\d{0,2})$/.test(lengthText) ? Number(lengthText) : -1;
  if (length < 0 || length > bits) {
    throw elementError(`${quote(text)}: the prefix length must be a number from 1 to ${bits}`);
  }
  if (length === 0) {
    const halves = family === 4 ? '0.0.0.0/1 and 128.0.0.0/1' : '::/1 and 8000::/1';
    throw elementError(`${quote(text)}: sets have no prefix length 0`, `Write ${halves}.`);
  }
  if (!isNet && family === 6 && length !== bits) {
    throw elementError(`${quote(text)} is a prefix, ${type} takes single IPv6 addresses`, 'Use hash:net.');
  }
  return elementOf(family, masked(words, length), length, null);
}

function address(text: string): { family: 4 | 6; words: Words } {
  try {
    return parseAddress(text);
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    const isName = /^[a-z][a-z0-9.-]*$/i.test(text) && !/^[0-9a-f]+$/i.test(text);
    throw elementError(error.message, isName ? 'Names are not looked up: write the address.' : error.remedy);
  }
}

/** Reads protocol and ports into the element. */
function readPort(text: string, element: Element): void {
  const { family } = element;
  const colon = text.indexOf(':');
  const protocol = colon < 0 ? PortProtocol.tcp : protocolOf(text.slice(0, colon));
  const rest = text.slice(colon + 1);
  if (protocol === PortProtocol.icmp || protocol === PortProtocol.icmpv6) {
    if ((protocol === PortProtocol.icmp) !== (family === 4)) {
      throw elementError(`${quote(text)} in an element of IPv${family}`, 'icmp is of IPv4, icmpv6 of IPv6.');
    }
    const port = icmpPort(rest, protocol);
    element.protocol = protocol;
    element.firstPort = element.lastPort = port;
    return;
  }
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(rest);
  const first = match ? Number(match[1]) : -1;
  const last = match?.[2] === undefined ? first : Number(match[2]);
  if (!match || first > 65535 || last > 65535) {
    throw elementError(
      `${quote(text)} is not a port`,
      'Write a number from 0 to 65535, or a range; names of services are not looked up.',
    );
  }
  const hasPorts =
    protocol === PortProtocol.tcp ||
    protocol === PortProtocol.udp ||
    protocol === PortProtocol.sctp ||
    protocol === PortProtocol.udpLite;
  if (!hasPorts && (first !== 0 || last !== 0)) {
    throw elementError(`${quote(text)}: the protocol has no ports`, `Write ${text.slice(0, colon)}:0.`);
  }
  element.protocol = protocol;
  element.firstPort = Math.min(first, last);
  element.lastPort = Math.max(first, last);
}

function protocolOf(text: string): number {
  const number = /^\d{1,3}$/.test(text) ? Number(text) : (PROTOCOL_NUMBERS.get(text.toLowerCase()) ?? -1);
  if (number < 1 || number > 255) {
    throw elementError(
      `${quote(text)} is not a protocol`,
      'Write tcp, udp, sctp, udplite, icmp, icmpv6 or a number from 1 to 255.',
    );
  }
  return number;
}

function icmpPort(text: string, protocol: PortProtocol): number {
  const named = icmpName(text.toLowerCase(), protocol);
  if (named !== undefined) return named;
  const match = /^(\d{1,3})\/(\d{1,3})$/.exec(text);
  const type = match ? Number(match[1]) : 256;
  const code = match ? Number(match[2]) : 256;
  if (type > 255 || code > 255) {
    throw elementError(`${quote(text)} is not an ICMP type and code`, 'Write two numbers up to 255, as 8/0.');
  }
  return (type << 8) | code;
}

/** The text of one entry, in numbers, as `ipset restore` reads it. `scope` as in RecordField. */
export function formatElement(family: 4 | 6, words: Words, scope: number, type: SetType): string {
  const length = scope >>> 24;
  const place = formatWords(family, words) + (length === addressBits(family) ? '' : `/${length}`);
  if (type === 'hash:ip' || type === 'hash:net') return place;
  const protocol = (scope >>> 16) & 255;
  const port = scope & 0xffff;
  const name = PROTOCOL_NAMES.get(protocol) ?? String(protocol);
  const isIcmp = protocol === PortProtocol.icmp || protocol === PortProtocol.icmpv6;
  return `${place},${name}:${isIcmp ? `${port >>> 8}/${port & 255}` : port}`;
}

/** An address without the bits behind `length`. */
export function masked(words: Words, length: number): Words {
  const mask = maskWords(length);
  return [words[0] & mask[0], words[1] & mask[1], words[2] & mask[2], words[3] & mask[3]];
}

function quote(text: string): string {
  return JSON.stringify(text);
}

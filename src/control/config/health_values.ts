/** Values of health checks that are more than a scalar. */
import type { BodyMatch, StatusRange } from '../../shared/health_config.js';
import { nearest } from './nearest.js';
import { show } from './problem.js';
import { Refusal, value } from './scalars.js';

/** Numbers of record types that can be asked for (IANA DNS parameters). */
export const RECORD_TYPES = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  SVCB: 64,
  HTTPS: 65,
  CAA: 257,
} as const;

/** Response codes by name (RFC 1035 §4.1.1, RFC 6895 §2.3). */
export const RESPONSE_CODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

/** Fits a datagram of IPv6's least MTU with room for the outer headers of a tunnel. */
const MAX_PAYLOAD_BYTES = 1024;
const MAX_TEXT = 1024;

/** "10%" as 0.1, up to `max` percent; 0 may stand without the sign. */
export function percent(max: number) {
  return value((raw): number => {
    if (raw === 0) return 0;
    const match = typeof raw === 'string' ? /^(\d{1,3}(?:\.\d{1,3})?) ?%$/.exec(raw) : null;
    const number = match === null ? NaN : Number(match[1]);
    if (number <= max) return number / 100;
    throw new Refusal(`${show(raw)} is not a percentage from 0% to ${max}%`, 'Write for example 10%.');
  });
}

/** Flap penalty: 1 is one time down. */
export const penalty = value((raw): number => {
  if (typeof raw === 'number' && raw >= 0.5 && raw <= 1000) return raw;
  throw new Refusal(`${show(raw)} is not a number of times down, from 0.5 to 1000`);
});

export const httpPath = value((raw): string => {
  // A request line is ASCII without white space (RFC 9112 §3).
  if (typeof raw === 'string' && /^\/[\x21-\x7e]*$/.test(raw) && raw.length <= MAX_TEXT) return raw;
  throw new Refusal(`${show(raw)} is not a path`, 'Write it as in a URL: /healthz, with %20 for a space.');
});

const NAME = /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*$/;

/** A host name, not an address. */
export const hostName = value((raw): string => {
  if (typeof raw === 'string' && isHostName(raw)) return raw;
  throw new Refusal(`${show(raw)} is not a host name`, 'Write for example www.example.com.');
});

export function isHostName(text: string): boolean {
  return NAME.test(text) && !/^[\d.]+$/.test(text);
}

/** What may stand in a Host header: name or address, with or without a port (RFC 9110 §7.2). */
export const httpHost = value((raw): string => {
  if (typeof raw === 'string' && /^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:\d{1,5})?$/.test(raw)) return raw;
  throw new Refusal(`${show(raw)} is not a host`, 'Write for example www.example.com or www.example.com:8443.');
});

/** 200, or 200-399. */
export const statusRange = value((raw): StatusRange => {
  const match = typeof raw === 'number' || typeof raw === 'string' ? /^(\d{3})(?: *- *(\d{3}))?$/.exec(`${raw}`) : null;
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (first >= 100 && first <= last && last <= 599) return { first, last };
  throw new Refusal(`${show(raw)} is not a status or a range of them (100-599)`, 'Write 200, 200-399 or [200, 204].');
});

/** Text that must be there, or /a regular expression/ with the flags i, m, s, u. */
export const bodyMatch = value((raw): BodyMatch => {
  if (typeof raw !== 'string' || raw === '' || raw.length > MAX_TEXT) {
    throw new Refusal(`${show(raw)} is not a text of 1 to ${MAX_TEXT} characters`, 'Write text, or /regex/ in quotes.');
  }
  const match = /^\/(.+)\/([imsu]*)$/s.exec(raw);
  if (match === null) return { kind: 'text', text: raw };
  try {
    new RegExp(match[1], match[2]);
  } catch (error) {
    throw new Refusal(`${show(raw)} is not a regular expression: ${(error as Error).message}`);
  }
  return { kind: 'regex', source: match[1], flags: match[2] };
});

/** Bytes as text, or as hex: and digits. */
export const payload = value((raw): Uint8Array => {
  const remedy = 'Write text, or hex: and pairs of hex digits (hex:0a1b).';
  if (typeof raw !== 'string') throw new Refusal(`${show(raw)} is not a payload`, remedy);
  const hex = /^hex:([\s\S]*)$/.exec(raw);
  if (hex !== null && !/^(?:[0-9a-f]{2}[ :]?)*$/i.test(hex[1])) {
    throw new Refusal(`${show(raw)} is not pairs of hex digits`, remedy);
  }
  const bytes = hex === null ? Buffer.from(raw, 'utf8') : Buffer.from(hex[1].replace(/[ :]/g, ''), 'hex');
  if (bytes.length > MAX_PAYLOAD_BYTES)
    throw new Refusal(`has ${bytes.length} bytes, at most ${MAX_PAYLOAD_BYTES} fit`);
  return Uint8Array.from(bytes);
});

/** A name to ask for; "." is the root. */
export const dnsName = value((raw): string => {
  if (raw === '.') return '';
  const name = typeof raw === 'string' ? raw.replace(/\.$/, '') : '';
  if (NAME.test(name) && name.split('.').every((label) => label.length <= 63)) return name;
  throw new Refusal(`${show(raw)} is not a domain name`, 'Write for example www.example.com, or "." for the root.');
});

export const recordType = value((raw): number => oneOf(raw, RECORD_TYPES, 'a record type', 65535));
export const responseCode = value((raw): number => oneOf(raw, RESPONSE_CODES, 'a response code', 15));

function oneOf(raw: unknown, names: Readonly<Record<string, number>>, what: string, max: number): number {
  if (typeof raw === 'number' && Number.isInteger(raw) && raw >= 0 && raw <= max) return raw;
  const upper = typeof raw === 'string' ? raw.toUpperCase() : '';
  if (Object.hasOwn(names, upper)) return names[upper];
  const near = upper === '' ? null : nearest(upper, Object.keys(names));
  throw new Refusal(
    `${show(raw)} is not ${what}`,
    near === null ? `Write ${Object.keys(names).join(', ')}, or its number.` : `Did you mean ${near}?`,
  );
}

export const shortText = value((raw): string => {
  if (typeof raw === 'string' && raw !== '' && raw.length <= MAX_TEXT) return raw;
  throw new Refusal(`${show(raw)} is not a text of 1 to ${MAX_TEXT} characters`);
});

/**
 * The values that a configuration is made of, each with its short forms. A schema here takes what YAML gives (text, number,
 * boolean, list) and puts out what `shared/config.ts` wants; what it refuses it names, and says what to write instead.
 */
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { AddressError, parseAddress, parseEndpoint, parsePrefix } from '../../shared/addr.js';
import type { Address, PortRange, Prefix } from '../../shared/config.js';
import { hashKeyOf } from './hash_key.js';
import { nearest } from './nearest.js';
import { nearestPrimes } from './primes.js';
import { show } from './problem.js';
import { PROTOCOLS, protocolNumber } from './protocols.js';

/** Thrown by a reader that cannot take a value. */
export class Refusal extends Error {
  constructor(
    message: string,
    readonly remedy = '',
  ) {
    super(message);
  }
}

/** A schema from a function that reads a value or throws a Refusal. */
export function value<T>(read: (raw: unknown) => T): z.ZodType<T> {
  return z.unknown().transform((raw, context): T => {
    try {
      return read(raw);
    } catch (error) {
      if (!(error instanceof Refusal || error instanceof AddressError)) throw error;
      context.addIssue({ code: 'custom', message: error.message, params: { remedy: error.remedy } });
      return z.NEVER;
    }
  });
}

function text(raw: unknown, what: string): string {
  if (typeof raw === 'string') return raw;
  const remedy =
    typeof raw === 'number' || typeof raw === 'boolean'
      ? `If it is meant as text, put it in quotes: "${String(raw)}"`
      : '';
  throw new Refusal(`${show(raw)} is not ${what}`, remedy);
}

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number): z.ZodNumber {
  const error = (issue: { input?: unknown }): string =>
    `${show(issue.input)} is not a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

/** A whole number from `min` to `max` that is a power of two. */
export function powerOfTwo(min: number, max: number): z.ZodType<number> {
  return value((raw) => {
    if (typeof raw !== 'number' || !Number.isInteger(raw) || raw < min || raw > max) {
      throw new Refusal(`${show(raw)} is not a power of two from ${min} to ${max}`);
    }
    const below = 2 ** Math.floor(Math.log2(raw));
    if (below !== raw) throw new Refusal(`${raw} is not a power of two`, `Write ${below} or ${below * 2}.`);
    return raw;
  });
}

/** A prime from `min` to `max`, which are primes themselves. */
export function prime(min: number, max: number): z.ZodType<number> {
  return value((raw) => {
    if (typeof raw !== 'number' || !Number.isInteger(raw) || raw < min || raw > max) {
      throw new Refusal(`${show(raw)} is not a prime number from ${min} to ${max}`);
    }
    const [below, above] = nearestPrimes(raw);
    if (below !== raw)
      throw new Refusal(`${raw} is not a prime number`, `The nearest primes are ${below} and ${above}.`);
    return raw;
  });
}

/** Name of a service, rule or filter: goes into metrics labels, logs and the command line. */
export const name = value((raw): string => {
  const given = text(raw, 'a name');
  if (/^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/.test(given)) return given;
  throw new Refusal(
    `${show(given)} is not a name`,
    'A name has 1 to 63 letters, digits and ". _ : -", and starts with a letter or digit.',
  );
});

/** Name of a network interface, as the kernel's dev_valid_name() (net/core/dev.c) allows them. */
export const interfaceName = value((raw): string => {
  const given = text(raw, 'an interface name');
  const remedy = 'Names have 1 to 15 bytes, without "/", ":" and white space; ip -br link lists them.';
  // The kernel's IFNAMSIZ is 16 with the closing NUL.
  const bad = given === '' || given === '.' || given === '..' || /[/:\s\p{Cc}]/u.test(given);
  if (bad || Buffer.byteLength(given) > 15) throw new Refusal(`${show(given)} is not an interface name`, remedy);
  return given;
});

/** An address that a host can have: not unspecified, multicast or broadcast. */
export const hostAddress = value((raw): Address => {
  const address = parseAddress(text(raw, 'an IP address'));
  const [w0, w1, w2, w3] = address.words;
  const unspecified = (w0 | w1 | w2 | w3) === 0;
  // 224.0.0.0/3 holds multicast, the reserved block and broadcast.
  const multicast = address.family === 4 ? w0 >>> 29 === 7 : w0 >>> 24 === 0xff;
  if (unspecified || multicast) throw new Refusal(`${show(address.text)} is not an address that a host can have`);
  return address;
});

export function readPrefix(raw: unknown): Prefix {
  return parsePrefix(text(raw, 'an IP address or prefix'));
}

export const prefix = value(readPrefix);

/** "127.0.0.1:9477", or null for "off". */
export const endpointOrOff = value((raw): { host: string; port: number } | null => {
  if (raw === 'off' || raw === false) return null;
  return parseEndpoint(text(raw, 'address:port'));
});

/** A number or "a-b", both ends included, from 0 to `max`. `what` names one of them: "a port". */
export function range(max: number, what: string): z.ZodType<PortRange> {
  return value((raw) => readRange(raw, max, what));
}

function readRange(raw: unknown, max: number, what: string): PortRange {
  const refuse = (shown: string): Refusal => new Refusal(`${shown} is not ${what} (0-${max})`);
  if (typeof raw === 'number') {
    if (!Number.isInteger(raw) || raw < 0 || raw > max) throw refuse(String(raw));
    return { first: raw, last: raw };
  }
  const match = typeof raw === 'string' ? /^(\d{1,9})(?: *- *(\d{1,9}))?$/.exec(raw.trim()) : null;
  if (match === null) {
    throw new Refusal(
      `${show(raw)} is not ${what} (0-${max}) or a range of them`,
      'Write a number, or a range as first-last.',
    );
  }
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  for (const end of [first, last]) if (end > max) throw refuse(String(end));
  if (first > last) throw new Refusal(`${show(raw)} runs backwards`, `Write ${last}-${first}.`);
  return { first, last };
}

/** One entry of `port`: a port, a range, or "any". */
export const portEntry = value((raw): PortRange | 'any' => (raw === 'any' ? 'any' : readRange(raw, 65535, 'a port')));

/** An IP protocol by name or number, or "any". */
export const protocolOrAny = value((raw): number | 'any' => (raw === 'any' ? 'any' : readProtocol(raw)));
export const protocol = value(readProtocol);

function readProtocol(raw: unknown): number {
  const number = protocolNumber(raw);
  if (number !== null) return number;
  const near = typeof raw === 'string' ? nearest(raw, [...PROTOCOLS.keys()]) : null;
  throw new Refusal(
    `${show(raw)} is not an IP protocol`,
    near === null
      ? `Write a number from 1 to 255, or one of ${[...PROTOCOLS.keys()].join(', ')}.`
      : `Did you mean ${near}?`,
  );
}

const SECONDS: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600 };

/**
 * A time in seconds: a number of seconds, or "500ms", "10s", "5m", "1h". The data path counts in int32 milliseconds that
 * wrap after 24.8 days, and looks at its timers a few times a second: hence the bounds of 100 ms and 24 h.
 */
export const duration = value(readDuration);

/** The same, or "off", which is 0. */
export const durationOrOff = value((raw) => (raw === 'off' ? 0 : readDuration(raw)));

function readDuration(raw: unknown): number {
  const remedy = 'Write a number of seconds, or a number with ms, s, m or h: 500ms, 10s, 5m, 1h.';
  let seconds: number;
  if (typeof raw === 'number') seconds = raw;
  else {
    const match = typeof raw === 'string' ? /^(\d{1,9}(?:\.\d{1,3})?) ?(ms|s|m|h)$/.exec(raw) : null;
    if (match === null) throw new Refusal(`${show(raw)} is not a time`, remedy);
    // Rounded to the millisecond: 1100 * 0.001 is 1.1 and a bit.
    seconds = Math.round(Number(match[1]) * SECONDS[match[2]] * 1000) / 1000;
  }
  if (!(seconds >= 0.1 && seconds <= 86400)) throw new Refusal(`${show(raw)} is not from 100ms to 24h`, remedy);
  return seconds;
}

/** "all", a number of queues counted from queue 0, a list of queue numbers, or a range "0-3". */
export const queues = value((raw): 'all' | number[] => {
  const max = 4095;
  const remedy = 'Write all, a number of queues (2 is queues 0 and 1), a range ("0-3") or a list ([0, 2]).';
  if (raw === 'all') return 'all';
  if (typeof raw === 'number') {
    if (!Number.isInteger(raw) || raw < 1 || raw > max + 1)
      throw new Refusal(`${raw} is not a number of queues`, remedy);
    return Array.from({ length: raw }, (_, i) => i);
  }
  const list: unknown[] = Array.isArray(raw) ? raw : [raw];
  if (list.length === 0) throw new Refusal('is an empty list', remedy);
  const numbers = new Set<number>();
  for (const entry of list) {
    if (!Array.isArray(raw) && (typeof entry !== 'string' || !/^\d/.test(entry))) {
      throw new Refusal(`${show(entry)} does not name queues`, remedy);
    }
    const { first, last } = readRange(entry, max, 'a queue');
    for (let queue = first; queue <= last; queue++) {
      if (numbers.has(queue)) throw new Refusal(`queue ${queue} is there twice`, remedy);
      numbers.add(queue);
    }
  }
  return [...numbers].sort((a, b) => a - b);
});

const TCP_FLAGS: Readonly<Record<string, number>> = {
  fin: 1,
  syn: 2,
  rst: 4,
  psh: 8,
  ack: 16,
  urg: 32,
  ece: 64,
  cwr: 128,
};

/** "syn", "syn,!ack", ["syn", "!ack"], or "none": flags that must be set, and with "!" those that must not be. */
export const tcpFlags = value((raw): { mask: number; value: number } => {
  const names = Object.keys(TCP_FLAGS);
  const remedy = `Flags are ${names.join(', ')}; "!" in front means not set, as in "syn,!ack"; none means no flag at all.`;
  if (raw === 'none') return { mask: 255, value: 0 };
  const entries: unknown[] = typeof raw === 'string' ? raw.split(',') : Array.isArray(raw) ? raw : [];
  if (entries.length === 0) throw new Refusal(`${show(raw)} does not name TCP flags`, remedy);
  let mask = 0;
  let wanted = 0;
  for (const entry of entries) {
    const match = typeof entry === 'string' ? /^\s*(!?)([a-z]{3})\s*$/i.exec(entry) : null;
    const flag = match === null ? '' : match[2].toLowerCase();
    if (match === null || !names.includes(flag)) throw new Refusal(`${show(entry)} is not a TCP flag`, remedy);
    const bit = TCP_FLAGS[flag];
    if ((mask & bit) !== 0) throw new Refusal(`${flag} is there twice`, remedy);
    mask |= bit;
    if (match[1] === '') wanted |= bit;
  }
  return { mask, value: wanted };
});

/** The four words of the hash key; see hash_key.ts. */
export const hashKey = value((raw) => {
  const given = text(raw, 'a key');
  if (given.length === 0 || given.length > 1024) throw new Refusal('is not a key of 1 to 1024 characters');
  return hashKeyOf(given);
});

/** Path in the file system, taken as it is; what it is relative to is decided later. */
export const filePath = value((raw): string => {
  const given = text(raw, 'a path');
  if (given === '' || given.includes('\0') || (given.endsWith('/') && !isAbsolute(given))) {
    throw new Refusal(`${show(given)} is not the path of a file`);
  }
  return given;
});

/** 4 or 6. */
export const family = value((raw): 4 | 6 => {
  if (raw === 4 || raw === 6) return raw;
  throw new Refusal(`${show(raw)} is not an address family`, 'Write 4 or 6.');
});

/** 2048 or 4096. */
export const frameSize = value((raw): 2048 | 4096 => {
  if (raw === 2048 || raw === 4096) return raw;
  throw new Refusal(`${show(raw)} is not a frame size`, 'Write 2048, or 4096 for an MTU above 1500.');
});

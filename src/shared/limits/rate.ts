import { SluiceError } from '../../errors.js';

/** Seconds of the units that a packet rate may have, as iptables writes them; any unambiguous beginning will do. */
const UNITS = { second: 1, minute: 60, hour: 3600, day: 86400 } as const;

const BYTE_FACTORS = { '': 1, k: 1024, m: 1024 * 1024 } as const;

export type Rate =
  | {
      unit: 'packets';
      /** Packets in `seconds`. */
      amount: number;
      seconds: number;
    }
  | {
      unit: 'bytes';
      /** Bytes a second. */
      amount: number;
      seconds: 1;
    };

/**
 * Reads a rate as iptables does (iptables-extensions(8), hashlimit): `10/second`, `10/s`, `3/minute`, `20/day`, `100` (a second), or
 * bytes: `1000b/s`, `512kb/s`, `10mb/s` (k is 1024). Throws SluiceError, with what is allowed, for anything else.
 */
export function parseRate(text: string): Rate {
  const bytes = /^(\d{1,10})([km]?)b\/s(?:ec(?:ond)?)?$/.exec(text);
  if (bytes !== null) {
    const amount = Number(bytes[1]) * BYTE_FACTORS[bytes[2] as keyof typeof BYTE_FACTORS];
    if (amount === 0) throw notARate(text);
    return { unit: 'bytes', amount, seconds: 1 };
  }
  const packets = /^(\d{1,10})(?:\/([a-z]+))?$/.exec(text);
  if (packets === null) throw notARate(text);
  const word = packets[2] ?? 'second';
  const unit = (Object.keys(UNITS) as (keyof typeof UNITS)[]).find((name) => name.startsWith(word));
  const amount = Number(packets[1]);
  if (unit === undefined || amount === 0) throw notARate(text);
  return { unit: 'packets', amount, seconds: UNITS[unit] };
}

/** Reads an amount of bytes: `1500`, `1500b`, `64k`, `64kb`, `1m`, `1mb`. Throws SluiceError for anything else. */
export function parseByteCount(text: string): number {
  const match = /^(\d{1,10})([km]?)b?$/.exec(text);
  if (match === null) {
    throw new SluiceError('SLUICE_CONFIG', `"${text}" is no amount of bytes`, 'Write for example 1500, 64kb or 1mb.');
  }
  return Number(match[1]) * BYTE_FACTORS[match[2] as keyof typeof BYTE_FACTORS];
}

/** The rate as `parseRate` reads it. */
export function formatRate({ unit, amount, seconds }: Rate): string {
  if (unit === 'bytes') {
    if (amount % BYTE_FACTORS.m === 0) return `${amount / BYTE_FACTORS.m}mb/s`;
    return amount % BYTE_FACTORS.k === 0 ? `${amount / BYTE_FACTORS.k}kb/s` : `${amount}b/s`;
  }
  const name = Object.entries(UNITS).find(([, length]) => length === seconds)?.[0] ?? `${seconds} s`;
  return `${amount}/${name}`;
}

function notARate(text: string): SluiceError {
  return new SluiceError(
    'SLUICE_CONFIG',
    `"${text}" is no rate`,
    'Write packets as 10/second, 10/minute, 10/hour or 10/day, bytes as 1000b/s, 512kb/s or 10mb/s.',
  );
}

/** Addresses, ports and weights of other load balancers, held to what sluice's configuration takes. */
import { SluiceError } from '../../errors.js';
import { formatPrefix, parsePrefix } from '../../shared/addr.js';
import type { Address, Prefix } from '../../shared/config.js';
import { hostAddress } from '../config/scalars.js';
import { cut } from './options.js';

/** Thrown for what cannot be read; `remedy` as in SluiceError. */
export class Unreadable extends Error {
  constructor(
    message: string,
    readonly remedy = '',
  ) {
    super(message);
  }
}

/** "10.0.0.1:80", "[2001:db8::1]:80", and both without a port, which is null then. The address may be a prefix. */
export function parsePlace(text: string): { address: Prefix; port: number | null } {
  // An IPv6 address without brackets: more than one colon.
  if (/^[^[\]]*:[^[\]]*:[^[\]]*$/.test(text)) return { address: vipOf(text), port: null };
  const match = /^(?:\[([^\]]*)\]|([^:[\]]+))(?::(.*))?$/.exec(text);
  if (match === null) throw new Unreadable(`"${cut(text)}" is not address:port`);
  const port = match[3] as string | undefined;
  return { address: vipOf(match[1] ?? match[2]), port: port === undefined ? null : portOf(port) };
}

function vipOf(text: string): Prefix {
  try {
    return parsePrefix(text);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    const name = /^[A-Za-z][^:]*$/.test(text);
    throw new Unreadable(
      name ? `"${cut(text)}" is a name, not an address` : error.message,
      name ? 'Names are not resolved: write addresses (ipvsadm -S -n prints them).' : error.remedy,
    );
  }
}

export function portOf(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65535) return Number(text);
  throw new Unreadable(
    `"${cut(text)}" is not a port (0-65535)`,
    /^[a-z]/i.test(text) ? 'Names of services are not resolved: write numbers (ipvsadm -S -n prints them).' : '',
  );
}

/** An address that a backend can have. */
export function backendOf(text: string): Address {
  const { address } = parsePlace(text);
  const result = hostAddress.safeParse(formatPrefix(address));
  if (result.success) return result.data;
  throw new Unreadable(result.error.issues[0].message);
}

export function wholeNumber(text: string, most: number, what: string): number {
  if (/^\d{1,16}$/.test(text) && Number(text) <= most) return Number(text);
  throw new Unreadable(`"${cut(text)}" is not ${what} (0-${most})`);
}

/** Most that a backend's weight can be. */
export const MAX_WEIGHT = 65535;

/**
 * Weights in the same proportions, none above MAX_WEIGHT. Weights above 0 stay above 0. `exact` is false when a proportion
 * had to be rounded.
 */
export function fitWeights(weights: readonly number[]): { weights: number[]; exact: boolean } {
  const most = Math.max(0, ...weights);
  if (most <= MAX_WEIGHT) return { weights: [...weights], exact: true };
  const divisor = weights.reduce(gcd, 0);
  const reduced = weights.map((weight) => weight / divisor);
  const largest = most / divisor;
  if (largest <= MAX_WEIGHT) return { weights: reduced, exact: true };
  const scale = (weight: number): number => Math.max(Math.round((weight * MAX_WEIGHT) / largest), Math.min(weight, 1));
  return { weights: reduced.map(scale), exact: false };
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** A name that the configuration takes, of whatever text, and that is not yet in `taken`, to which it is added. */
export function nameFrom(text: string, taken: Set<string>): string {
  const cleaned = text.replace(/[^A-Za-z0-9._:-]+/g, '_');
  const base = (/^[A-Za-z0-9]/.test(cleaned) ? cleaned : `service-${cleaned}`).slice(0, 63);
  let name = base;
  for (let i = 2; taken.has(name); i++) name = `${base.slice(0, 62 - String(i).length)}-${i}`;
  taken.add(name);
  return name;
}

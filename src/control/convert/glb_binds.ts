/** What a GLB table listens to: services of sluice have one address and protocol, and many ports. */
import { formatPrefix, formatWords, maskWords, parseAddress } from '../../shared/addr.js';
import type { PortRange } from '../../shared/config.js';
import { SluiceError } from '../../errors.js';
import type { Notes, Place } from './draft.js';
import type { Part } from './glb_parts.js';
import { cut } from './options.js';
import { Unreadable } from './places.js';

export interface GlbBind {
  vip: string;
  protocol: 'tcp' | 'udp';
  /** As in the configuration; ascending, disjoint. */
  ports: (number | string)[];
}

interface Claim extends PortRange {
  place: Place;
}

/** Ports that the tables so far have, by address and protocol. */
export type Claims = Map<string, Claim[]>;

export function glbBinds(table: Part, claims: Claims, notes: Notes): GlbBind[] {
  const own = new Map<string, { vip: string; protocol: 'tcp' | 'udp'; ranges: Claim[] }>();
  for (const bind of table.children('binds', notes)) {
    try {
      const vip = vipOf(bind, notes);
      const { proto } = bind.json;
      if (proto !== 'tcp' && proto !== 'udp')
        throw new Unreadable(`${show(proto)} is not a protocol that GLB has (tcp, udp)`);
      const key = `${proto} ${vip}`;
      const range = { ...rangeOf(bind), place: bind.place() };
      const other = claims.get(key)?.find((claim) => overlap(claim, range));
      if (other)
        throw new Unreadable(
          `port ${rangeText(range)} of ${vip} belongs to the table of the bind on line ${other.place.line}`,
        );
      if (!own.has(key)) own.set(key, { vip, protocol: proto, ranges: [] });
      own.get(key)!.ranges.push(range);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      notes.lost(bind.place(), error.message, error.remedy);
    }
  }
  for (const [key, { ranges }] of own) claims.set(key, [...(claims.get(key) ?? []), ...ranges]);
  return [...own.values()].map(({ vip, protocol, ranges }) => ({ vip, protocol, ports: join(ranges).map(portOf) }));
}

/** GLB ignores bits beyond the length; sluice wants them to be zero. */
function vipOf(bind: Part, notes: Notes): string {
  const { ip } = bind.json;
  if (typeof ip !== 'string') throw new Unreadable('a bind has no "ip"');
  const match = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(ip);
  try {
    const address = parseAddress(match?.[1] ?? ip);
    const bits = address.family === 4 ? 32 : 128;
    const length = Number(match?.[2] ?? bits);
    if (length > bits) throw new Unreadable(`${cut(ip)} has a prefix of more than ${bits} bits`);
    const mask = maskWords(length);
    const [w0, w1, w2, w3] = address.words;
    const text = formatWords(address.family, [w0 & mask[0], w1 & mask[1], w2 & mask[2], w3 & mask[3]]);
    if (text !== address.text)
      notes.changed(bind.place('ip'), `${ip} is written as ${text}/${length}: bits beyond the prefix are zero`);
    return formatPrefix({ ...parseAddress(text), length });
  } catch (error) {
    if (error instanceof SluiceError) throw new Unreadable(error.message, error.remedy);
    throw error;
  }
}

function rangeOf({ json }: Part): PortRange {
  const [first, last] = json.port === undefined ? [json.port_start, json.port_end] : [json.port, json.port];
  for (const port of [first, last]) {
    if (typeof port !== 'number' || !Number.isInteger(port) || port < 0 || port > 65535) {
      throw new Unreadable(`${show(port)} is not a port (0-65535)`, 'A bind has port, or port_start and port_end.');
    }
  }
  if ((first as number) > (last as number))
    throw new Unreadable(`ports ${String(first)} to ${String(last)} run backwards`);
  return { first: first as number, last: last as number };
}

function join(ranges: readonly PortRange[]): PortRange[] {
  const joined: PortRange[] = [];
  for (const { first, last } of [...ranges].sort((a, b) => a.first - b.first)) {
    const before = joined.at(-1);
    if (before && first <= before.last) before.last = Math.max(before.last, last);
    else joined.push({ first, last });
  }
  return joined;
}

function overlap(a: PortRange, b: PortRange): boolean {
  return a.first <= b.last && b.first <= a.last;
}

function portOf({ first, last }: PortRange): number | string {
  return first === last ? first : `${first}-${last}`;
}

function rangeText(range: PortRange): string {
  return String(portOf(range));
}

function show(value: unknown): string {
  return cut(JSON.stringify(value) ?? 'nothing');
}

/** What the matches of iptables-extensions(8) mean as conditions of a rule, by module and option. */
import { parseAddress } from '../../../shared/addr.js';
import { addressBits, formatPrefix } from '../../../shared/addr.js';
import type { PortRange, Prefix } from '../../../shared/config.js';
import { protocolName, protocolNumber } from '../../config/protocols.js';
import { CONNLIMIT } from './connlimit.js';
import { HASHLIMIT, LIMIT } from './hashlimit.js';
import { icmpExpression } from './icmp.js';
import { MATCH_SET } from './match_set.js';
import { masked, prefixesOfRange, prefixesWithout, prefixesWithoutRange, rangesWithout, rangeValue } from './ranges.js';
import { cleanBytecode, type RuleDraft } from './rule_draft.js';

/** Takes an option's values; false: they say something that a rule of ours cannot. */
export type Condition = (draft: RuleDraft, values: readonly string[], negated: boolean) => boolean;

/** Words behind the option, and what they mean. */
export interface Option {
  values: number;
  read: Condition;
}

const one = (read: (draft: RuleDraft, value: string, negated: boolean) => boolean): Option => ({
  values: 1,
  read: (draft, values, negated) => read(draft, values[0], negated),
});

/** Options of every rule, by their long and short names. */
export const BASIC: ReadonlyMap<string, Option> = new Map([
  ...['-s', '--source', '--src'].map((name) => [name, one(address('src'))] as const),
  ...['-d', '--destination', '--dst'].map((name) => [name, one(address('dst'))] as const),
  ...['-p', '--protocol', '--proto'].map((name) => [name, one(protocol)] as const),
  ...['-i', '--in-interface'].map((name) => [name, one(inInterface)] as const),
  ...['-f', '--fragment'].map((name) => [name, { values: 0, read: laterFragment }] as const),
]);

/** By module. */
export const MODULES: ReadonlyMap<string, ReadonlyMap<string, Option>> = new Map([
  ['tcp', new Map([...ports(), ['--tcp-flags', { values: 2, read: tcpFlags }], ['--syn', { values: 0, read: syn }]])],
  ...['udp', 'sctp', 'dccp', 'udplite'].map((name) => [name, new Map(ports())] as const),
  [
    'multiport',
    new Map([
      ...['--sports', '--source-ports'].map((name) => [name, one(portSet('sport'))] as const),
      ...['--dports', '--destination-ports'].map((name) => [name, one(portSet('dport'))] as const),
      ['--ports', one(eitherPort)] as const,
    ]),
  ],
  ['icmp', new Map([['--icmp-type', one(icmpType)]])],
  ...['icmp6', 'icmpv6', 'ipv6-icmp'].map(
    (name) => [name, new Map([['--icmpv6-type', one(icmpType)] as const])] as const,
  ),
  ['length', new Map([['--length', one(length)]])],
  ['ttl', new Map(hopLimit('ttl'))],
  ['hl', new Map(hopLimit('hl'))],
  ['bpf', new Map([['--bytecode', one(bytecode)]])],
  ['hashlimit', new Map(HASHLIMIT)],
  ['limit', new Map(LIMIT)],
  ['connlimit', new Map(CONNLIMIT)],
  ['set', new Map(MATCH_SET)],
  [
    'statistic',
    new Map([
      ['--mode', one((_, mode, negated) => mode === 'random' && !negated)],
      ['--probability', one(probability)],
    ]),
  ],
  ['comment', new Map([['--comment', one((draft, text) => ((draft.comment = text), true))]])],
  ['iprange', new Map([['--src-range', one(addressRange('src'))] as const, ['--dst-range', one(addressRange('dst'))]])],
]);

function address(key: 'src' | 'dst') {
  return (draft: RuleDraft, text: string, negated: boolean): boolean => {
    const prefixes = text.split(',').map((part) => prefixOf(part, draft.family));
    if (prefixes.some((prefix) => prefix === null) || (negated && prefixes.length > 1)) return false;
    return addresses(draft, key, prefixes as Prefix[], negated, text);
  };
}

function addresses(
  draft: RuleDraft,
  key: 'src' | 'dst',
  prefixes: readonly Prefix[],
  negated: boolean,
  text: string,
): boolean {
  const wanted = negated ? prefixesWithout(prefixes[0]) : prefixes;
  if (wanted.length === 0) draft.never = `no address is outside of ${text}`;
  else if (!wanted.some(({ length }) => length === 0)) draft.set(key, list(wanted.map(formatPrefix)), text);
  return true;
}

/** iptables-save writes every address with a length or, for masks with holes, with a mask. */
function prefixOf(text: string, family: 4 | 6): Prefix | null {
  try {
    const [host, length = String(addressBits(family)), more] = text.split('/');
    const parsed = parseAddress(host);
    if (parsed.family !== family || more !== undefined) return null;
    const bits = /^\d{1,3}$/.test(length) ? Number(length) : maskLength(length);
    return bits === null || bits > addressBits(family) ? null : masked(family, parsed.words, bits);
  } catch {
    return null;
  }
}

/** Length of a mask without holes: 24 for 255.255.255.0. */
function maskLength(text: string): number | null {
  const { words, family } = parseAddress(text);
  const bits = words.map((word) => (word >>> 0).toString(2).padStart(32, '0')).join('');
  const length = bits.indexOf('0') < 0 ? 128 : bits.indexOf('0');
  return bits.slice(0, addressBits(family)).includes('1', length) ? null : Math.min(length, addressBits(family));
}

function addressRange(key: 'src' | 'dst') {
  return (draft: RuleDraft, text: string, negated: boolean): boolean => {
    const [from, to = from] = text.split('-');
    const first = prefixOf(from, draft.family);
    const last = prefixOf(to, draft.family);
    if (first === null || last === null) return false;
    const prefixes = negated
      ? prefixesWithoutRange(draft.family, first.words, last.words)
      : prefixesOfRange(draft.family, first.words, last.words);
    if (prefixes === null) return false;
    if (prefixes.length > 0) return addresses(draft, key, prefixes, false, text);
    draft.never = `no address is outside of ${text}`;
    return true;
  };
}

function protocol(draft: RuleDraft, text: string, negated: boolean): boolean {
  if (text === 'all' || text === '0') return !negated;
  const name = { 'ipv6-icmp': 'icmpv6', ipencap: 'ipip' }[text.toLowerCase()] ?? text;
  const number = protocolNumber(name);
  if (number === null || (negated && draft.family === 6)) return false;
  // ldb [9]; jeq the protocol: 0, else 1.
  if (negated) draft.program(`4,48 0 0 9,21 0 1 ${number},6 0 0 0,6 0 0 1`);
  else draft.set('protocol', numberOrName(number), text);
  return true;
}

function numberOrName(number: number): number | string {
  const name = protocolName(number);
  return /^\d/.test(name) ? number : name;
}

/** The loopback device has no XDP program of ours: its packets never come here, whatever a rule says of them. */
function inInterface(draft: RuleDraft, text: string, negated: boolean): boolean {
  if (text !== 'lo') return false;
  if (!negated) draft.never = 'packets of the loopback device never come here';
  return true;
}

/** Fragments behind the first, of IPv4: ldh [6]; jset #0x1fff. */
function laterFragment(draft: RuleDraft, _: readonly string[], negated: boolean): boolean {
  if (draft.family === 6) return false;
  draft.program(`4,40 0 0 6,69 0 1 8191,6 0 0 ${negated ? 0 : 1},6 0 0 ${negated ? 1 : 0}`);
  return true;
}

function ports(): [string, Option][] {
  return [
    ...['--sport', '--source-port'].map((name): [string, Option] => [name, one(portSet('sport'))]),
    ...['--dport', '--destination-port'].map((name): [string, Option] => [name, one(portSet('dport'))]),
  ];
}

function portSet(key: 'sport' | 'dport') {
  return (draft: RuleDraft, text: string, negated: boolean): boolean => {
    const ranges = rangesOf(text, 65535);
    if (ranges === null) return false;
    const wanted = negated ? rangesWithout(ranges, 65535) : ranges;
    if (wanted.length === 0) draft.never = `no port is outside of ${text}`;
    // Every port is still a condition: fragments behind the first have none.
    else draft.set(key, list(wanted.map(rangeValue)), text);
    return true;
  };
}

function eitherPort(draft: RuleDraft, text: string, negated: boolean): boolean {
  const ranges = rangesOf(text, 65535);
  if (ranges === null) return false;
  if (negated) return portSet('sport')(draft, text, true) && portSet('dport')(draft, text, true);
  const value = list(ranges.map(rangeValue));
  draft.either([{ sport: value }, { dport: value }], `--ports ${text}`);
  return true;
}

/** "80", "80:90", ":1023", "1024:", several with commas; null for anything else, names of services included. */
function rangesOf(text: string, max: number): PortRange[] | null {
  const ranges: PortRange[] = [];
  for (const part of text.split(',')) {
    const match = /^(\d{0,5})(?:(:)(\d{0,5}))?$/.exec(part);
    if (match === null || part === '' || part === ':') return null;
    const first = match[1] === '' ? 0 : Number(match[1]);
    const last = match[2] === undefined ? first : match[3] === '' ? max : Number(match[3]);
    if (last > max || first > last) return null;
    ranges.push({ first, last });
  }
  return ranges;
}

const FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG'];

function syn(draft: RuleDraft, _: readonly string[], negated: boolean): boolean {
  return tcpFlags(draft, ['FIN,SYN,RST,ACK', 'SYN'], negated);
}

function tcpFlags(draft: RuleDraft, [maskText, valueText]: readonly string[], negated: boolean): boolean {
  const mask = flagBits(maskText);
  const value = flagBits(valueText);
  if (mask === null || value === null) return false;
  if (negated) {
    if (draft.family === 6) return false;
    // ldh [6]; jset #0x1fff: 0; ldxb 4*([0]&0xf); ldb [x + 13]; and #mask; jeq #value: 0, else 1.
    draft.program(`8,40 0 0 6,69 4 0 8191,177 0 0 0,80 0 0 13,84 0 0 ${mask},21 0 1 ${value},6 0 0 0,6 0 0 1`);
    return true;
  }
  if ((value & ~mask) !== 0) draft.never = `no packet has ${valueText} set where only ${maskText} is looked at`;
  else if (mask === 0) draft.set('protocol', 'tcp', '--tcp-flags');
  else {
    const words = FLAGS.flatMap((flag, bit) =>
      (mask & (1 << bit)) === 0 ? [] : [(value & (1 << bit)) === 0 ? `!${flag.toLowerCase()}` : flag.toLowerCase()],
    );
    draft.set('tcp_flags', words.join(','), '--tcp-flags');
  }
  return true;
}

function flagBits(text: string): number | null {
  let bits = 0;
  for (const name of text.toUpperCase().split(',')) {
    if (name === 'ALL') bits |= 63;
    else if (name !== 'NONE') {
      const bit = FLAGS.indexOf(name);
      if (bit < 0) return null;
      bits |= 1 << bit;
    }
  }
  return bits;
}

function icmpType(draft: RuleDraft, text: string, negated: boolean): boolean {
  const expression = icmpExpression(draft.family, text, negated);
  if (expression === null) return false;
  if (expression !== '') draft.exprs.push(expression);
  return true;
}

function length(draft: RuleDraft, text: string, negated: boolean): boolean {
  const ranges = text.includes(',') ? null : rangesOf(text, 65535);
  return ranges !== null && within(draft, 'length', negated ? rangesWithout(ranges, 65535) : ranges);
}

/** The modules ttl and hl have the same options, but for their prefix. */
function hopLimit(prefix: 'ttl' | 'hl'): [string, Option][] {
  const option = (first: (n: number) => number, last: (n: number) => number): Option =>
    one((draft, text, negated) => {
      const number = /^\d{1,3}$/.test(text) ? Number(text) : 256;
      if (number > 255) return false;
      const range = { first: first(number), last: last(number) };
      const ranges = range.first > range.last ? [] : [range];
      return within(draft, 'ttl', negated ? rangesWithout(ranges, 255) : ranges);
    });
  return [
    [
      `--${prefix}-eq`,
      option(
        (n) => n,
        (n) => n,
      ),
    ],
    [
      `--${prefix}-lt`,
      option(
        () => 0,
        (n) => n - 1,
      ),
    ],
    [
      `--${prefix}-gt`,
      option(
        (n) => n + 1,
        () => 255,
      ),
    ],
  ];
}

/** A number that is in one of the ranges: one condition, or a rule for each. */
function within(draft: RuleDraft, key: 'length' | 'ttl', ranges: readonly PortRange[]): boolean {
  if (ranges.length === 0) draft.never = `no ${key} is in it`;
  else if (ranges.length === 1) draft.set(key, rangeValue(ranges[0]), key);
  else
    draft.either(
      ranges.map((range) => ({ [key]: rangeValue(range) })),
      key,
    );
  return true;
}

function bytecode(draft: RuleDraft, text: string, negated: boolean): boolean {
  const clean = negated ? null : cleanBytecode(text);
  if (clean === null) return false;
  draft.program(clean);
  return true;
}

/** The kernel has it as a share of 2^31 (net/netfilter/xt_statistic.c), so that 0.01 comes back as 0.01000000024. */
function probability(draft: RuleDraft, text: string, negated: boolean): boolean {
  const share = /^\d+(\.\d+)?$/.test(text) ? Number(Number(text).toFixed(8)) : NaN;
  if (!(share >= 0 && share <= 1) || draft.probability !== null) return false;
  draft.probability = negated ? Number((1 - share).toFixed(8)) : share;
  if (draft.probability === 0) draft.never = 'its probability is 0';
  return true;
}

function list<T>(values: readonly T[]): T | readonly T[] {
  return values.length === 1 ? values[0] : values;
}

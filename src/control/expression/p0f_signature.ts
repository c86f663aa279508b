/** Reads p0f v3's TCP signatures: `ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass` (p0f's docs/README, section 5). */
import { SluiceError } from '../../errors.js';

/** Kinds of TCP options that p0f knows by name; sizes where they are fixed. */
export const enum TcpOption {
  eol = 0,
  nop = 1,
  mss = 2,
  ws = 3,
  sok = 4,
  sack = 5,
  ts = 8,
}

/** Bytes of an option, kind and length included; of others the packet says it. */
export const OPTION_SIZE: ReadonlyMap<number, number> = new Map<number, number>([
  [TcpOption.nop, 1],
  [TcpOption.mss, 4],
  [TcpOption.ws, 3],
  [TcpOption.sok, 2],
  [TcpOption.ts, 10],
]);

/** p0f reads no more options than this (MAX_TCP_OPT). */
export const OPTIONS_MOST = 24;

export const QUIRKS = [
  ...(['df', 'id+', 'id-', 'ecn', '0+', 'flow', 'seq-', 'ack+', 'ack-', 'uptr+', 'urgf+', 'pushf+'] as const),
  ...(['ts1-', 'ts2+', 'opt+', 'exws', 'bad', 'linux'] as const),
];
export type Quirk = (typeof QUIRKS)[number];

/** Quirks that only packets of one family can have; those of the other family are not asked for them. */
export const QUIRK_FAMILY: Partial<Record<Quirk, 4 | 6>> = {
  df: 4,
  'id+': 4,
  'id-': 4,
  '0+': 4,
  linux: 4,
  flow: 6,
};

export interface Window {
  /** Equal to `value`; a multiple of it; `value` times the MSS or the MTU; anything. */
  readonly kind: 'equal' | 'modulo' | 'mss' | 'mtu' | 'any';
  readonly value: number;
}

export interface P0fSignature {
  /** As it was written, without blanks around it. */
  readonly text: string;
  /** null: both. */
  readonly family: 4 | 6 | null;
  /** Initial TTL. `far`: written with a −, the TTL says nothing. */
  readonly ttl: number;
  readonly far: boolean;
  /** Bytes of IPv4 options, null: any. IPv6 has 0. */
  readonly optionBytes: number | null;
  /** null: any; 0 also where there is no such option. */
  readonly mss: number | null;
  readonly scale: number | null;
  readonly window: Window;
  /** Kinds in order. The last one may be EOL, with `padding` bytes behind it. */
  readonly layout: readonly number[];
  readonly padding: number;
  readonly quirks: ReadonlySet<Quirk>;
  /** Written with a `*`: quirks that are not named may be there. */
  readonly otherQuirks: boolean;
  /** Whether there is data behind the header; null: either. */
  readonly payload: boolean | null;
}

const FIELDS = ['ver', 'ittl', 'olen', 'mss', 'wsize,scale', 'olayout', 'quirks', 'pclass'];
const EXAMPLE = '*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0';
/** No signature that means something is longer: 24 options, all quirks. */
const TEXT_MOST = 400;
const OPTION_NAMES: ReadonlyMap<string, number> = new Map<string, number>([
  ...([
    ['eol', TcpOption.eol],
    ['nop', TcpOption.nop],
    ['mss', TcpOption.mss],
    ['ws', TcpOption.ws],
    ['sok', TcpOption.sok],
    ['sack', TcpOption.sack],
    ['ts', TcpOption.ts],
  ] as const),
]);

/**
 * Reads a signature. More than p0f's own are taken, as bpftools has them: `*` for olen, `eol` for `eol+0`, the quirk `linux` (the IP identification
 * is made of sequence number and timestamp: (seq ^ ts1) & 0xffff); and `*` among the quirks. Padding of zeros up to a whole word may be left out.
 *
 * @throws SluiceError SLUICE_CONFIG that names the field, also where no packet could match
 */
export function readP0f(text: string): P0fSignature {
  const trimmed = text.trim();
  if (trimmed.length > TEXT_MOST)
    throw bad('a signature', `${trimmed.length} characters`, `Write at most ${TEXT_MOST}.`);
  const fields = trimmed.split(':');
  if (fields.length !== FIELDS.length) {
    const count = `${fields.length} field${fields.length === 1 ? '' : 's'}`;
    throw bad('it', `${count}, not 8`, `Write ${FIELDS.join(':')}, for example ${EXAMPLE}.`);
  }
  const [ver, ittl, olen, mss, wsize, olayout, quirks, pclass] = fields;
  const families = { '4': 4, '6': 6, '*': null } as const;
  if (ver !== '4' && ver !== '6' && ver !== '*') throw bad('ver', show(ver), 'Write 4, 6 or * for both.');
  if (pclass !== '0' && pclass !== '+' && pclass !== '*') {
    throw bad('pclass', show(pclass), 'Write 0 for no data, + for data, * for either.');
  }
  const family = families[ver];
  return {
    text: trimmed,
    family,
    ...readTtl(ittl),
    optionBytes: readOptionBytes(olen, family),
    mss: mss === '*' ? null : number('mss', mss, 0, 65535, 'or * for any'),
    ...readWindow(wsize),
    ...readLayout(olayout),
    ...readQuirks(quirks, family),
    payload: pclass === '*' ? null : pclass === '+',
  };
}

function readTtl(text: string): Pick<P0fSignature, 'ttl' | 'far'> {
  const remedy = 'Write the initial TTL from 1 to 255: 64, 54+10 (seen + hops), or 255- where it is random.';
  const match = /^(\d{1,3})(?:(-)|\+(\d{1,3}))?$/.exec(text);
  const ttl = match === null ? 0 : Number(match[1]) + Number(match[3] ?? 0);
  if (match === null || Number(match[1]) < 1 || ttl > 255) throw bad('ittl', show(text), remedy);
  return { ttl, far: match[2] === '-' };
}

function readOptionBytes(text: string, family: 4 | 6 | null): number | null {
  if (text === '*') return null;
  const bytes = number('olen', text, 0, 40, 'bytes of IPv4 options, or * for any');
  if (bytes % 4 !== 0) throw bad('olen', show(text), 'Write a multiple of 4: IPv4 headers are whole words.');
  if (bytes !== 0 && family === 6) throw bad('olen', show(text), 'Write 0: IPv6 headers have no options.');
  return bytes;
}

function readWindow(text: string): Pick<P0fSignature, 'window' | 'scale'> {
  const [size, scale, ...more] = text.split(',');
  if (scale === undefined || more.length > 0) {
    throw bad('wsize,scale', show(text), 'Write the two with a comma between them: mss*20,7.');
  }
  return {
    window: readSize(size),
    scale: scale === '*' ? null : number('scale', scale, 0, 255, 'or * for any'),
  };
}

function readSize(text: string): Window {
  if (text === '*') return { kind: 'any', value: 0 };
  if (text.startsWith('%')) {
    return { kind: 'modulo', value: number('wsize', text.slice(1), 2, 65535, 'behind the %') };
  }
  const unit = /^(mss|mtu)\*(.*)$/s.exec(text);
  if (unit === null) return { kind: 'equal', value: number('wsize', text, 0, 65535, 'or mss*N, mtu*N, %N, *') };
  return { kind: unit[1] as 'mss' | 'mtu', value: number('wsize', unit[2], 1, 1000, `behind ${unit[1]}*`) };
}

function readLayout(text: string): Pick<P0fSignature, 'layout' | 'padding'> {
  if (text === '') return { layout: [], padding: 0 };
  const names = text.split(',');
  if (names.length > OPTIONS_MOST) {
    throw bad('olayout', `${names.length} options`, `Write at most ${OPTIONS_MOST}; p0f reads no more.`);
  }
  let padding = 0;
  const layout = names.map((name, i) => {
    const eol = /^eol(?:\+(\d{1,3}))?$/.exec(name);
    const unknown = /^\?(\d{1,3})$/.exec(name);
    const kind = eol !== null ? 0 : unknown !== null ? Number(unknown[1]) : (OPTION_NAMES.get(name) ?? 256);
    if (kind > 255) {
      throw bad('olayout', show(name), 'Write mss, nop, ws, sok, sack, ts, eol+N (N bytes behind it) or ?N (kind N).');
    }
    if (kind === 0 && i < names.length - 1)
      throw bad('olayout', show(text), 'Write eol last: nothing is read behind it.');
    if (eol !== null) padding = Number(eol[1] ?? 0);
    return kind;
  });
  if (padding > 39) throw bad('olayout', `eol+${padding}`, 'Write at most eol+39: there are 40 bytes of options.');
  return { layout, padding };
}

function readQuirks(text: string, family: 4 | 6 | null): Pick<P0fSignature, 'quirks' | 'otherQuirks'> {
  const quirks = new Set<Quirk>();
  let otherQuirks = false;
  for (const name of text === '' ? [] : text.split(',')) {
    if (name === '*') otherQuirks = true;
    else if ((QUIRKS as readonly string[]).includes(name)) quirks.add(name as Quirk);
    else throw bad('quirks', show(name), `Write ${QUIRKS.join(', ')}, or * when others may be there.`);
    const of = QUIRK_FAMILY[name as Quirk];
    if (family !== null && of !== undefined && of !== family) {
      throw bad('quirks', `${name} in a signature for IPv${family}`, `Leave it out, or write ${of} or * for ver.`);
    }
  }
  return { quirks, otherQuirks };
}

function number(field: string, text: string, least: number, most: number, also: string): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (value >= least && value <= most) return value;
  throw bad(field, show(text), `Write a whole number from ${least} to ${most} ${also}.`);
}

function show(text: string): string {
  return text === '' ? 'empty' : JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}

/** For a field of a signature that is wrong. */
export function bad(field: string, what: string, remedy: string): SluiceError {
  return new SluiceError('SLUICE_CONFIG', `p0f signature: ${field} is ${what}`, remedy);
}

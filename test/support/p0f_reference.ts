/**
 * p0f signatures a second time, the other way round: the packet's fields are worked out as p0f's process.c does, then compared with the text of a
 * signature. Shares nothing with src/.
 */

/** What p0f notes of a SYN. */
export interface SynFields {
  family: 4 | 6;
  ttl: number;
  optionBytes: number;
  headers: number;
  window: number;
  mss: number;
  scale: number;
  ts1: number;
  /** Timestamps options that were read. */
  timestamps: number;
  layout: number[];
  padding: number;
  quirks: Set<string>;
  payload: number;
  /** There are timestamps, and (seq ^ ts1) & 0xffff is the IP identification. */
  linux: boolean;
}

/** null: no packet that p0f would look at, or no SYN. From the layer-3 header on. */
export function synFields(packet: Uint8Array): SynFields | null {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  if (packet.length < 40) return null;
  const family = packet[0] >> 4;
  const quirks = new Set<string>();
  let tcp: number;
  let total: number;
  let ttl: number;
  if (family === 4) {
    tcp = (packet[0] & 15) * 4;
    total = view.getUint16(2);
    const flags = view.getUint16(6);
    if (packet[9] !== 6 || tcp < 20 || (flags & 0x3fff) !== 0) return null;
    const id = view.getUint16(4);
    if ((flags & 0x4000) !== 0) {
      quirks.add('df');
      if (id !== 0) quirks.add('id+');
    } else if (id === 0) quirks.add('id-');
    if ((flags & 0x8000) !== 0) quirks.add('0+');
    if ((packet[1] & 3) !== 0) quirks.add('ecn');
    ttl = packet[8];
  } else if (family === 6) {
    tcp = 40;
    total = 40 + view.getUint16(4);
    if (packet[6] !== 6) return null;
    if ((view.getUint32(0) & 0xfffff) !== 0) quirks.add('flow');
    if (((view.getUint32(0) >>> 20) & 3) !== 0) quirks.add('ecn');
    ttl = packet[7];
  } else return null;
  if (total > packet.length || tcp + 20 > total) return null;
  const end = tcp + (packet[tcp + 12] >> 4) * 4;
  if (end < tcp + 20 || end > total) return null;
  const flags = packet[tcp + 13];
  if ((flags & 2) === 0 || (flags & 0x15) !== 0) return null;
  if ((flags & 0xc0) !== 0 || (packet[tcp + 12] & 1) !== 0) quirks.add('ecn');
  const seq = view.getUint32(tcp + 4);
  if (seq === 0) quirks.add('seq-');
  if (view.getUint32(tcp + 8) !== 0) quirks.add('ack+');
  if ((flags & 0x20) !== 0) quirks.add('urgf+');
  else if (view.getUint16(tcp + 18) !== 0) quirks.add('uptr+');
  if ((flags & 8) !== 0) quirks.add('pushf+');
  const fields: SynFields = {
    ...{ family, ttl, optionBytes: family === 4 ? tcp - 20 : 0, headers: end, window: view.getUint16(tcp + 14) },
    ...{ mss: 0, scale: 0, ts1: 0, timestamps: 0, layout: [], padding: 0, quirks, payload: total - end, linux: false },
  };
  readOptions(fields, packet, tcp + 20, end);
  fields.linux = family === 4 && fields.timestamps > 0 && view.getUint16(4) === ((seq ^ fields.ts1) & 0xffff);
  return fields;
}

const FIXED: Record<number, number> = { 2: 4, 3: 3, 4: 2, 8: 10 };

function readOptions(fields: SynFields, packet: Uint8Array, at: number, end: number): void {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const { quirks, layout } = fields;
  while (at < end && layout.length < 24) {
    const kind = packet[at];
    layout.push(kind);
    if (kind === 0) {
      fields.padding = end - at - 1;
      if (packet.subarray(at + 1, end).some((byte) => byte !== 0)) quirks.add('opt+');
      return;
    }
    if (kind === 1) {
      at++;
      continue;
    }
    const fixed = FIXED[kind];
    if (fixed !== undefined) {
      if (at + fixed > end) break;
      if (packet[at + 1] !== fixed) quirks.add('bad');
      if (kind === 2) fields.mss = view.getUint16(at + 2);
      if (kind === 3) fields.scale = packet[at + 2];
      if (kind === 3 && fields.scale > 14) quirks.add('exws');
      if (kind === 8) {
        fields.timestamps++;
        fields.ts1 = view.getUint32(at + 2);
        if (fields.ts1 === 0) quirks.add('ts1-');
        if (view.getUint32(at + 6) !== 0) quirks.add('ts2+');
      }
      at += fixed;
      continue;
    }
    const [least, most] = kind === 5 ? [10, 34] : [2, 40];
    if (at + 1 === end) break;
    const length = packet[at + 1];
    if (length < least || length > most || at + length > end) break;
    at += length;
  }
  if (at !== end) quirks.add('bad');
}

export const OPTION_NAMES: Record<number, string> = { 1: 'nop', 2: 'mss', 3: 'ws', 4: 'sok', 5: 'sack', 8: 'ts' };

/** The layout as p0f prints it. */
export function layoutText({ layout, padding }: Pick<SynFields, 'layout' | 'padding'>): string {
  return layout.map((kind) => (kind === 0 ? `eol+${padding}` : (OPTION_NAMES[kind] ?? `?${kind}`))).join(',');
}

/** The layout without the end of options, where that only fills up the last word, and all sizes are known. */
function withoutPadding({ layout, padding }: SynFields): string | null {
  const kinds = layout.slice(0, -1);
  const fills = layout.at(-1) === 0 && padding < 3 && kinds.every((kind) => kind === 1 || FIXED[kind] !== undefined);
  return fills ? layoutText({ layout: kinds, padding }) : null;
}

const OF_FAMILY: Record<string, number> = { df: 4, 'id+': 4, 'id-': 4, '0+': 4, flow: 6 };

/** Whether a packet's fields fit a well-formed signature. */
export function fits(fields: SynFields, text: string): boolean {
  const [ver, ittl, olen, mss, wsize, olayout, quirkText, pclass] = text.split(':');
  const same = (wanted: string, value: number): boolean => wanted === '*' || Number(wanted) === value;
  if (!same(ver, fields.family) || !same(olen, fields.optionBytes) || !same(mss, fields.mss)) return false;
  if (!ittl.endsWith('-')) {
    const initial = ittl.split('+').reduce((sum, part) => sum + Number(part), 0);
    if (fields.ttl > initial || (initial >= 35 && fields.ttl <= initial - 35)) return false;
  }
  const [size, scale] = wsize.split(',');
  if (!same(scale, fields.scale) || !windowFits(fields, size)) return false;
  const named = quirkText === '' ? [] : quirkText.split(',');
  const mayShorten = !named.includes('bad') && !named.includes('opt+');
  if (layoutText(fields) !== olayout && !(mayShorten && withoutPadding(fields) === olayout)) return false;
  const others = named.includes('*');
  if (named.includes('linux') && !olayout.split(',').includes('ts')) return false;
  // p0f does not take these.
  if (ver !== '*' && named.some((name) => (OF_FAMILY[name] ?? Number(ver)) !== Number(ver))) return false;
  if (named.includes('linux') && fields.family === 4 && !fields.linux) return false;
  const wanted = named.filter(
    (name) => name !== '*' && name !== 'linux' && (OF_FAMILY[name] ?? fields.family) === fields.family,
  );
  if (wanted.some((name) => !fields.quirks.has(name))) return false;
  if (!others && fields.quirks.size !== new Set(wanted).size) return false;
  return pclass === '*' || (pclass === '+') === fields.payload > 0;
}

function windowFits({ window, mss, ts1, family, headers }: SynFields, text: string): boolean {
  if (text === '*') return true;
  if (text.startsWith('%')) return window % Number(text.slice(1)) === 0;
  if (!text.includes('*')) return Number(text) === window;
  const [unit, count] = text.split('*');
  if (window === 0 || mss < 100) return false;
  const mssUnits = [mss, 1460, 1448, ...(ts1 !== 0 ? [mss - 12] : []), ...(family === 6 ? [1440, 1428] : [])];
  const mtuUnits = [mss + 40, mss + headers, 1500, ...(family === 6 ? [mss + 60] : [])];
  return (unit === 'mss' ? mssUnits : mtuUnits).some((size) => size * Number(count) === window);
}

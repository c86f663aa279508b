/** Random SYNs, well formed and not, and signatures that are near to them. */
import type { Random } from './cbpf_programs.js';
import { layoutText, type SynFields } from './p0f_reference.js';

const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)];
const chance = (random: Random, oneIn: number): boolean => random(oneIn) === 0;

function u16(value: number): number[] {
  return [(value >> 8) & 0xff, value & 0xff];
}

/** Options with kinds that p0f knows and others, a few of them wrong; at most 40 bytes, a multiple of 4. */
function randomOptions(random: Random): number[] {
  if (chance(random, 12))
    return Array.from({ length: random(11) * 4 }, () => pick(random, [0, 1, 1, 1, 2, 3, 4, 5, 8, 10, 40, 19]));
  const bytes: number[] = [];
  const small = (): number => (chance(random, 3) ? 0 : random(256));
  for (let count = random(7); count > 0; count--) {
    const wrong = (size: number): number => (chance(random, 25) ? random(44) : size);
    switch (random(9)) {
      case 0:
      case 1:
        bytes.push(2, wrong(4), ...u16(pick(random, [1460, 1440, 1400, 100, 99, 0, 536, random(65536)])));
        break;
      case 2:
        bytes.push(3, wrong(3), pick(random, [0, 7, 8, 14, 15, 255]));
        break;
      case 3:
        bytes.push(4, wrong(2));
        break;
      case 4:
      case 5:
        bytes.push(8, wrong(10), ...(chance(random, 3) ? [0, 0, 0, 0] : [small(), small(), small(), random(256)]));
        bytes.push(...(chance(random, 3) ? [0, small(), 0, small()] : [0, 0, 0, 0]));
        break;
      case 6:
        bytes.push(1);
        break;
      case 7:
        bytes.push(5, wrong(10), ...Array.from({ length: 8 }, () => random(256)));
        break;
      default: {
        const size = 2 + random(5);
        bytes.push(pick(random, [6, 19, 34, 253]), wrong(size), ...Array.from({ length: size - 2 }, () => random(256)));
      }
    }
  }
  if (chance(random, 40)) bytes.splice(0, 40, ...new Array<number>(24 + random(16)).fill(1));
  const kept = bytes.slice(0, 40);
  while (kept.length % 4 !== 0) kept.push(chance(random, 3) ? 1 : 0);
  if (chance(random, 10) && kept.length <= 32) kept.push(0, small(), 0, small());
  return kept;
}

/** From the layer-3 header on. */
export function randomSyn(random: Random): Uint8Array {
  const family = pick(random, [4, 4, 6]);
  const options = randomOptions(random);
  const mss = options[0] === 2 ? (options[2] << 8) | options[3] : 1460;
  const units = [mss, mss - 12, mss + 40, 1460, 1448, 1440, 1500, mss + 60, mss + 40 + options.length, 100];
  const window = chance(random, 3) ? random(65536) : pick(random, units) * pick(random, [1, 4, 10, 20, 44]);
  const payload = Array.from({ length: chance(random, 4) ? random(20) : 0 }, () => random(256));
  const dataOffset = 5 + options.length / 4 + (chance(random, 40) ? random(5) - 2 : 0);
  const seq = chance(random, 10) ? [0, 0, 0, 0] : [random(256), random(256), random(256), random(256)];
  const rarely = (value: number): number => (chance(random, 12) ? value : 0);
  const tcp = [
    ...[...u16(random(65536)), ...u16(443), ...seq, ...[0, 0, 0, rarely(1)]],
    ...[((dataOffset & 15) << 4) | rarely(random(16)), 0x02 | rarely(random(256)), ...u16(window), 0, 0],
    ...u16(rarely(random(3))),
    ...options,
    ...payload,
  ];
  const ttl = pick(random, [64, 54, 30, 29, 128, 94, 93, 255, 1, 32, random(256)]);
  if (family === 6) {
    const length = tcp.length + (chance(random, 40) ? random(9) - 4 : 0);
    const first = [0x60 | rarely(random(16)), rarely(random(256)), ...u16(rarely(random(65536)))];
    const header = [...first, ...u16(length), chance(random, 50) ? 17 : 6, ttl, ...new Array<number>(32).fill(9)];
    return cut(random, [...header, ...tcp]);
  }
  const optionBytes = chance(random, 6) ? random(4) * 4 : 0;
  const length = 20 + optionBytes + tcp.length + (chance(random, 40) ? random(9) - 4 : 0);
  // (seq ^ ts1) & 0xffff, when the timestamps are the first option but one or so: found by chance otherwise.
  const ts = options.indexOf(8);
  const linux = ts < 0 ? 0 : (((seq[2] ^ options[ts + 4]) << 8) | (seq[3] ^ options[ts + 5])) & 0xffff;
  const id = pick(random, [0, 1, 0x1234, linux, linux]);
  const flags = pick(random, [
    0x4000,
    0x4000,
    0,
    0x8000,
    0xc000,
    chance(random, 10) ? 0x2000 : 0,
    chance(random, 10) ? 1 : 0x4000,
  ]);
  const ihl = 5 + optionBytes / 4 + (chance(random, 60) ? random(3) - 1 : 0);
  const header = [0x40 | (ihl & 15), rarely(random(256)), ...u16(length), ...u16(id), ...u16(flags)];
  header.push(
    ttl,
    chance(random, 60) ? 17 : 6,
    0,
    0,
    10,
    0,
    0,
    1,
    10,
    0,
    0,
    2,
    ...new Array<number>(optionBytes).fill(1),
  );
  return cut(random, [...header, ...tcp]);
}

function cut(random: Random, bytes: number[]): Uint8Array {
  if (chance(random, 30)) return Uint8Array.from(bytes.slice(0, random(bytes.length)));
  return Uint8Array.from(chance(random, 10) ? [...bytes, 0, 0, 7] : bytes);
}

const QUIRKS = [
  'df',
  'id+',
  'id-',
  'ecn',
  '0+',
  'flow',
  'seq-',
  'ack+',
  'uptr+',
  'urgf+',
  'pushf+',
  'ts1-',
  'ts2+',
  'opt+',
  'exws',
  'bad',
];

/** A signature that these fields fit, or fit but for something. */
export function signatureNear(random: Random, fields: SynFields): string {
  const star = (value: number | string): string => (chance(random, 3) ? '*' : `${value}`);
  const off = (value: number, most: number): number => (chance(random, 25) ? random(most + 1) : value);
  const { family, ttl, mss, scale, window } = fields;
  const initial = Math.min(255, Math.max(1, ttl + pick(random, [0, 0, 1, 10, 34, 35, 36, -1])));
  const ittl = pick(random, [
    `${initial}`,
    `${initial}`,
    `${Math.max(1, initial - 3)}+${Math.min(3, initial - 1)}`,
    `${initial}-`,
  ]);
  const units = [mss, mss - 12, 1460, 1448, 1440, 1428].filter((unit) => unit > 0 && window % unit === 0 && window > 0);
  const mtus = [mss + 40, mss + 60, mss + fields.headers, 1500].filter((unit) => window % unit === 0 && window > 0);
  const sizes = ['*', `${off(window, 65535)}`, `%${2 + random(9)}`, ...(window > 1 ? [`%${window}`] : [])];
  if (units.length > 0) sizes.push(...[0, 0, 0].map(() => `mss*${window / pick(random, units)}`));
  if (mtus.length > 0) sizes.push(...[0, 0, 0].map(() => `mtu*${window / pick(random, mtus)}`));
  const quirks = new Set(fields.quirks);
  if (chance(random, 8)) quirks.add(pick(random, QUIRKS));
  for (const quirk of quirks) if (chance(random, 25)) quirks.delete(quirk);
  if (chance(random, 4)) {
    for (const quirk of quirks) if (chance(random, 2)) quirks.delete(quirk);
    quirks.add('*');
  }
  if (family === 4 && (fields.linux ? chance(random, 2) : chance(random, 20))) quirks.add('linux');
  const layout = layoutText(chance(random, 25) ? { ...fields, layout: fields.layout.slice(0, -1) } : fields);
  return [
    ...[
      chance(random, 2) ? '*' : `${chance(random, 30) ? 10 - family : family}`,
      ittl,
      star(off(fields.optionBytes, 3)),
      star(mss),
    ],
    ...[`${pick(random, sizes)},${star(off(scale, 15))}`, layout, [...quirks].join(',')],
    pick(random, ['*', fields.payload > 0 ? '+' : '0', chance(random, 10) ? '+' : '*']),
  ].join(':');
}

/** The question of a DNS message read byte by byte, and patterns of names compared label by label: what the programs are held against. */
import type { Random } from './cbpf_programs.js';

export interface Question {
  response: boolean;
  /** One buffer a label, bytes as they came. */
  labels: Buffer[];
  type: number;
}

/** From the layer-3 header on; null: no first question that is whole. */
export function questionOf(packet: Uint8Array, response: boolean): Question | null {
  const bytes = Buffer.from(packet);
  let at: number;
  if (bytes[0] >> 4 === 4) {
    if (bytes.length < 20 || bytes[9] !== 17 || (bytes.readUInt16BE(6) & 0x1fff) !== 0) return null;
    at = (bytes[0] & 15) * 4;
  } else if (bytes[0] >> 4 === 6) {
    if (bytes.length < 40 || bytes[6] !== 17) return null;
    at = 40;
  } else return null;
  if (at + 20 > bytes.length) return null;
  if (bytes.readUInt16BE(at + (response ? 0 : 2)) !== 53) return null;
  const dns = at + 8;
  if (((bytes[dns + 2] & 0x80) !== 0) !== response || bytes.readUInt16BE(dns + 4) === 0) return null;
  const labels: Buffer[] = [];
  const start = dns + 12;
  for (at = start; ;) {
    if (at >= bytes.length) return null;
    const length = bytes[at];
    if (length === 0) break;
    if (length > 63) return null;
    labels.push(bytes.subarray(at + 1, at + 1 + length));
    at += 1 + length;
  }
  if (at + 1 - start > 255 || at + 5 > bytes.length) return null;
  return { response, labels, type: bytes.readUInt16BE(at + 1) };
}

/** A label's bytes, or a range of lengths; 'front' and 'behind' stand for one or more labels. */
export type Part = Buffer | readonly [least: number, most: number] | 'front' | 'behind';

export function nameFits(labels: readonly Buffer[], parts: readonly Part[]): boolean {
  const [first] = parts;
  if (first === 'front') {
    const rest = parts.length - 1;
    return labels.length > rest && nameFits(labels.slice(labels.length - rest), parts.slice(1));
  }
  const whole = parts.at(-1) !== 'behind';
  const fixed = whole ? parts : parts.slice(0, -1);
  if (whole ? labels.length !== fixed.length : labels.length <= fixed.length) return false;
  return fixed.every((part, i) => {
    if (typeof part === 'string') return false;
    if (!Buffer.isBuffer(part)) return labels[i].length >= part[0] && labels[i].length <= part[1];
    return lower(labels[i]).equals(lower(part));
  });
}

function lower(label: Buffer): Buffer {
  return Buffer.from(label.map((byte) => (byte >= 65 && byte <= 90 ? byte + 32 : byte)));
}

/** As a configuration has it. */
export function patternText(parts: readonly Part[]): string {
  if (parts.length === 0) return '.';
  const labels = parts.map((part) => {
    if (part === 'front') return '*';
    if (part === 'behind') return '**';
    if (!Buffer.isBuffer(part)) return `*{${part[0]}-${part[1]}}`;
    return [...part]
      .map((byte) =>
        /[A-Za-z0-9_-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `\\${`${byte}`.padStart(3, '0')}`,
      )
      .join('');
  });
  return labels.join('.');
}

const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)];
const chance = (random: Random, oneIn: number): boolean => random(oneIn) === 0;
const WORDS = [
  'example',
  'com',
  'www',
  'EXAMPLE',
  'a',
  'Com',
  'net',
  '[{@`',
  '\x03com',
  '\0',
  '\x07example\x03com',
  'x'.repeat(63),
  'zz',
];

export function randomLabel(random: Random): Buffer {
  if (!chance(random, 5)) return Buffer.from(pick(random, WORDS), 'latin1');
  return Buffer.from(Array.from({ length: 1 + random(chance(random, 8) ? 63 : 8) }, () => random(256)));
}

export function randomName(random: Random): Buffer[] {
  if (chance(random, 40)) return Array.from({ length: 120 + random(10) }, () => Buffer.from('b'));
  if (chance(random, 40)) return [63, 63, 63, 60 + random(3)].map((length) => Buffer.alloc(length, 'c'));
  return Array.from({ length: random(chance(random, 6) ? 20 : 5) }, () => randomLabel(random));
}

/** A pattern that this name fits, or nearly. */
export function patternNear(random: Random, name: readonly Buffer[]): Part[] {
  const parts: Part[] = name.map((label): Part => {
    const kind = random(12);
    if (kind === 0) return [Math.max(1, label.length - random(3)), Math.min(63, label.length + random(3))];
    if (kind === 1) return randomLabel(random);
    return kind < 8 ? Buffer.from(label.toString('latin1').toUpperCase(), 'latin1') : label;
  });
  const kind = random(6);
  if (kind < 3) parts.splice(0, random(parts.length + 1), 'front');
  else if (kind === 3 && parts.length > 1) parts.splice(1 + random(parts.length - 1), parts.length, 'behind');
  else if (chance(random, 6)) parts.splice(random(parts.length + 1), 1);
  return parts;
}

/** A message over UDP from the layer-3 header on, mostly as it should be. */
export function randomMessage(random: Random, name: readonly Buffer[], type: number): Uint8Array {
  const response = chance(random, 5);
  const wire = Buffer.concat([...name.flatMap((label) => [Buffer.from([label.length]), label]), Buffer.from([0])]);
  if (chance(random, 20)) wire[random(wire.length)] = pick(random, [0xc0, 0, 64, random(256)]);
  const flags = [(response ? 0x80 : 0) | (chance(random, 8) ? random(256) : 1), 0];
  const counts = [0, chance(random, 12) ? 0 : 1 + random(2), 0, 0, 0, 0, 0, random(2)];
  const dns = Buffer.concat([
    Buffer.from([1, 2, ...flags, ...counts]),
    wire,
    Buffer.from([type >> 8, type & 255, 0, 1]),
  ]);
  const port = chance(random, 30) ? [0, 54] : [0, 53];
  const udp = Buffer.from([...(response ? [...port, 9, 9] : [9, 9, ...port]), 0, dns.length + 8, 0, 0]);
  const protocol = chance(random, 40) ? 6 : 17;
  let header: Buffer;
  if (chance(random, 3)) header = Buffer.from([0x60, 0, 0, 0, 0, 0, protocol, 64, ...new Array<number>(32).fill(7)]);
  else {
    const options = chance(random, 5) ? random(4) * 4 : 0;
    const fragment = chance(random, 30) ? [0x00, 0x01] : [chance(random, 10) ? 0x20 : 0x40, 0];
    const rest = [protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, ...new Array<number>(options).fill(1)];
    header = Buffer.from([0x45 + options / 4, 0, 0, 0, 0, 1, ...fragment, 64, ...rest]);
  }
  const packet = Buffer.concat([header, udp, dns, Buffer.alloc(chance(random, 3) ? random(12) : 0, 1)]);
  return Uint8Array.from(chance(random, 8) ? packet.subarray(0, random(packet.length)) : packet);
}

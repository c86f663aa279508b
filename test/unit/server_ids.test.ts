import { describe, expect, it } from 'vitest';
import {
  NO_SERVER,
  buildServerIds,
  findServerId,
  formatServerId,
  parseServerId,
  serverIdOfBytes,
  type ServerIdEntry,
} from '../../src/shared/server_ids.js';
import { random } from '../support/packets.js';

const entry = (id: number | string, position: number, owner = `10.0.0.${position}`): ServerIdEntry => ({
  id: parseServerId(id),
  position,
  owner,
});

function find(words: Int32Array, id: number | string): number {
  const { length, words: w } = parseServerId(id);
  return findServerId(words, length, w[0], w[1], w[2], w[3]);
}

describe('server ids in configs', () => {
  it.each([
    [1022, 0, [1022, 0, 0, 0], '1022'],
    [0x030001, 0, [0x030001, 0, 0, 0], '196609'],
    [0xffffffff, 0, [-1, 0, 0, 0], '4294967295'],
    ['hex:0a', 1, [0x0a000000, 0, 0, 0], 'hex:0a'],
    ['hex:0A0b0c0D', 4, [0x0a0b0c0d, 0, 0, 0], 'hex:0a0b0c0d'],
    ['hex:ff00000001', 5, [0xff000000 | 0, 0x01000000, 0, 0], 'hex:ff00000001'],
    ['hex:' + '11'.repeat(15), 15, [0x11111111, 0x11111111, 0x11111111, 0x11111100], 'hex:' + '11'.repeat(15)],
  ] as const)('reads %s', (text, length, words, canonical) => {
    const id = parseServerId(text);
    expect(id).toEqual({ length, words });
    expect(formatServerId(id)).toBe(canonical);
  });

  it.each([
    [0, '0 is not a server id: a number must be from 1 to 4294967295'],
    [-1, '-1 is not a server id'],
    [1.5, '1.5 is not a server id'],
    [2 ** 32, '4294967296 is not a server id'],
    [NaN, 'NaN is not a server id'],
    ['0a0b', '"0a0b" is not a server id'],
    ['hex:', '"hex:" is not a server id'],
    ['hex:abc', '"hex:abc" is not a server id'],
    ['hex:' + '00'.repeat(16), 'is not a server id'],
    ['hex:0g', '"hex:0g" is not a server id'],
    ['x'.repeat(100_000), 'is not a server id'],
  ])('refuses %s', (text, message) => {
    expect(() => parseServerId(text)).toThrow(expect.objectContaining({ code: 'SLUICE_FORMAT' }));
    expect(() => parseServerId(text)).toThrow(message);
  });

  it('takes byte strings of 1 to 15 bytes', () => {
    expect(() => serverIdOfBytes(new Uint8Array(0))).toThrow(RangeError);
    expect(() => serverIdOfBytes(new Uint8Array(16))).toThrow(RangeError);
    expect(serverIdOfBytes(Uint8Array.of(1, 2))).toEqual({ length: 2, words: [0x01020000, 0, 0, 0] });
  });
});

describe('the table of server ids', () => {
  it('finds what is in it and nothing else', () => {
    const table = buildServerIds([entry(1022, 0), entry(1023, 1), entry('hex:0a0b0c0d', 2), entry(0xffffffff, 3)]);
    expect(find(table, 1022)).toBe(0);
    expect(find(table, 1023)).toBe(1);
    expect(find(table, 'hex:0a0b0c0d')).toBe(2);
    expect(find(table, 0xffffffff)).toBe(3);
    expect(find(table, 1021)).toBe(NO_SERVER);
    expect(find(buildServerIds([]), 1022)).toBe(NO_SERVER);
    expect(findServerId(table, 0, 0, 0, 0, 0)).toBe(NO_SERVER);
  });

  it('keeps ids of different lengths apart, and numbers from bytes', () => {
    const table = buildServerIds([
      entry('hex:0a', 0),
      entry('hex:0a00', 1),
      entry(0x0a000000, 2),
      entry('hex:0a000000', 3),
    ]);
    expect(find(table, 'hex:0a')).toBe(0);
    expect(find(table, 'hex:0a00')).toBe(1);
    expect(find(table, 0x0a000000)).toBe(2);
    expect(find(table, 'hex:0a000000')).toBe(3);
    expect(find(table, 'hex:0a0000')).toBe(NO_SERVER);
  });

  it('names both owners of an id that is there twice; an owner may repeat its own', () => {
    expect(() => buildServerIds([entry(7, 0), entry(8, 1), entry(7, 2)])).toThrow(
      'server id 7 belongs to both 10.0.0.0 and 10.0.0.2',
    );
    expect(() => buildServerIds([entry('hex:07', 0), entry('hex:07', 2)])).toThrow('hex:07 belongs to both');
    expect(find(buildServerIds([entry(7, 1), entry(7, 1)]), 7)).toBe(1);
  });

  it.each(['numbers in a row', 'random numbers', 'bytes'])('holds 50,000 ids with short probes: %s', (kind) => {
    const next = random(9);
    const idOf = (i: number): ServerIdEntry['id'] => {
      if (kind === 'numbers in a row') return parseServerId(i + 1);
      if (kind === 'random numbers') return parseServerId(1 + i * 65537);
      return serverIdOfBytes(Uint8Array.of(i >> 8, i, ...Array.from({ length: 10 }, () => next() * 256)));
    };
    const ids = Array.from({ length: 50_000 }, (_, i) => idOf(i));
    const table = buildServerIds(ids.map((id, i) => ({ id, position: i % 4096, owner: String(i) })));
    expect(
      ids.every(({ length, words: w }, i) => findServerId(table, length, w[0], w[1], w[2], w[3]) === i % 4096),
    ).toBe(true);
    // Word 1 of the header: how far the entry lies that is furthest from its place.
    expect(table[1]).toBeLessThan(40);
    expect(table.byteLength).toBeLessThan(50_000 * 100);
  });
});

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { quickPrefix } from '../../src/control/quick_prefix.js';
import { readSourceRoutes } from '../../src/control/source_routes.js';
import { addressFromWords, formatPrefix, maskWords, parsePrefix } from '../../src/shared/addr.js';
import { random } from '../support/packets.js';

const folder = mkdtempSync(join(tmpdir(), 'sluice-routes-'));
afterAll(() => rmSync(folder, { recursive: true }));

const path = join(folder, 'routes.txt');

function read(content: string | Uint8Array): string[] {
  writeFileSync(path, content);
  return readSourceRoutes(path).map(({ prefix, backend }) => `${formatPrefix(prefix)} ${backend.text}`);
}

function refusal(content: string): { code?: string; message?: string; remedy?: string } {
  try {
    read(content);
    return {};
  } catch (error) {
    return error as { code: string; message: string; remedy: string };
  }
}

describe('files of source routes', () => {
  it('have a prefix and a backend a line, in order, with comments and blanks', () => {
    const text = [
      '# branch offices',
      '192.0.2.0/24 10.0.0.11',
      '',
      '  \t2001:DB8:7::/48 \t fc00::11 # the longest counts',
      '198.51.100.7\tfc00::0:11\r',
      '::/0 10.0.0.11',
      '0.0.0.0/0 10.0.0.12#no blank',
      '2001:db8::1:0:0:1/128 10.0.0.11',
    ].join('\n');
    expect(read(text)).toEqual([
      '192.0.2.0/24 10.0.0.11',
      '2001:db8:7::/48 fc00::11',
      '198.51.100.7 fc00::11',
      '::/0 10.0.0.11',
      '0.0.0.0/0 10.0.0.12',
      '2001:db8::1:0:0:1 10.0.0.11',
    ]);
  });

  it('may be empty, end without a new line, and hold comments in any encoding', () => {
    expect(read('')).toEqual([]);
    expect(read('# nothing')).toEqual([]);
    expect(read('10.0.0.0/8 10.0.0.1')).toEqual(['10.0.0.0/8 10.0.0.1']);
    expect(read(Buffer.from('10.0.0.0/8 10.0.0.1 # Zürich ☃\n'))).toEqual(['10.0.0.0/8 10.0.0.1']);
  });

  it('may be larger than a chunk: lines that lie over its end are whole', () => {
    const lines = Array.from({ length: 30_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24 10.0.0.${(i % 200) + 1}`);
    expect(lines.join('\n').length).toBeGreaterThan(2 * 262_144);
    expect(read(lines.join('\n'))).toEqual(lines);
  });

  it.each([
    ['10.0.0.0/8', ':1: "10.0.0.0/8" is not a prefix and a backend', '192.0.2.0/24 10.0.0.11'],
    ['10.0.0.0/8 10.0.0.1 3', ':1: "10.0.0.0/8 10.0.0.1 3" is not a prefix and a backend', '192.0.2.0/24'],
    ['\n\n10.0.0.1/8 10.0.0.1', ':3: "10.0.0.1/8" has bits set beyond its length', 'Write 10.0.0.0/8'],
    ['#\n10.0.0.0/33 10.0.0.1', ':2: "10.0.0.0/33" is not a prefix', ''],
    ['10.0.0.0/8 10.0.0.256', ':1: "10.0.0.256" is not an IP address', ''],
    ['10.0.0.0/8 10.0.0.0/24', ':1: "10.0.0.0/24" is a prefix, not an address', 'Leave out'],
    ['10.0.0.0/8 10.0.0.1\n010.0.0.0/8 10.0.0.1', ':2: "010.0.0.0" is not an IP address', 'without leading zeros'],
    ['2001:db8::1/32 10.0.0.1', ':1: "2001:db8::1/32" has bits set', 'Write 2001:db8::/32'],
    ['::ffff:192.0.2.0/120 10.0.0.1', ':1: ', 'IPv4'],
    ['x'.repeat(600_000), ':1: a line of more than 4096 characters', 'Is it a file of source routes?'],
  ])('%# names file, line and remedy', (content, message, remedy) => {
    const { code, message: found, remedy: next } = refusal(content);
    expect(code).toBe('SLUICE_CONFIG');
    expect(found).toContain(path);
    expect(found).toContain(message);
    expect(next).toContain(remedy);
  });

  it('that cannot be read are named', () => {
    for (const missing of [join(folder, 'nowhere.txt'), folder]) {
      expect(() => readSourceRoutes(missing)).toThrow(
        expect.objectContaining({ code: 'SLUICE_CONFIG', message: expect.stringContaining(missing) }),
      );
    }
  });
});

describe('quickPrefix', () => {
  const plain = ({ family, words, length }: ReturnType<typeof parsePrefix>) => ({ family, words: [...words], length });

  /** What parsePrefix makes of it, null when it refuses. */
  function slow(text: string): object | null {
    try {
      return plain(parsePrefix(text));
    } catch {
      return null;
    }
  }

  it('reads plain prefixes itself', () => {
    for (const text of ['192.0.2.0/24', '0.0.0.0/0', '2001:db8:7::/48', 'FC00::/7', '1:2:3:4:5:6:7:8/128']) {
      expect(quickPrefix(text)).toEqual(slow(text));
      expect(quickPrefix(text)).not.toBe(null);
    }
  });

  it('says what parsePrefix says, or nothing', () => {
    const next = random(8);
    const pick = (from: string): string => from[Math.floor(next() * from.length)];
    let quick = 0;
    for (let i = 0; i < 20_000; i++) {
      const family = next() < 0.5 ? 4 : 6;
      const bits = family === 4 ? 32 : 128;
      const length = Math.floor(next() * (bits + 1));
      const mask = maskWords(length);
      const words = mask.map((m, w) => (w * 32 < bits ? (next() * 2 ** 32) & m : 0)) as [
        number,
        number,
        number,
        number,
      ];
      let text = `${addressFromWords(family, words).text}/${length}`;
      // Half of them damaged in a place or two.
      if (next() < 0.5) {
        const at = Math.floor(next() * text.length);
        text =
          text.slice(0, at) +
          (next() < 0.5 ? '' : pick('0123456789abcdefg:./% ')) +
          text.slice(at + (next() < 0.5 ? 1 : 0));
      }
      const found = quickPrefix(text);
      if (found === null) continue;
      quick++;
      expect({ text, ...found, words: [...found.words] }).toEqual({ text, ...slow(text) });
    }
    expect(quick).toBeGreaterThan(8000);
  });

  it.each([
    '0:0:0:0:0:ffff:c000:200/120',
    '::/0',
    '10.0.0.0',
    '10.0.0.0/08',
    '1:2:3:4:5:6:7:8:9/128',
    '/8',
    ':/8',
    '::',
  ])('leaves %s to parsePrefix', (text) => {
    expect(quickPrefix(text)).toBe(null);
  });
});

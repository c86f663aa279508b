import { isIPv4, isIPv6 } from 'node:net';
import { describe, expect, it } from 'vitest';
import {
  AddressError,
  addressFromBytes,
  addressFromWords,
  addressToBytes,
  ethernetWords,
  formatMac,
  formatPrefix,
  formatWords,
  isLoopback,
  macsOfWords,
  maskWords,
  parseAddress,
  parseEndpoint,
  parseMac,
  parsePrefix,
  prefixContains,
  sameAddress,
} from '../../src/shared/addr.js';

function errorOf(run: () => unknown): AddressError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(AddressError);
    return error as AddressError;
  }
  throw new Error('nothing was thrown');
}

describe('an IPv4 address', () => {
  it('is one word in network byte order, int32', () => {
    expect(parseAddress('10.1.2.3')).toEqual({ family: 4, words: [0x0a010203, 0, 0, 0], text: '10.1.2.3' });
    expect(parseAddress('198.51.100.10').words[0]).toBe(0xc633640a | 0);
    expect(parseAddress('255.255.255.255').words[0]).toBe(-1);
    expect(parseAddress('0.0.0.0').words[0]).toBe(0);
  });

  it.each([
    '',
    ' ',
    '10',
    '10.1',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '1.2.3.-4',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1.2.3.4\n',
    '1..3.4',
    'a.b.c.d',
    '0x7f.0.0.1',
    '1.2.3.4:80',
    '１.2.3.4',
    'localhost',
  ])('is refused: %j', (text) => {
    expect(errorOf(() => parseAddress(text)).code).toBe('SLUICE_FORMAT');
  });

  it('with a leading zero is refused, since it is octal to some programs', () => {
    const error = errorOf(() => parseAddress('010.0.0.1'));
    expect(error.message).toContain('"010.0.0.1"');
    expect(error.remedy).toContain('octal');
  });

  it('that is a prefix is told apart', () => {
    expect(errorOf(() => parseAddress('10.0.0.0/8')).message).toContain('is a prefix');
    expect(errorOf(() => parseAddress('2001:db8::/32')).message).toContain('is a prefix');
  });
});

describe('an IPv6 address', () => {
  // Vectors of RFC 5952: section 4.1 (leading zeros), 4.2.1-4.2.3 (which run to shorten), 4.3 (lower case).
  it.each([
    ['2001:0db8::0001', '2001:db8::1'],
    ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:DB8::ABCD', '2001:db8::abcd'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['fe80::', 'fe80::'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ])('%s is written %s', (text, canonical) => {
    expect(parseAddress(text).text).toBe(canonical);
  });

  it('is four words in network byte order', () => {
    expect(parseAddress('2001:db8:8000:1:ffff:ffff:0:2').words).toEqual([0x20010db8, 0x80000001 | 0, -1, 2]);
  });

  it('that maps IPv4 is refused, and the remedy is the IPv4 address', () => {
    for (const text of ['::ffff:192.0.2.1', '::FFFF:c000:201', '0:0:0:0:0:ffff:192.0.2.1']) {
      const error = errorOf(() => parseAddress(text));
      expect(error.message).toContain('IPv4-mapped');
      expect(error.remedy).toContain('192.0.2.1');
    }
  });

  it('with a zone is refused', () => {
    expect(errorOf(() => parseAddress('fe80::1%eth0')).message).toContain('zone');
  });

  it.each([
    '1::2::3',
    ':',
    ':::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '12345::',
    'g::',
    '::1 ',
    '[::1]',
    '1:2:3:4:5:6:7:',
    '::1.2.3',
    '::1.2.3.256',
  ])('is refused: %j', (text) => {
    errorOf(() => parseAddress(text));
  });

  it('of a megabyte is refused at once, in a short message', () => {
    const started = process.cpuUsage();
    const error = errorOf(() => parseAddress('1:'.repeat(500_000)));
    const { user, system } = process.cpuUsage(started);
    expect((user + system) / 1000).toBeLessThan(500);
    expect(error.message.length).toBeLessThan(200);
  });
});

describe('reading and writing random addresses', () => {
  const seed = Number(process.env.SEED ?? 20240607);
  let state = seed | 0;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 0;
  };

  it(`comes back to the same words (seed ${seed})`, () => {
    for (let i = 0; i < 2000; i++) {
      const w = (): number => (random() % 3 === 0 ? 0 : (random() ^ (random() >>> 16)) | 0);
      const four = addressFromWords(4, [w(), 0, 0, 0]);
      expect(isIPv4(four.text)).toBe(true);
      expect(parseAddress(four.text)).toEqual(four);
      expect(addressFromBytes(addressToBytes(four))).toEqual(four);
      // Word 0 starts with 2000::/3, so that it is never IPv4-mapped.
      const six = addressFromWords(6, [(w() >>> 3) | 0x20000000, w(), w(), w()]);
      expect(isIPv6(six.text)).toBe(true);
      expect(parseAddress(six.text)).toEqual(six);
      expect(addressFromBytes(addressToBytes(six))).toEqual(six);
    }
  });

  it(`never takes what Node's own inet_pton refuses (seed ${seed})`, () => {
    const alphabet = '0123456789abf:.:.::/%x ';
    let taken = 0;
    for (let i = 0; i < 20_000; i++) {
      const base = i % 2 === 0 ? '10.200.3.49' : '2001:db8::7:a.b'.replace('a.b', '1');
      const at = random() % (base.length + 1);
      const text = base.slice(0, at) + alphabet[random() % alphabet.length] + base.slice(at + (random() % 3));
      try {
        parseAddress(text);
        taken++;
        expect(isIPv4(text) || isIPv6(text), text).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(AddressError);
      }
    }
    expect(taken).toBeGreaterThan(1000);
  });
});

describe('a prefix', () => {
  it('has a length, and an address alone has all its bits', () => {
    expect(parsePrefix('198.51.100.0/24')).toMatchObject({ family: 4, length: 24, text: '198.51.100.0' });
    expect(parsePrefix('198.51.100.7')).toMatchObject({ family: 4, length: 32 });
    expect(parsePrefix('2001:db8::/33')).toMatchObject({ family: 6, length: 33, text: '2001:db8::' });
    expect(parsePrefix('2001:db8::1')).toMatchObject({ family: 6, length: 128 });
    expect(parsePrefix('0.0.0.0/0').length).toBe(0);
    expect(parsePrefix('::/0').length).toBe(0);
  });

  it('with host bits is refused and both readings are offered', () => {
    const error = errorOf(() => parsePrefix('198.51.100.10/24'));
    expect(error.message).toContain('bits set beyond its length');
    expect(error.remedy).toContain('198.51.100.0/24');
    expect(error.remedy).toContain('198.51.100.10 ');
    expect(errorOf(() => parsePrefix('2001:db8::1/64')).remedy).toContain('2001:db8::/64');
    errorOf(() => parsePrefix('128.0.0.0/0'));
  });

  it.each([
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/',
    '10.0.0.0/ 8',
    '10.0.0.0/08',
    '10.0.0.0/8/8',
    '10.0.0.0/0x8',
    '10.0.0.0/1e1',
    '::/129',
    '::ffff:10.0.0.0/104',
    '/8',
  ])('is refused: %j', (text) => {
    errorOf(() => parsePrefix(text));
  });

  it('is written with its length unless it is one address', () => {
    for (const text of ['198.51.100.0/24', '198.51.100.7', '2001:db8::/33', '::/0', '0.0.0.0/0']) {
      expect(formatPrefix(parsePrefix(text))).toBe(text);
    }
    expect(formatPrefix(parsePrefix('1.2.3.4/32'))).toBe('1.2.3.4');
  });

  it('contains what shares its leading bits', () => {
    const contains = (prefix: string, address: string): boolean =>
      prefixContains(parsePrefix(prefix), parseAddress(address));
    expect(contains('198.51.100.128/25', '198.51.100.128')).toBe(true);
    expect(contains('198.51.100.128/25', '198.51.100.255')).toBe(true);
    expect(contains('198.51.100.128/25', '198.51.100.127')).toBe(false);
    expect(contains('2001:db8::/47', '2001:db8:1:ffff::')).toBe(true);
    expect(contains('2001:db8::/47', '2001:db8:2::')).toBe(false);
    expect(contains('0.0.0.0/0', '255.0.0.1')).toBe(true);
    expect(contains('0.0.0.0/0', '::1')).toBe(false);
    expect(contains('::/0', '::')).toBe(true);
  });

  it('has a mask for each length', () => {
    expect(maskWords(0)).toEqual([0, 0, 0, 0]);
    expect(maskWords(1)).toEqual([0x80000000 | 0, 0, 0, 0]);
    expect(maskWords(32)).toEqual([-1, 0, 0, 0]);
    expect(maskWords(33)).toEqual([-1, 0x80000000 | 0, 0, 0]);
    expect(maskWords(127)).toEqual([-1, -1, -1, -2]);
    expect(maskWords(128)).toEqual([-1, -1, -1, -1]);
  });
});

describe('small helpers', () => {
  it('know equality and loopback', () => {
    expect(sameAddress(parseAddress('10.0.0.1'), parseAddress('10.0.0.1'))).toBe(true);
    expect(sameAddress(parseAddress('10.0.0.1'), parseAddress('10.0.0.2'))).toBe(false);
    expect(sameAddress(parseAddress('0.0.0.0'), parseAddress('::'))).toBe(false);
    expect(isLoopback(parseAddress('127.9.9.9'))).toBe(true);
    expect(isLoopback(parseAddress('128.0.0.1'))).toBe(false);
    expect(isLoopback(parseAddress('::1'))).toBe(true);
    expect(isLoopback(parseAddress('::2'))).toBe(false);
  });

  it('format words without an object', () => {
    expect(formatWords(4, [0xc633640a | 0, 0, 0, 0])).toBe('198.51.100.10');
    expect(formatWords(6, [0x20010db8, 0, 0, -1])).toBe('2001:db8::ffff:ffff');
  });

  it('refuse a number of bytes that no address has', () => {
    expect(() => addressFromBytes(new Uint8Array(6))).toThrow(RangeError);
    // A view into the middle of a buffer reads its own bytes.
    expect(addressFromBytes(Uint8Array.of(9, 10, 0, 0, 1, 9).subarray(1, 5)).text).toBe('10.0.0.1');
  });
});

describe('a hardware address', () => {
  it('is read and written', () => {
    expect([...parseMac('02:00:5E:10:00:ff')]).toEqual([2, 0, 0x5e, 0x10, 0, 255]);
    expect([...parseMac('02-00-5e-10-00-ff')]).toEqual([2, 0, 0x5e, 0x10, 0, 255]);
    expect(formatMac(parseMac('02:00:5E:10:00:0f'))).toBe('02:00:5e:10:00:0f');
  });

  it.each([
    '',
    '02:00:5e:10:00',
    '02:00:5e:10:00:01:02',
    '2:0:5e:10:0:1',
    '02:00-5e:10:00:01',
    '0g:00:5e:10:00:01',
    '02005e100001',
  ])('is refused: %j', (text) => {
    errorOf(() => parseMac(text));
  });

  it('pair becomes the first three words of an Ethernet header, and back', () => {
    const destination = parseMac('ff:ee:dd:cc:bb:aa');
    const source = parseMac('02:00:00:00:00:01');
    const words = ethernetWords(destination, source);
    expect(words).toEqual([0xffeeddcc | 0, 0xbbaa0200 | 0, 0x00000001]);
    expect(macsOfWords(words)).toEqual({ destination, source });
    expect(() => ethernetWords(destination, source.subarray(1))).toThrow(RangeError);
  });
});

describe('an endpoint', () => {
  it('is an address and a port', () => {
    expect(parseEndpoint('127.0.0.1:9477')).toEqual({ host: '127.0.0.1', port: 9477 });
    expect(parseEndpoint('[0:0::1]:0')).toEqual({ host: '::1', port: 0 });
    expect(parseEndpoint('localhost:65535')).toEqual({ host: 'localhost', port: 65535 });
  });

  it.each([
    '',
    '9477',
    ':9477',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:65536',
    '127.0.0.1:-1',
    '::1:9477',
    '[127.0.0.1]:80',
    '[::1]',
    'example.org:80',
    '[::ffff:1.2.3.4]:80',
    '127.0.0.1:9477x',
  ])('is refused: %j', (text) => {
    errorOf(() => parseEndpoint(text));
  });
});

import { describe, expect, it } from 'vitest';
import { encodeQuicLbCid, unroutableCid } from '../../src/control/quic_lb_encode.js';
import { QuicLbDecoder } from '../../src/dataplane/balance/quic_lb.js';
import { quicLbProblems, type QuicLbConfig } from '../../src/shared/quic_lb.js';
import { guardedBytes } from '../support/guarded_view.js';
import { random } from '../support/packets.js';

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function config(
  rotation: number,
  serverIdLength: number,
  nonceLength: number,
  key: string | null = null,
): QuicLbConfig {
  return { rotation, serverIdLength, nonceLength, key: key === null ? null : hex(key) };
}

/** The server id that the decoder finds, or null. Nothing outside the given bytes can be read. */
function decode(decoder: QuicLbDecoder, cid: Uint8Array): string | null {
  if (!decoder.decode(guardedBytes(cid), 64, cid.length)) return null;
  const words = [decoder.id0, decoder.id1, decoder.id2, decoder.id3];
  const digits = words.map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  expect(digits.slice(2 * decoder.idLength)).toMatch(/^0*$/);
  return digits.slice(0, 2 * decoder.idLength);
}

const KEY = '8f95f09245765f80256934e50c66207f';

// Appendix B of draft-ietf-quic-load-balancers-21, the example of its section 5.4.2.4, and the second plaintext vector as its
// connection id reads: the draft prints server id and nonce of that one shifted by four bits, and no length in the first byte.
const VECTORS: [string, QuicLbConfig, string, string, string, number?][] = [
  ['plaintext, 3 + 4', config(0, 3, 4), 'c4605e', '4504cc4f', '07c4605e4504cc4f'],
  ['plaintext, 5 + 5', config(1, 5, 5), 'a350d28b42', '03487d970b', '20a350d28b4203487d970b', 0],
  ['four passes, 3 + 4', config(0, 3, 4, KEY), 'ed793a', 'ee080dbf', '0720b1d07b359d3c'],
  ['four passes, id longer than nonce', config(1, 10, 5, KEY), 'ed793a51d49b8f5fab65', 'ee080dbf48', '2fcc381bc74cb4fbad2823a3d1f8fed2'],
  ['one pass, 8 + 8', config(2, 8, 8, KEY), 'ed793a51d49b8f5f', 'ee080dbf48c0d1e5', '504dd2d05a7b0de9b2b9907afb5ecf8cc3'],
  ['four passes, 9 + 9', config(3, 9, 9, KEY), 'ed793a51d49b8f5fab', 'ee080dbf48c0d1e55d', '125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc'],
  ['the worked example', config(0, 3, 4, 'fdf726a9893ec05c0632d3956680baf0'), '31441a', '9c69c275', '0767947d29be054a'],
]; // prettier-ignore

describe('the vectors of the draft', () => {
  it.each(VECTORS)('%s', (_name, settings, serverId, nonce, cid, lowBits) => {
    // The draft's fourth vector has rotation 0 in its first byte although it says 3.
    const rotation = hex(cid)[0] >> 5;
    const used = { ...settings, rotation };
    expect(toHex(encodeQuicLbCid(used, { serverId: hex(serverId), nonce: hex(nonce), lowBits }))).toBe(cid);
    expect(decode(new QuicLbDecoder([used]), hex(cid))).toBe(serverId);
  });
});

describe('QuicLbDecoder', () => {
  it('undoes the encoder for every pair of lengths, with and without key', () => {
    const next = random(7);
    const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => next() * 256);
    let pairs = 0;
    for (let idLength = 1; idLength <= 15; idLength++) {
      for (let nonceLength = 4; idLength + nonceLength <= 19; nonceLength++) {
        for (const key of [null, bytes(16)]) {
          const settings = { rotation: Math.floor(next() * 7), serverIdLength: idLength, nonceLength, key };
          const decoder = new QuicLbDecoder([settings]);
          for (let i = 0; i < 4; i++) {
            const serverId = bytes(idLength);
            const cid = encodeQuicLbCid(settings, { serverId, nonce: bytes(nonceLength) });
            expect(decode(decoder, cid)).toBe(toHex(serverId));
            // Servers may append bytes, and a short header has the packet behind it.
            expect(decode(decoder, Uint8Array.of(...cid, ...bytes(1 + (i % 3))))).toBe(toHex(serverId));
          }
          pairs++;
        }
      }
    }
    expect(pairs).toBe(240);
  });

  it('takes the configuration that the rotation bits name, and each its own lengths and key', () => {
    const configs = [config(0, 4, 6, KEY), config(1, 1, 4), config(6, 12, 4, '00'.repeat(16))];
    const decoder = new QuicLbDecoder(configs);
    for (const settings of configs) {
      const serverId = new Uint8Array(settings.serverIdLength).fill(0xa0 + settings.rotation);
      const cid = encodeQuicLbCid(settings, { serverId, nonce: new Uint8Array(settings.nonceLength).fill(9) });
      expect(decode(decoder, cid)).toBe(toHex(serverId));
    }
  });

  it('knows what is unroutable: other rotations, rotation 7, too short', () => {
    const decoder = new QuicLbDecoder([config(0, 4, 6), config(1, 4, 6, KEY), config(2, 8, 8, KEY)]);
    expect(decode(decoder, hex('60' + '11'.repeat(19)))).toBe(null);
    expect(decode(decoder, unroutableCid(new Uint8Array(19)))).toBe(null);
    expect(decode(decoder, new Uint8Array(0))).toBe(null);
    for (let length = 1; length <= 10; length++) {
      expect(decode(decoder, new Uint8Array(length))).toBe(null);
      expect(decode(decoder, new Uint8Array(length).fill(0x20))).toBe(null);
    }
    for (let length = 1; length <= 16; length++) expect(decode(decoder, new Uint8Array(length).fill(0x40))).toBe(null);
    expect(decode(decoder, new Uint8Array(11))).toBe('00000000');
    expect(decode(decoder, new Uint8Array(11).fill(0x20))).not.toBe(null);
    expect(decode(decoder, new Uint8Array(17).fill(0x40))).not.toBe(null);
  });

  it('never throws and never reads behind the end, whatever the bytes', () => {
    const next = random(11);
    const decoders = [
      [config(0, 1, 4), config(1, 15, 4), config(2, 1, 18), config(3, 3, 4, KEY), config(4, 15, 4, KEY)],
      [config(0, 8, 8, KEY), config(2, 1, 18, KEY), config(5, 7, 4, KEY), config(6, 15, 1 + 3, null)],
    ].map((configs) => new QuicLbDecoder(configs));
    for (let i = 0; i < 20_000; i++) {
      const cid = Uint8Array.from({ length: Math.floor(next() * 26) }, () => next() * 256);
      decode(decoders[i & 1], cid);
    }
  });

  it('spreads the ids of random connection ids: a client id does not land on few servers', () => {
    const decoder = new QuicLbDecoder([config(0, 1, 7, KEY)]);
    const next = random(3);
    const seen = new Set<string | null>();
    for (let i = 0; i < 4000; i++) {
      seen.add(
        decode(
          decoder,
          Uint8Array.from({ length: 9 }, (_, at) => (at === 0 ? 8 : next() * 256)),
        ),
      );
    }
    expect(seen.size).toBe(256);
  });
});

describe('quicLbProblems', () => {
  it('finds nothing wrong with what the draft allows', () => {
    expect(quicLbProblems([config(0, 1, 4), config(6, 15, 4, KEY), config(3, 1, 18)])).toEqual([]);
  });

  it.each([
    [[config(7, 4, 6)], 'rotation 7 is not 0 to 6'],
    [[config(1, 4, 6), config(1, 5, 6)], 'rotation 1 is there twice'],
    [[config(0, 0, 6)], 'server id length 0 is not 1 to 15'],
    [[config(0, 4, 3)], 'nonce length 3 is not 4 to 18'],
    [[config(0, 10, 10)], 'server id and nonce have 20 bytes together, more than 19'],
    [[config(0, 4, 6, '00ff')], 'the key has 2 bytes, not 16'],
    [[config(0, 1.5, 6)], 'server id length 1.5 is not 1 to 15'],
  ])('%# refuses: %j', (configs, problem) => {
    expect(quicLbProblems(configs)).toContain(problem);
    expect(() => new QuicLbDecoder(configs)).toThrow(problem);
    expect(() => encodeQuicLbCid(configs[1] ?? configs[0], { serverId: hex('00'), nonce: hex('00') })).toThrow(
      RangeError,
    );
  });
});

import { describe, expect, it } from 'vitest';
import { SipHash } from '../../src/shared/siphash.js';
import { random } from '../support/packets.js';

const KEY = Uint8Array.from({ length: 16 }, (_, i) => i);
const MASK = (1n << 64n) - 1n;

/** The result as the paper writes it: 16 hex digits. */
function textOf({ hi, lo }: SipHash): string {
  const half = (word: number) => (word >>> 0).toString(16).padStart(8, '0');
  return half(hi) + half(lo);
}

/** SipHash-2-4 as section 2 of the paper has it, on 64-bit integers: slow and plain. */
function reference(key: Uint8Array, message: Uint8Array): string {
  const u64 = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);
  const rotate = (x: bigint, bits: bigint) => ((x << bits) | (x >> (64n - bits))) & MASK;
  const k0 = u64(key, 0);
  const k1 = u64(key, 8);
  let v = [k0 ^ 0x736f6d6570736575n, k1 ^ 0x646f72616e646f6dn, k0 ^ 0x6c7967656e657261n, k1 ^ 0x7465646279746573n];
  const round = ([v0, v1, v2, v3]: bigint[]): bigint[] => {
    v0 = (v0 + v1) & MASK;
    v2 = (v2 + v3) & MASK;
    v1 = rotate(v1, 13n) ^ v0;
    v3 = rotate(v3, 16n) ^ v2;
    v0 = rotate(v0, 32n);
    v2 = (v2 + v1) & MASK;
    v0 = (v0 + v3) & MASK;
    v1 = rotate(v1, 17n) ^ v2;
    v3 = rotate(v3, 21n) ^ v0;
    return [v0, v1, rotate(v2, 32n), v3];
  };
  const padded = new Uint8Array((message.length & ~7) + 8);
  padded.set(message);
  padded[padded.length - 1] = message.length;
  for (let at = 0; at < padded.length; at += 8) {
    const block = u64(padded, at);
    v[3] ^= block;
    v = round(round(v));
    v[0] ^= block;
  }
  v[2] ^= 0xffn;
  for (let i = 0; i < 4; i++) v = round(v);
  return (v[0] ^ v[1] ^ v[2] ^ v[3]).toString(16).padStart(16, '0');
}

describe('SipHash', () => {
  it('has the result of appendix A of the paper', () => {
    const hash = new SipHash(KEY);
    hash.bytes(Uint8Array.from({ length: 15 }, (_, i) => i));
    expect(textOf(hash)).toBe('a129ca6149be45e5');
  });

  // From the authors' vectors.h (github.com/veorq/SipHash, CC0): key 00..0f, message 00.. of the length.
  it.each([
    [0, '310e0edd47db6f72'],
    [1, 'fd67dc93c539f874'],
    [2, '5a4fa9d909806c0d'],
    [3, '2d7efbd796666785'],
    [4, 'b7877127e09427cf'],
    [7, '37d1018bf50002ab'],
    [8, '6224939a79f5f593'],
    [63, '724506eb4c328a95'],
  ])('has the result of the reference implementation for %i bytes', (length, bytes) => {
    const hash = new SipHash(KEY);
    hash.bytes(Uint8Array.from({ length }, (_, i) => i));
    expect(textOf(hash)).toBe(Buffer.from(bytes, 'hex').reverse().toString('hex'));
  });

  it('agrees with the definition for random keys and messages', () => {
    const next = random(24);
    const bytes = (length: number) => Uint8Array.from({ length }, () => Math.floor(256 * next()));
    for (let run = 0; run < 500; run++) {
      const key = bytes(16);
      const message = bytes(run % 300);
      const hash = new SipHash(key);
      hash.bytes(message);
      expect(textOf(hash), `run ${run}`).toBe(reference(key, message));
    }
  });

  it('takes words as it takes their bytes, and can be used again', () => {
    const message = Uint8Array.from({ length: 11 }, (_, i) => 0x80 + i);
    const view = new DataView(message.buffer);
    const whole = new SipHash(KEY);
    whole.bytes(message);
    const inWords = new SipHash(KEY);
    for (let again = 0; again < 2; again++) {
      inWords.start();
      inWords.push(view.getInt32(0, true));
      inWords.pushNetwork(view.getInt32(4, false));
      inWords.end(view.getUint16(8, true) | (message[10] << 16), 3);
      expect(textOf(inWords)).toBe(textOf(whole));
    }
  });

  it('reads a key that lies inside another buffer', () => {
    const outer = Uint8Array.from({ length: 40 }, (_, i) => i - 7);
    const hash = new SipHash(outer.subarray(7, 23));
    hash.bytes(new Uint8Array());
    const same = new SipHash(KEY);
    same.bytes(new Uint8Array());
    expect(textOf(hash)).toBe(textOf(same));
  });

  it.each([0, 15, 17, 32])('refuses a key of %i bytes', (length) => {
    expect(() => new SipHash(new Uint8Array(length))).toThrow(RangeError);
  });
});

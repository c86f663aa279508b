import { createCipheriv, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Aes128 } from '../../src/dataplane/packet/aes128.js';

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

function run(aes: Aes128, way: 'encrypt' | 'decrypt', block: Uint8Array): string {
  const view = new DataView(block.buffer, block.byteOffset);
  aes[way](view.getInt32(0), view.getInt32(4), view.getInt32(8), view.getInt32(12));
  return [aes.out0, aes.out1, aes.out2, aes.out3].map((w) => (w >>> 0).toString(16).padStart(8, '0')).join('');
}

describe('AES-128', () => {
  it.each([
    // FIPS 197 appendix B, appendix C.1; SP 800-38A F.1.1, the four blocks.
    ['2b7e151628aed2a6abf7158809cf4f3c', '3243f6a8885a308d313198a2e0370734', '3925841d02dc09fbdc118597196a0b32'],
    ['000102030405060708090a0b0c0d0e0f', '00112233445566778899aabbccddeeff', '69c4e0d86a7b0430d8cdb78070b4c55a'],
    ['2b7e151628aed2a6abf7158809cf4f3c', '6bc1bee22e409f96e93d7e117393172a', '3ad77bb40d7a3660a89ecaf32466ef97'],
    ['2b7e151628aed2a6abf7158809cf4f3c', 'ae2d8a571e03ac9c9eb76fac45af8e51', 'f5d3d58503b9699de785895a96fdbaaf'],
    ['2b7e151628aed2a6abf7158809cf4f3c', '30c81c46a35ce411e5fbc1191a0a52ef', '43b1cd7f598ece23881b00e3ed030688'],
    ['2b7e151628aed2a6abf7158809cf4f3c', 'f69f2445df4f9b17ad2b417be66c3710', '7b0c785e27e8ad3f8223207104725dd4'],
  ])('key %s: %s encrypts to %s, and back', (key, plain, cipher) => {
    const aes = new Aes128(hex(key));
    expect(run(aes, 'encrypt', hex(plain))).toBe(cipher);
    expect(run(aes, 'decrypt', hex(cipher))).toBe(plain);
  });

  it('does as OpenSSL does, for random keys and blocks', () => {
    for (let i = 0; i < 500; i++) {
      const key = randomBytes(16);
      const block = randomBytes(16);
      const cipher = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false);
      const expected = cipher.update(block).toString('hex');
      const aes = new Aes128(key);
      expect(run(aes, 'encrypt', block)).toBe(expected);
      expect(run(aes, 'decrypt', hex(expected))).toBe(block.toString('hex'));
    }
  });

  it('keeps the keys of two objects apart', () => {
    const one = new Aes128(hex('2b7e151628aed2a6abf7158809cf4f3c'));
    const other = new Aes128(new Uint8Array(16));
    const plain = hex('3243f6a8885a308d313198a2e0370734');
    run(other, 'encrypt', plain);
    expect(run(one, 'encrypt', plain)).toBe('3925841d02dc09fbdc118597196a0b32');
  });

  it('refuses keys of another length', () => {
    expect(() => new Aes128(new Uint8Array(32))).toThrow('an AES-128 key has 16 bytes, not 32');
  });
});

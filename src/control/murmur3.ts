/**
 * MurmurHash3_x86_32 by Austin Appleby (public domain; smhasher, src/MurmurHash3.cpp), on int32 arithmetic.
 *
 * Every instance of sluice must get the same number for the same bytes for ever: rings of two machines agree only
 * because of it. Not keyed and not for hashing what an attacker chooses.
 *
 * @param seed any 32-bit number
 * @returns the hash as an unsigned 32-bit number
 */
export function murmur3(bytes: Uint8Array, seed: number): number {
  const blocks = bytes.length & ~3;
  let hash = seed | 0;
  for (let i = 0; i < blocks; i += 4) {
    hash ^= scramble(bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  let tail = 0;
  for (let i = bytes.length - 1; i >= blocks; i--) tail = (tail << 8) | bytes[i];
  if (blocks !== bytes.length) hash ^= scramble(tail);
  hash ^= bytes.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function scramble(block: number): number {
  const k = Math.imul(block, 0xcc9e2d51);
  return Math.imul((k << 15) | (k >>> 17), 0x1b873593);
}

/**
 * The 64-bit numbers that Katran's rings start from: folly's hash of a backend's address, and MurmurHash3_x64_64 of that
 * for the permutation. BigInt, because this runs twice a backend and never on the packet path.
 */
import { addressToBytes } from '../shared/addr.js';
import type { Address } from '../shared/config.js';

const AF_INET = 2n;
const AF_INET6 = 10n;

/**
 * `folly::IPAddress::hash()` on 64-bit Linux (folly 653d0b3b, the one that Katran 19f08fec pins): the address family and a hash
 * of the bytes, combined. It depends on the address alone. All of Katran's rings would change if folly changed it.
 *
 * IPv4: 32-bit FNV-1 whose bytes are sign-extended (folly kept that bug under the name fnv32_buf_BROKEN). Not injective, so
 * two IPv4 backends can have one hash, and then one permutation. IPv6: SpookyHash V2 of the 16 bytes.
 */
export function katranEndpointHash(address: Pick<Address, 'family' | 'words'>): bigint {
  const bytes = addressToBytes(address);
  if (address.family === 4) return combine(AF_INET, BigInt(fnv32(bytes)));
  const [first, second] = spooky16(bytes);
  return combine(AF_INET6, combine(first, second));
}

function fnv32(bytes: Uint8Array): number {
  let hash = 2166136261;
  for (const byte of bytes) hash = Math.imul(hash, 16777619) ^ ((byte << 24) >> 24);
  return hash >>> 0;
}

/** folly's hash_128_to_64, which came from CityHash. */
function combine(upper: bigint, lower: bigint): bigint {
  const multiplier = 0x9ddfea08eb382d69n;
  let a = u64((lower ^ upper) * multiplier);
  a ^= a >> 47n;
  let b = u64((upper ^ a) * multiplier);
  b ^= b >> 47n;
  return u64(b * multiplier);
}

/** ShortMix: which of the four words is rotated by how much; it then takes the next word in, and goes into the one after. */
const SHORT_MIX = [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36];
/** ShortEnd: rotations, from word 2 on. */
const SHORT_END = [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63];

/** SpookyHash V2 by Bob Jenkins (public domain), Hash128 with seeds 0 of exactly 16 bytes. */
function spooky16(bytes: Uint8Array): [bigint, bigint] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const filler = 0xdeadbeefdeadbeefn;
  const h = [0n, 0n, u64(filler + view.getBigUint64(0, true)), u64(filler + view.getBigUint64(8, true))];
  SHORT_MIX.forEach((bits, i) => {
    const word = (i + 2) & 3;
    h[word] = u64(rotate(h[word], bits) + h[(word + 1) & 3]);
    h[(word + 2) & 3] ^= h[word];
  });
  // No bytes are left over: the filler again, and the length in the top byte.
  h[2] = u64(h[2] + filler);
  h[3] = u64(h[3] + filler + (16n << 56n));
  SHORT_END.forEach((bits, i) => {
    const from = (i + 2) & 3;
    const to = (i + 3) & 3;
    h[to] ^= h[from];
    h[from] = rotate(h[from], bits);
    h[to] = u64(h[to] + h[from]);
  });
  return [h[0], h[1]];
}

/** First half of MurmurHash3_x64_128 of the 16 bytes of `a` and `b` (Austin Appleby, public domain). */
export function murmur3x64(a: bigint, b: bigint, seed: bigint): bigint {
  const c1 = 0x87c37b91114253d5n;
  const c2 = 0x4cf5ad432745937fn;
  let h1 = seed ^ u64(rotate(u64(a * c1), 31) * c2);
  h1 = u64(u64(rotate(h1, 27) + seed) * 5n + 0x52dce729n);
  let h2 = seed ^ u64(rotate(u64(b * c2), 33) * c1);
  h2 = u64(u64(rotate(h2, 31) + h1) * 5n + 0x38495ab5n);
  h1 ^= 16n;
  h2 ^= 16n;
  h1 = u64(h1 + h2);
  h2 = u64(h2 + h1);
  return u64(avalanche(h1) + avalanche(h2));
}

function avalanche(h: bigint): bigint {
  h = u64((h ^ (h >> 33n)) * 0xff51afd7ed558ccdn);
  h = u64((h ^ (h >> 33n)) * 0xc4ceb9fe1a85ec53n);
  return h ^ (h >> 33n);
}

function rotate(x: bigint, bits: number): bigint {
  return u64(x << BigInt(bits)) | (x >> BigInt(64 - bits));
}

function u64(x: bigint): bigint {
  return BigInt.asUintN(64, x);
}

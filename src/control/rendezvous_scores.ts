/**
 * Scores for rendezvous hashing: a number for each pair of row and backend that depends on nothing else, so that any two
 * backends rank alike in a row whatever other backends there are.
 */
import { addressToBytes } from '../shared/addr.js';
import type { Address } from '../shared/config.js';
import { SipHash } from '../shared/siphash.js';
import { murmur3 } from './murmur3.js';

/** Scores of the backends that a constructor was given, row after row. */
export interface RendezvousScores {
  /** Sets `out[i]`, from 0 to below 1, to the score of backend i in this row. The lowest comes first. */
  fill(row: number, out: Float64Array): void;
}

/** Seeds of a backend's bijection and of the rows, fixed for ever: other seeds are other tables. Fraction of pi, bits 65 to 160. */
const ADD_SEED = 0x13198a2e;
const MULTIPLY_SEED = 0x03707344;
const ROW_SEED = 0xa4093822;

/**
 * sluice's own: each backend has a bijection of the 32-bit numbers (add, odd multiply, finaliser) that derives from its
 * address's canonical text, and a row is the number that goes in. Not cryptographic, and needs no secret: clients choose
 * rows by the flow hash, which is keyed.
 */
export class SluiceScores implements RendezvousScores {
  private readonly adds: Int32Array;
  private readonly multipliers: Int32Array;

  constructor(addresses: readonly Address[]) {
    const encoder = new TextEncoder();
    const texts = addresses.map(({ text }) => encoder.encode(text));
    this.adds = Int32Array.from(texts, (text) => murmur3(text, ADD_SEED) | 0);
    this.multipliers = Int32Array.from(texts, (text) => murmur3(text, MULTIPLY_SEED) | 1);
  }

  fill(row: number, out: Float64Array): void {
    const { adds, multipliers } = this;
    const seed = mix(Math.imul(row + 1, 0x9e3779b1) ^ ROW_SEED);
    for (let i = 0; i < adds.length; i++) {
      // Half a step up, so that no score is 0 and a weight counts in every row.
      out[i] = ((mix(Math.imul(seed + adds[i], multipliers[i])) >>> 0) + 0.5) * 2 ** -32;
    }
  }
}

/**
 * GLB Director's (src/glb-director/cli/main.c): the row's seed is the SipHash of the row as 4 bytes in network order, and a backend's
 * hash the SipHash of that seed and its address. The bytes of the result count as a big-endian number, of which the first
 * 53 bits are kept here; GLB compares all 64 (a difference in one of some 10^9 tables).
 */
export class GlbScores implements RendezvousScores {
  private readonly hash: SipHash;
  /** Words of the addresses, big-endian: one for IPv4, four for IPv6. */
  private readonly words: Int32Array[];

  /** `seed`: 16 bytes, the "seed" of GLB's forwarding table. Throws RangeError for another number. */
  constructor(addresses: readonly Address[], seed: Uint8Array) {
    this.hash = new SipHash(seed);
    this.words = addresses.map((address) => {
      const bytes = addressToBytes(address);
      const view = new DataView(bytes.buffer);
      return Int32Array.from({ length: bytes.length / 4 }, (_, i) => view.getInt32(4 * i));
    });
  }

  fill(row: number, out: Float64Array): void {
    const { hash, words } = this;
    hash.start();
    hash.pushNetwork(row);
    hash.end(0, 0);
    const { lo, hi } = hash;
    for (let i = 0; i < words.length; i++) {
      hash.start();
      hash.push(lo);
      hash.push(hi);
      for (const word of words[i]) hash.pushNetwork(word);
      hash.end(0, 0);
      out[i] = (swap32(hash.lo) * 2 ** 21 + (swap32(hash.hi) >>> 11)) * 2 ** -53;
    }
  }
}

/** Finaliser of MurmurHash3: a bijection of 32 bits. */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Unsigned. */
function swap32(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

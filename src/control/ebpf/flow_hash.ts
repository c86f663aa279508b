import { randomBytes } from 'node:crypto';

/** Words of a flow's key at most, and so keys of the hash: hash_key_0 and on of bpf/flow_sets.h. */
export const FLOW_HASH_KEYS = 9;

/** Numbers below 2^53, by chance: what decides which flows share a set must not be known to who sends them. */
export function drawFlowHashKeys(): number[] {
  return Array.from({ length: FLOW_HASH_KEYS }, () => {
    const bytes = randomBytes(7);
    return bytes.readUIntLE(0, 6) * 32 + (bytes[6] & 31);
  });
}

/**
 * hash_of() of bpf/flow_sets.h, which says why it is as it is, and the sums that it takes: words times keys modulo 2^53.
 */
export class FlowHash {
  private readonly low: Int32Array;
  private readonly high: Int32Array;

  /** `keys`: FLOW_HASH_KEYS whole numbers below 2^53. */
  constructor(keys: readonly number[]) {
    this.low = Int32Array.from(keys, (key) => (key % 2 ** 32) | 0);
    this.high = Int32Array.from(keys, (key) => Math.floor(key / 2 ** 32));
  }

  /**
   * Of the first `count` words, as the machine reads them from the packet: 32 bits. The upper 22, by their lower ones, name a set; those below the number of a set's word of the filter name its bits there.
   */
  of(words: Int32Array, count: number): number {
    let low = 0;
    let high = 0;
    for (let i = 0; i < count; i++) {
      const word = words[i];
      const key = this.low[i];
      const sum = low + (Math.imul(key, word) >>> 0);
      low = sum >>> 0;
      high = (high + upperProduct(key, word) + Math.imul(this.high[i], word) + (sum > 0xffffffff ? 1 : 0)) | 0;
    }
    const hash = (high << 11) | (low >>> 21);
    return Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  }
}

/** Upper 32 bits of the product of two uint32. */
function upperProduct(a: number, b: number): number {
  const [ah, al, bh, bl] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = ah * bl + (((al * bl) / 65536) >>> 0);
  return ah * bh + (middle >>> 16) + (((al * bh + (middle & 0xffff)) / 65536) >>> 0);
}

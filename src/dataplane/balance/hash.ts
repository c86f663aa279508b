/**
 * Keyed 32-bit hash of a flow's five-tuple. Not cryptographic; made so that someone who does not know the key cannot
 * choose packets that collide: each word goes through a secret bijection (add, odd multiply, fold, odd multiply), so a
 * difference between two inputs turns into one that depends on the key, and the lanes run in parallel before they are joined.
 * (Seeded murmur would not do: its block function has differentials that hold for every seed.)
 *
 * Two uses, two keys: the flow table's is random in each worker; the Maglev look-up's comes from the config, because every
 * node must pick the same slot.
 */
export class FlowHash {
  private readonly k0: number;
  private readonly k1: number;
  private readonly k2: number;
  private readonly m0: number;
  private readonly m1: number;
  private readonly m2: number;
  private readonly m3: number;
  private readonly m4: number;

  /** `key`: four int32. */
  constructor(key: readonly number[]) {
    const next = expand(key);
    this.k0 = next();
    this.k1 = next();
    this.k2 = next();
    this.m0 = next() | 1;
    this.m1 = next() | 1;
    this.m2 = next() | 1;
    this.m3 = next() | 1;
    this.m4 = next() | 1;
  }

  /** True when both have the same key. */
  equals(other: FlowHash): boolean {
    return (
      this.k0 === other.k0 &&
      this.k1 === other.k1 &&
      this.k2 === other.k2 &&
      this.m0 === other.m0 &&
      this.m1 === other.m1 &&
      this.m2 === other.m2 &&
      this.m3 === other.m3 &&
      this.m4 === other.m4
    );
  }

  /** Addresses as words, `ports` as source << 16 | destination. */
  ipv4(src: number, dst: number, ports: number, protocol: number): number {
    let a = Math.imul(src ^ this.k0, this.m0);
    let b = Math.imul(ports ^ this.k1, this.m1);
    let c = Math.imul((dst + (protocol << 24)) ^ this.k2, this.m2);
    a = Math.imul(a ^ (a >>> 15), this.m3);
    b = Math.imul(b ^ (b >>> 14), this.m4);
    c ^= c >>> 16;
    let h = (a ^ ((b << 13) | (b >>> 19))) + c;
    h = Math.imul(h ^ (h >>> 16), this.m2);
    return h ^ (h >>> 15);
  }

  ipv6(
    src0: number,
    src1: number,
    src2: number,
    src3: number,
    dst0: number,
    dst1: number,
    dst2: number,
    dst3: number,
    ports: number,
    protocol: number,
  ): number {
    let a = Math.imul(src0 ^ this.k0, this.m0);
    a = Math.imul((a ^ (a >>> 15)) + src1, this.m1);
    a = Math.imul((a ^ (a >>> 14)) + src2, this.m2);
    a = Math.imul((a ^ (a >>> 16)) + src3, this.m3);
    let b = Math.imul(dst0 ^ this.k1, this.m4);
    b = Math.imul((b ^ (b >>> 15)) + dst1, this.m0);
    b = Math.imul((b ^ (b >>> 14)) + dst2, this.m1);
    b = Math.imul((b ^ (b >>> 16)) + dst3, this.m2);
    return this.ipv4(a ^ (a >>> 15), b ^ (b >>> 15), ports, protocol);
  }
}

/** Splitmix-like stream of int32 from four key words. */
function expand(key: readonly number[]): () => number {
  let state = 0x9e3779b9;
  let position = 0;
  return () => {
    state = (state + 0x9e3779b9 + key[position++ & 3]) | 0;
    let z = state ^ key[position & 3];
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return z ^ (z >>> 16);
  };
}

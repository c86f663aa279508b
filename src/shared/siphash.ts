/**
 * SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012) on int32 pairs.
 *
 * The 64-bit result is in `hi` and `lo`, both int32. A SipHash object holds its state in fields and allocates nothing after
 * its making: for the packet path feed it words, `start()`, `push()` as often as needed, `end()`. Not re-entrant.
 */
export class SipHash {
  /** Result of the last `end` or `bytes`: high and low half. */
  hi = 0;
  lo = 0;

  private readonly k0hi: number;
  private readonly k0lo: number;
  private readonly k1hi: number;
  private readonly k1lo: number;
  private v0hi = 0;
  private v0lo = 0;
  private v1hi = 0;
  private v1lo = 0;
  private v2hi = 0;
  private v2lo = 0;
  private v3hi = 0;
  private v3lo = 0;
  /** First word of a block whose second has not come, and how many words have come. */
  private half = 0;
  private count = 0;

  /** `key`: 16 bytes. Throws RangeError for another number. */
  constructor(key: Uint8Array) {
    if (key.length !== 16) throw new RangeError(`a SipHash key has 16 bytes, not ${key.length}`);
    const view = new DataView(key.buffer, key.byteOffset, 16);
    this.k0lo = view.getInt32(0, true);
    this.k0hi = view.getInt32(4, true);
    this.k1lo = view.getInt32(8, true);
    this.k1hi = view.getInt32(12, true);
  }

  /** Forgets what was pushed. */
  start(): void {
    this.v0hi = this.k0hi ^ 0x736f6d65;
    this.v0lo = this.k0lo ^ 0x70736575;
    this.v1hi = this.k1hi ^ 0x646f7261;
    this.v1lo = this.k1lo ^ 0x6e646f6d;
    this.v2hi = this.k0hi ^ 0x6c796765;
    this.v2lo = this.k0lo ^ 0x6e657261;
    this.v3hi = this.k1hi ^ 0x74656462;
    this.v3lo = this.k1lo ^ 0x79746573;
    this.count = 0;
  }

  /** The next four bytes of the message, read as a little-endian word. */
  push(word: number): void {
    if ((this.count++ & 1) === 0) {
      this.half = word;
      return;
    }
    this.block(this.half, word);
  }

  /** As `push`, for four bytes that were read as a big-endian word: words of packets and addresses. */
  pushNetwork(word: number): void {
    this.push((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24));
  }

  /** Ends the message: `tail` has its last `tailBytes` (0 to 3) bytes, little-endian, the rest 0. The result is in `hi` and `lo`. */
  end(tail: number, tailBytes: number): void {
    // The last block ends with the length modulo 256.
    const length = ((this.count << 2) + tailBytes) << 24;
    if ((this.count & 1) === 0) this.block(tail, length);
    else this.block(this.half, tail | length);
    this.v2lo ^= 0xff;
    this.rounds(4);
    this.hi = this.v0hi ^ this.v1hi ^ this.v2hi ^ this.v3hi;
    this.lo = this.v0lo ^ this.v1lo ^ this.v2lo ^ this.v3lo;
  }

  /** Hashes bytes. */
  bytes(message: Uint8Array): void {
    const words = message.length & ~3;
    this.start();
    for (let i = 0; i < words; i += 4) {
      this.push(message[i] | (message[i + 1] << 8) | (message[i + 2] << 16) | (message[i + 3] << 24));
    }
    let tail = 0;
    for (let i = message.length - 1; i >= words; i--) tail = (tail << 8) | message[i];
    this.end(tail, message.length - words);
  }

  private block(lo: number, hi: number): void {
    this.v3hi ^= hi;
    this.v3lo ^= lo;
    this.rounds(2);
    this.v0hi ^= hi;
    this.v0lo ^= lo;
  }

  private rounds(count: number): void {
    let { v0hi, v0lo, v1hi, v1lo, v2hi, v2lo, v3hi, v3lo } = this;
    for (; count > 0; count--) {
      // v0 += v1; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32)
      let sum = (v0lo + v1lo) | 0;
      v0hi = (v0hi + v1hi + (sum >>> 0 < v1lo >>> 0 ? 1 : 0)) | 0;
      v0lo = sum;
      let keep = v1hi;
      v1hi = ((v1hi << 13) | (v1lo >>> 19)) ^ v0hi;
      v1lo = ((v1lo << 13) | (keep >>> 19)) ^ v0lo;
      keep = v0hi;
      v0hi = v0lo;
      v0lo = keep;
      // v2 += v3; v3 = rotl(v3, 16) ^ v2
      sum = (v2lo + v3lo) | 0;
      v2hi = (v2hi + v3hi + (sum >>> 0 < v3lo >>> 0 ? 1 : 0)) | 0;
      v2lo = sum;
      keep = v3hi;
      v3hi = ((v3hi << 16) | (v3lo >>> 16)) ^ v2hi;
      v3lo = ((v3lo << 16) | (keep >>> 16)) ^ v2lo;
      // v0 += v3; v3 = rotl(v3, 21) ^ v0
      sum = (v0lo + v3lo) | 0;
      v0hi = (v0hi + v3hi + (sum >>> 0 < v3lo >>> 0 ? 1 : 0)) | 0;
      v0lo = sum;
      keep = v3hi;
      v3hi = ((v3hi << 21) | (v3lo >>> 11)) ^ v0hi;
      v3lo = ((v3lo << 21) | (keep >>> 11)) ^ v0lo;
      // v2 += v1; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32)
      sum = (v2lo + v1lo) | 0;
      v2hi = (v2hi + v1hi + (sum >>> 0 < v1lo >>> 0 ? 1 : 0)) | 0;
      v2lo = sum;
      keep = v1hi;
      v1hi = ((v1hi << 17) | (v1lo >>> 15)) ^ v2hi;
      v1lo = ((v1lo << 17) | (keep >>> 15)) ^ v2lo;
      keep = v2hi;
      v2hi = v2lo;
      v2lo = keep;
    }
    this.v0hi = v0hi;
    this.v0lo = v0lo;
    this.v1hi = v1hi;
    this.v1lo = v1lo;
    this.v2hi = v2hi;
    this.v2lo = v2lo;
    this.v3hi = v3hi;
    this.v3lo = v3lo;
  }
}

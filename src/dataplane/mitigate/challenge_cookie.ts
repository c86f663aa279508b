import { SipHash } from '../../shared/siphash.js';
import type { Packet } from '../packet/packet.js';

/** An epoch lasts 2^15 ms = 32.8 s; a cookie is good in its own and the next, so 33 to 66 s. A client's RST takes one round trip. */
const EPOCH_SHIFT = 15;
/** Epochs are numbered modulo 2^17: the 32-bit clock's. */
const EPOCH_MASK = 0x1ffff;

/**
 * Acknowledgement numbers up to this far behind a SYN's own sequence number might be acceptable to its client: the SYN counts one,
 * and data may come with it (RFC 7413).
 */
const ACCEPTABLE = 0x20000;

/**
 * The acknowledgement numbers of SYN challenges: a keyed hash of the five-tuple and the time, so that nothing need be remembered.
 * The client's sequence number is not in it, because the RST that answers does not repeat it.
 *
 * Nodes and workers with the same key take each other's, provided that their clocks agree to a few seconds.
 */
export class ChallengeCookie {
  private readonly hash: SipHash;
  private offsetMs = 0;

  /** `keyWords`: four int32, as the config's hash_key; a key of its own is derived from them. */
  constructor(keyWords: readonly number[]) {
    this.hash = new SipHash(deriveKey(keyWords, 'sluice SYN challenge'));
  }

  /** Says which wall clock time, ms since 1970, the monotonic time `nowMs` is. Without it, cookies are good on this node only. */
  setClock(nowMs: number, wallMs: number): void {
    // Modulo 2^32: `wallMs` is beyond int32.
    this.offsetMs = (((wallMs % 0x100000000) | 0) - nowMs) | 0;
  }

  /** Number for the challenge of this SYN: never one that its client would accept. An int32. */
  make(syn: Packet, nowMs: number): number {
    const cookie = this.of(syn, this.epoch(nowMs));
    const sequence = syn.view.getInt32(syn.l4 + 4);
    return (cookie - sequence) >>> 0 <= ACCEPTABLE ? cookie ^ -0x80000000 : cookie;
  }

  /** Whether `cookie` was made lately for a SYN with the addresses and ports of `packet`. A guess is right once in 2^30. */
  isValid(packet: Packet, cookie: number, nowMs: number): boolean {
    const epoch = this.epoch(nowMs);
    // Without the top bit, in which `make` has a choice of two.
    if (((this.of(packet, epoch) ^ cookie) & 0x7fffffff) === 0) return true;
    return ((this.of(packet, (epoch - 1) & EPOCH_MASK) ^ cookie) & 0x7fffffff) === 0;
  }

  private epoch(nowMs: number): number {
    return (nowMs + this.offsetMs) >>> EPOCH_SHIFT;
  }

  private of(packet: Packet, epoch: number): number {
    const hash = this.hash;
    hash.start();
    hash.push((packet.family << 24) | epoch);
    hash.push(packet.ports);
    hash.push(packet.src0);
    hash.push(packet.dst0);
    if (packet.family === 6) {
      hash.push(packet.src1);
      hash.push(packet.src2);
      hash.push(packet.src3);
      hash.push(packet.dst1);
      hash.push(packet.dst2);
      hash.push(packet.dst3);
    }
    hash.end(0, 0);
    return hash.lo;
  }
}

/** A 16-byte key for one purpose from a key of four int32: the hashes of the purpose's name under it. */
export function deriveKey(keyWords: readonly number[], purpose: string): Uint8Array {
  if (keyWords.length !== 4) throw new RangeError(`a key has four words, not ${keyWords.length}`);
  const master = new SipHash(new Uint8Array(Int32Array.from(keyWords).buffer));
  const key = new Int32Array(4);
  for (let i = 0; i < 2; i++) {
    master.bytes(new TextEncoder().encode(`${purpose} ${i}`));
    key[2 * i] = master.lo;
    key[2 * i + 1] = master.hi;
  }
  return new Uint8Array(key.buffer);
}

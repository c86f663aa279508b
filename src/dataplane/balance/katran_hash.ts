/**
 * Katran's flow hash and the numbers that it derives from a flow for its outer headers, bit for bit
 * (katran/lib/bpf/balancer.bpf.c `get_packet_hash`, encap_helpers.h, pckt_encap.h), for services with `hash: katran`.
 *
 * Addresses are words as a DataView reads them (192.168.1.1 is 0xc0a80101), `ports` is source << 16 | destination. Katran
 * hashes the same bytes as a little-endian machine loads them, hence the swaps.
 *
 * What Katran hashes is not always what the packet holds. The caller passes 0 where it clears a field:
 * - service of port 0 (any), or of an address prefix whatever its port: destination port 0, unless the service has
 *   HASH_DPORT_ONLY or HASH_SRC_DST_PORT;
 * - HASH_NO_SRC_PORT: source port 0, for hash, flow table and outer header alike;
 * - HASH_DPORT_ONLY, when the ring is asked: source address 0 (all four words of IPv6) and the *destination* port in the place
 *   of the source port. The outer header then derives from source address 0 and the real source port;
 * - ICMP errors: the tuple of the packet in the error, turned round.
 * Neither destination address nor protocol is hashed: two services with the same backends send a flow to the same one.
 */

/** The seeds of Katran's own build: MAX_VIPS * RING_SIZE and MAX_VIPS (balancer_consts.h). */
const SEED = 512 * 65537;
const SEED_IPV6 = 512;
/** JHASH_INITVAL + (2 words << 2) + SEED, what all three words start from in jhash_2words. */
const TWO_WORDS = (0xdeadbeef + 8 + SEED) | 0;
/** JHASH_INITVAL + 16 bytes + SEED_IPV6. */
const SIXTEEN_BYTES = (0xdeadbeef + 16 + SEED_IPV6) | 0;
/** 172.16.0.0: Katran's outer IPv4 sources are of 172.16.0.0/16. */
const OUTER_PREFIX4 = 0xac100000 | 0;

/** Ring hash of an IPv4 packet, an int32: the slot is `(hash >>> 0) % ring.length`. */
export function katranHash4(src: number, ports: number): number {
  return jhash2(swap32(src), swap32(ports));
}

/** Ring hash of an IPv6 packet, whatever the family of its backend. */
export function katranHash6(src0: number, src1: number, src2: number, src3: number, ports: number): number {
  return jhash2(jhash16(swap32(src0), swap32(src1), swap32(src2), swap32(src3)), swap32(ports));
}

/**
 * Outer source of IPIP over IPv4: 172.16.0.0/16 with entropy of the flow. `src`: the IPv4 source, or by analogy the last
 * word of an IPv6 source (Katran has no IPv6 in IPv4).
 */
export function katranOuterSource4(src: number, sport: number): number {
  return OUTER_PREFIX4 | ((src ^ swap16(sport)) & 0xffff);
}

/** Last word of the outer source 0100::/96 of IPIP over IPv6. `src`: the IPv4 source, or the last word of the IPv6 source. */
export function katranOuterSource6(src: number, sport: number): number {
  return src ^ (sport << 16);
}

/** Outer UDP source port of GUE over IPv4. `src` as for `katranOuterSource4`. */
export function katranGuePort4(src: number, sport: number): number {
  return (src ^ swap16(sport)) & 0xffff;
}

/** Outer UDP source port of GUE over IPv6 for an IPv4 packet. */
export function katranGuePort6Of4(src: number, sport: number): number {
  return (src ^ sport) & 0xffff;
}

/** Outer UDP source port of GUE over IPv6 for an IPv6 packet, from the last word of its source: bytes 12 and 13 count. */
export function katranGuePort6Of6(src3: number, sport: number): number {
  return ((src3 >>> 16) ^ sport) & 0xffff;
}

/** jhash_2words (Jenkins' lookup3; Linux include/linux/jhash.h) with Katran's seed. */
function jhash2(a: number, b: number): number {
  return final((a + TWO_WORDS) | 0, (b + TWO_WORDS) | 0, TWO_WORDS);
}

/** jhash of 16 bytes, given as little-endian words: one mix of three words, and the fourth goes into the last one. */
function jhash16(w0: number, w1: number, w2: number, w3: number): number {
  let a = (SIXTEEN_BYTES + w0) | 0;
  let b = (SIXTEEN_BYTES + w1) | 0;
  let c = (SIXTEEN_BYTES + w2) | 0;
  a = (a - c) ^ ((c << 4) | (c >>> 28));
  c = (c + b) | 0;
  b = (b - a) ^ ((a << 6) | (a >>> 26));
  a = (a + c) | 0;
  c = (c - b) ^ ((b << 8) | (b >>> 24));
  b = (b + a) | 0;
  a = (a - c) ^ ((c << 16) | (c >>> 16));
  c = (c + b) | 0;
  b = (b - a) ^ ((a << 19) | (a >>> 13));
  a = (a + c) | 0;
  c = (c - b) ^ ((b << 4) | (b >>> 28));
  b = (b + a) | 0;
  return final((a + w3) | 0, b, c);
}

/** __jhash_final. */
function final(a: number, b: number, c: number): number {
  c = ((c ^ b) - ((b << 14) | (b >>> 18))) | 0;
  a = ((a ^ c) - ((c << 11) | (c >>> 21))) | 0;
  b = ((b ^ a) - ((a << 25) | (a >>> 7))) | 0;
  c = ((c ^ b) - ((b << 16) | (b >>> 16))) | 0;
  a = ((a ^ c) - ((c << 4) | (c >>> 28))) | 0;
  b = ((b ^ a) - ((a << 14) | (a >>> 18))) | 0;
  return ((c ^ b) - ((b << 24) | (b >>> 8))) | 0;
}

function swap32(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

function swap16(half: number): number {
  return ((half & 0xff) << 8) | ((half >>> 8) & 0xff);
}

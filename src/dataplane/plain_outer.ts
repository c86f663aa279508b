import { Egress, Egress6, HeaderWord, OuterKind, OuterWord } from './balance/egress.js';
import { Heading } from './plain_headers.js';
import { IpProtocol } from './packet/wire.js';

/**
 * Outer headers of the short way, other than IPv4 alone: what encapsulate() and encapsulateSpecial() write for an untagged packet on a
 * word boundary, as words that lie ready in the backend's record. No UDP checksum, no outer source with bits of the flow.
 */
export class PlainOuter {
  private readonly words: Int32Array;
  private readonly halves: Int16Array;
  private egress: Int32Array;

  constructor(memory: ArrayBuffer, egress: Int32Array) {
    this.words = new Int32Array(memory, 0, memory.byteLength >> 2);
    this.halves = new Int16Array(memory, 0, memory.byteLength >> 1);
    this.egress = egress;
  }

  adopt(egress: Int32Array): void {
    this.egress = egress;
  }

  /**
   * `outer`: Egress.outer of the backend whose record is at `at`. `data`: of the packet as it came, `l2`: as it leaves. `length`: from
   * the outer IP header on. `hash`: the ring's, which GUE's source port and flow label are of.
   */
  store(outer: number, at: number, head: number, data: number, l2: number, length: number, hash: number): void {
    const kind = outer & OuterWord.KIND_MASK;
    const isGue = kind !== OuterKind.ipv4 && kind !== OuterKind.ipv6;
    const protocol = isGue ? IpProtocol.udp : head < 0 ? IpProtocol.ipv6 : IpProtocol.ipip;
    if (kind < OuterKind.ipv6) {
      this.storeIpv4(at, head, l2, length, protocol);
      if (isGue) this.storeGue(outer, hash, head, (data + 14) | 0, (l2 + 34) | 0, (length - 20) | 0);
    } else {
      this.storeIpv6(at, head, l2, length, protocol, isGue ? hash >>> 12 : 0);
      if (isGue) this.storeGue(outer, hash, head, (data + 14) | 0, (l2 + 54) | 0, (length - 40) | 0);
    }
  }

  /** See storeIpv4 in packet/encap.ts. */
  private storeIpv4(at: number, head: number, l2: number, length: number, protocol: number): void {
    const egress = this.egress;
    const words = this.words;
    const word = l2 >> 2;
    const tos = (head >>> Heading.TOS_SHIFT) & 0xff;
    const inside = protocol === IpProtocol.ipv6 ? IpProtocol.ipv6 - IpProtocol.ipip : 0;
    let sum = (egress[(at + Egress.headerSum) | 0] + inside + tos + length) | 0;
    sum = ((sum & 0xffff) + (sum >>> 16)) | 0;
    sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
    words[word] = egress[(at + Egress.word0) | 0];
    words[(word + 1) | 0] = egress[(at + Egress.word1) | 0];
    words[(word + 2) | 0] = egress[(at + Egress.word2) | 0];
    words[(word + 3) | 0] = HeaderWord.word3 | (tos << 24);
    words[(word + 4) | 0] = swap(length);
    words[(word + 5) | 0] = HeaderWord.word5 | (protocol << 24);
    words[(word + 6) | 0] = egress[(at + Egress.word6) | 0] | swap(sum);
    words[(word + 7) | 0] = egress[(at + Egress.word7) | 0];
    this.halves[((l2 >> 1) + 16) | 0] = egress[(at + Egress.half16) | 0];
  }

  private storeIpv6(at: number, head: number, l2: number, length: number, protocol: number, label: number): void {
    const egress = this.egress;
    const words = this.words;
    const word = l2 >> 2;
    const first = 0x60000000 | (((head >>> Heading.TOS_SHIFT) & 0xff) << 20) | label;
    words[word] = egress[(at + Egress.word0) | 0];
    words[(word + 1) | 0] = egress[(at + Egress.word1) | 0];
    words[(word + 2) | 0] = egress[(at + Egress.word2) | 0];
    words[(word + 3) | 0] = HeaderWord.etherTypeIpv6 | (swap(first >>> 16) << 16);
    words[(word + 4) | 0] = swap(first & 0xffff) | (swap((length - 40) | 0) << 16);
    words[(word + 5) | 0] = egress[(at + Egress6.word5) | 0] | HeaderWord.hopLimit | protocol;
    words[(word + 6) | 0] = egress[(at + Egress6.word6) | 0];
    words[(word + 7) | 0] = egress[(at + Egress6.word7) | 0];
    words[(word + 8) | 0] = egress[(at + Egress6.word8) | 0];
    words[(word + 9) | 0] = egress[(at + Egress6.word9) | 0];
    words[(word + 10) | 0] = egress[(at + Egress6.word10) | 0];
    words[(word + 11) | 0] = egress[(at + Egress6.word11) | 0];
    words[(word + 12) | 0] = egress[(at + Egress6.word12) | 0];
    this.halves[((l2 >> 1) + 26) | 0] = egress[(at + Egress6.half26) | 0];
  }

  /** UDP and, in variant 0, four bytes of GUE: from `l4`, which is two bytes away from a word boundary, to `inner`. */
  private storeGue(outer: number, hash: number, head: number, inner: number, l4: number, datagram: number): void {
    const halves = this.halves;
    const half = l4 >> 1;
    halves[half] = swap(0x8000 | (hash & 0x7fff));
    this.words[(half + 1) >> 1] = (outer >>> OuterWord.PORT_SHIFT) | (swap(datagram) << 16);
    halves[(half + 3) | 0] = 0;
    if (((inner - l4) | 0) === 8) return;
    halves[(half + 4) | 0] = (head < 0 ? IpProtocol.ipv6 : IpProtocol.ipip) << 8;
    halves[(half + 5) | 0] = 0;
  }
}

/** The two lower bytes the other way round. */
function swap(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}

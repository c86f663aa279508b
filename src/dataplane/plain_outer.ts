import { Egress, Egress6, HeaderWord, OuterKind, OuterWord } from './balance/egress.js';
import { IpProtocol } from './packet/wire.js';
import { Heading } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';

/** Bits of a set of OuterKind: 1 << kind / 4. */
export const enum Kinds {
  SHIFT = 2,
  ipv4 = (1 << (OuterKind.ipv4 >> 2)) | (1 << (OuterKind.ipv4Gue1 >> 2)) | (1 << (OuterKind.ipv4Gue0 >> 2)),
  ipv6 = (1 << (OuterKind.ipv6 >> 2)) | (1 << (OuterKind.ipv6Gue1 >> 2)) | (1 << (OuterKind.ipv6Gue0 >> 2)),
}

/** The two lower bytes the other way round. */
const swap = (value: number): number => ((value & 0xff) << 8) | ((value >>> 8) & 0xff);

/** Goes over the first `count` packets of a burst. */
type Loop = (count: number) => void;

/**
 * Outer headers of the short way: what encapsulate() and encapsulateSpecial() write for an untagged packet on a
 * word boundary, as words that lie ready in the backend's record. No UDP checksum, no outer source with bits of the flow. A loop for each
 * outer family; GUE is written in the same one, while the header's cache line is at hand.
 */
export class PlainOuter {
  private readonly storeIpv4: Loop;
  private readonly storeIpv6: Loop;

  /** `records`: by position in the burst: the backend's record in Egress; −1: not to be sent. */
  constructor(memory: ArrayBuffer, headers: PlainHeaders, egress: Int32Array, records: Int32Array) {
    const words = new Int32Array(memory, 0, memory.byteLength >> 2);
    const halves = new Int16Array(memory, 0, memory.byteLength >> 1);
    this.storeIpv4 = ipv4Writer(words, halves, headers, egress, records);
    this.storeIpv6 = ipv6Writer(words, halves, headers, egress, records);
  }

  /** `kinds`: the OuterKinds that are among them, see Kinds. */
  store(count: number, kinds: number): void {
    if ((kinds & Kinds.ipv4) !== 0) this.storeIpv4(count);
    if ((kinds & Kinds.ipv6) !== 0) this.storeIpv6(count);
  }
}

/** See storeIpv4 in packet/encap.ts. */
function ipv4Writer(
  words: Int32Array,
  halves: Int16Array,
  headers: PlainHeaders,
  egress: Int32Array,
  records: Int32Array,
): Loop {
  const { start, heading, ringHashes } = headers;
  return (count) => {
    const end = count | 0;
    for (let i = 0; i < end; i++) {
      const at = records[i];
      if (at < 0) continue;
      const outer = egress[(at + Egress.outer) | 0];
      const kind = outer & OuterWord.KIND_MASK;
      if (kind >= OuterKind.ipv6) continue;
      const head = heading[i];
      const l2 = (start[i] - kind) | 0;
      const bytes = ((head & 0xffff) + kind) | 0;
      const word = l2 >> 2;
      const tos = (head >>> Heading.TOS_SHIFT) & 0xff;
      // With GUE the sum that lies ready is of UDP.
      const isIpv6 = kind === OuterKind.ipv4 && head < 0;
      const protocol = kind !== OuterKind.ipv4 ? IpProtocol.udp : isIpv6 ? IpProtocol.ipv6 : IpProtocol.ipip;
      let sum =
        (egress[(at + Egress.headerSum) | 0] + (isIpv6 ? IpProtocol.ipv6 - IpProtocol.ipip : 0) + tos + bytes) | 0;
      sum = ((sum & 0xffff) + (sum >>> 16)) | 0;
      sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
      words[word] = egress[(at + Egress.word0) | 0];
      words[(word + 1) | 0] = egress[(at + Egress.word1) | 0];
      words[(word + 2) | 0] = egress[(at + Egress.word2) | 0];
      words[(word + 3) | 0] = HeaderWord.word3 | (tos << 24);
      words[(word + 4) | 0] = swap(bytes);
      words[(word + 5) | 0] = HeaderWord.word5 | (protocol << 24);
      words[(word + 6) | 0] = egress[(at + Egress.word6) | 0] | swap(sum);
      words[(word + 7) | 0] = egress[(at + Egress.word7) | 0];
      halves[((l2 >> 1) + 16) | 0] = egress[(at + Egress.half16) | 0];
      if (kind === OuterKind.ipv4) continue;
      writeGue(words, halves, (l2 + 34) >> 1, ((head & 0xffff) + kind - 20) | 0, outer, ringHashes[i]);
      if (kind === OuterKind.ipv4Gue0) writeVariant0(halves, (l2 + 42) >> 1, head);
    }
  };
}

function ipv6Writer(
  words: Int32Array,
  halves: Int16Array,
  headers: PlainHeaders,
  egress: Int32Array,
  records: Int32Array,
): Loop {
  const { start, heading, ringHashes } = headers;
  return (count) => {
    const end = count | 0;
    for (let i = 0; i < end; i++) {
      const at = records[i];
      if (at < 0) continue;
      const outer = egress[(at + Egress.outer) | 0];
      const kind = outer & OuterWord.KIND_MASK;
      if (kind < OuterKind.ipv6) continue;
      const head = heading[i];
      const l2 = (start[i] - kind) | 0;
      const payload = ((head & 0xffff) + kind - 40) | 0;
      const word = l2 >> 2;
      const isGue = kind !== OuterKind.ipv6;
      const protocol = isGue ? IpProtocol.udp : head < 0 ? IpProtocol.ipv6 : IpProtocol.ipip;
      const label = isGue ? ringHashes[i] >>> 12 : 0;
      const first = 0x60000000 | (((head >>> Heading.TOS_SHIFT) & 0xff) << 20) | label;
      words[word] = egress[(at + Egress.word0) | 0];
      words[(word + 1) | 0] = egress[(at + Egress.word1) | 0];
      words[(word + 2) | 0] = egress[(at + Egress.word2) | 0];
      words[(word + 3) | 0] = HeaderWord.etherTypeIpv6 | (swap(first >>> 16) << 16);
      words[(word + 4) | 0] = swap(first & 0xffff) | (swap(payload) << 16);
      words[(word + 5) | 0] = egress[(at + Egress6.word5) | 0] | HeaderWord.hopLimit | protocol;
      words[(word + 6) | 0] = egress[(at + Egress6.word6) | 0];
      words[(word + 7) | 0] = egress[(at + Egress6.word7) | 0];
      words[(word + 8) | 0] = egress[(at + Egress6.word8) | 0];
      words[(word + 9) | 0] = egress[(at + Egress6.word9) | 0];
      words[(word + 10) | 0] = egress[(at + Egress6.word10) | 0];
      words[(word + 11) | 0] = egress[(at + Egress6.word11) | 0];
      words[(word + 12) | 0] = egress[(at + Egress6.word12) | 0];
      halves[((l2 >> 1) + 26) | 0] = egress[(at + Egress6.half26) | 0];
      if (kind === OuterKind.ipv6) continue;
      writeGue(words, halves, (l2 + 54) >> 1, ((head & 0xffff) + kind - 40) | 0, outer, ringHashes[i]);
      if (kind === OuterKind.ipv6Gue0) writeVariant0(halves, (l2 + 62) >> 1, head);
    }
  };
}

/** UDP in front of a datagram of `bytes`, its own header included; `half`: two bytes away from a word boundary. */
function writeGue(
  words: Int32Array,
  halves: Int16Array,
  half: number,
  bytes: number,
  outer: number,
  ringHash: number,
): void {
  halves[half] = swap(0x8000 | (ringHash & 0x7fff));
  words[(half + 1) >> 1] = (outer >>> OuterWord.PORT_SHIFT) | (swap(bytes) << 16);
  halves[(half + 3) | 0] = 0;
}

/** The four bytes of GUE that variant 0 has between UDP and the inner header. */
function writeVariant0(halves: Int16Array, half: number, head: number): void {
  halves[half] = (head < 0 ? IpProtocol.ipv6 : IpProtocol.ipip) << 8;
  halves[(half + 1) | 0] = 0;
}

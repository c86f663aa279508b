import { Egress, Egress6, HeaderWord, OuterKind, OuterWord } from './balance/egress.js';
import { IpProtocol } from './packet/wire.js';
import { Heading } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';

/** Bits of a set of OuterKind: 1 << kind / 4. */
export const enum Kinds {
  SHIFT = 2,
  ipv4 = (1 << (OuterKind.ipv4 >> 2)) | (1 << (OuterKind.ipv4Gue1 >> 2)) | (1 << (OuterKind.ipv4Gue0 >> 2)),
  ipv6 = (1 << (OuterKind.ipv6 >> 2)) | (1 << (OuterKind.ipv6Gue1 >> 2)) | (1 << (OuterKind.ipv6Gue0 >> 2)),
  gue = ~((1 << (OuterKind.ipv4 >> 2)) | (1 << (OuterKind.ipv6 >> 2))),
}

/** The two lower bytes the other way round. */
const swap = (value: number): number => ((value & 0xff) << 8) | ((value >>> 8) & 0xff);

/** Goes over the first `count` packets of a burst. */
type Loop = (count: number) => void;

/**
 * Outer headers of the short way: what encapsulate() and encapsulateSpecial() write for an untagged packet on a
 * word boundary, as words that lie ready in the backend's record. No UDP checksum, no outer source with bits of the flow. A loop for each
 * kind of header.
 */
export class PlainOuter {
  private readonly storeIpv4: Loop;
  private readonly storeIpv6: Loop;
  private readonly storeGue: Loop;

  /** `records`: by position in the burst: the backend's record in Egress; −1: not to be sent. */
  constructor(memory: ArrayBuffer, headers: PlainHeaders, egress: Int32Array, records: Int32Array) {
    const words = new Int32Array(memory, 0, memory.byteLength >> 2);
    const halves = new Int16Array(memory, 0, memory.byteLength >> 1);
    this.storeIpv4 = ipv4Writer(words, halves, headers, egress, records);
    this.storeIpv6 = ipv6Writer(words, halves, headers, egress, records);
    this.storeGue = gueWriter(words, halves, headers, egress, records);
  }

  /** `kinds`: the OuterKinds that are among them, see Kinds. */
  store(count: number, kinds: number): void {
    if ((kinds & Kinds.ipv4) !== 0) this.storeIpv4(count);
    if ((kinds & Kinds.ipv6) !== 0) this.storeIpv6(count);
    if ((kinds & Kinds.gue) !== 0) this.storeGue(count);
  }
}

/** See storeIpv4 in packet/encap.ts. */
function ipv4Writer(
  words: Int32Array,
  halves: Int16Array,
  { start, heading }: PlainHeaders,
  egress: Int32Array,
  records: Int32Array,
): Loop {
  return (count) => {
    for (let i = 0; i < count; i++) {
      const at = records[i];
      if (at < 0) continue;
      const kind = egress[(at + Egress.outer) | 0] & OuterWord.KIND_MASK;
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
    for (let i = 0; i < count; i++) {
      const at = records[i];
      if (at < 0) continue;
      const kind = egress[(at + Egress.outer) | 0] & OuterWord.KIND_MASK;
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
    }
  };
}

/** UDP and, in variant 0, four bytes of GUE: from two bytes away from a word boundary to the inner header. */
function gueWriter(
  words: Int32Array,
  halves: Int16Array,
  headers: PlainHeaders,
  egress: Int32Array,
  records: Int32Array,
): Loop {
  const { start, heading, ringHashes } = headers;
  return (count) => {
    for (let i = 0; i < count; i++) {
      const at = records[i];
      if (at < 0) continue;
      const outer = egress[(at + Egress.outer) | 0];
      const kind = outer & OuterWord.KIND_MASK;
      if (kind === OuterKind.ipv4 || kind === OuterKind.ipv6) continue;
      const ipBytes = kind < OuterKind.ipv6 ? 20 : 40;
      const head = heading[i];
      const half = (start[i] - kind + 14 + ipBytes) >> 1;
      const datagram = ((head & 0xffff) + kind - ipBytes) | 0;
      halves[half] = swap(0x8000 | (ringHashes[i] & 0x7fff));
      words[(half + 1) >> 1] = (outer >>> OuterWord.PORT_SHIFT) | (swap(datagram) << 16);
      halves[(half + 3) | 0] = 0;
      if (((kind - ipBytes) | 0) === 8) continue;
      halves[(half + 4) | 0] = (head < 0 ? IpProtocol.ipv6 : IpProtocol.ipip) << 8;
      halves[(half + 5) | 0] = 0;
    }
  };
}

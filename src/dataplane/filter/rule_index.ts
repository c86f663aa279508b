import { ProtocolKey, PortKey, RuleIndexHeader, type RuleIndexTables } from '../../shared/layout.js';
import { lookupLpm4, lookupLpm6 } from '../../shared/lpm.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { Wire } from '../packet/wire.js';

const NO_PREFIXES = new Int32Array(0);

/** What RuleIndex finds instead of one record. */
export const enum Touched {
  none = -1,
  several = -2,
}

/**
 * Finds the records that a packet may match: the rows of its classes, which `RuleSet` then intersects. The layout is that of RuleIndexTables.
 *
 * A packet has five rows. One that programs see with other eyes than the parser has five more, and what is in all of either may match: programs
 * read an IPv6 next header and what follows as protocol and ports even where that is an extension header, and those over frames know no IP behind a VLAN tag.
 */
export class RuleIndex {
  readonly words: Int32Array;
  readonly summaryWords: number;
  /** Where the numbers of the entries' records are in `words`. */
  readonly records: number;

  // Rows of the packet in hand, word indexes.
  protocol = 0;
  sport = 0;
  dport = 0;
  src = 0;
  dst = 0;
  /** 1: the packet has the second rows too; 2: and may match what matches frames that are not IP: it has a tag and extension headers. */
  odd = 0;
  oddProtocol = 0;
  oddSport = 0;
  oddDport = 0;
  oddSrc = 0;
  oddDst = 0;

  private readonly halves: Uint16Array;
  private readonly rowWords: number;
  private readonly all: number;
  private readonly protocols: number;
  private readonly sourcePorts: number;
  private readonly destinationPorts: number;
  private readonly sourcePortRows: number;
  private readonly destinationPortRows: number;
  readonly src4: Int32Array;
  private readonly src6: Int32Array;
  readonly dst4: Int32Array;
  private readonly dst6: Int32Array;
  private readonly src4Rows: number;
  private readonly src6Rows: number;
  private readonly dst4Rows: number;
  private readonly dst6Rows: number;
  private readonly hasPrograms: boolean;

  constructor({ words: buffer, src4, src6, dst4, dst6 }: RuleIndexTables) {
    const words = new Int32Array(buffer);
    this.words = words;
    this.halves = new Uint16Array(buffer);
    this.summaryWords = words[RuleIndexHeader.summaryWords];
    this.rowWords = words[RuleIndexHeader.rowWords];
    this.records = words[RuleIndexHeader.records];
    this.all = words[RuleIndexHeader.all];
    this.protocols = words[RuleIndexHeader.protocols];
    this.sourcePorts = words[RuleIndexHeader.sourcePorts] << 1;
    this.destinationPorts = words[RuleIndexHeader.destinationPorts] << 1;
    this.sourcePortRows = words[RuleIndexHeader.sourcePortRows];
    this.destinationPortRows = words[RuleIndexHeader.destinationPortRows];
    this.src4 = src4 === null ? NO_PREFIXES : new Int32Array(src4);
    this.src6 = src6 === null ? NO_PREFIXES : new Int32Array(src6);
    this.dst4 = dst4 === null ? NO_PREFIXES : new Int32Array(dst4);
    this.dst6 = dst6 === null ? NO_PREFIXES : new Int32Array(dst6);
    this.src4Rows = words[RuleIndexHeader.src4Rows];
    this.src6Rows = words[RuleIndexHeader.src6Rows];
    this.dst4Rows = words[RuleIndexHeader.dst4Rows];
    this.dst6Rows = words[RuleIndexHeader.dst6Rows];
    this.hasPrograms = words[RuleIndexHeader.programs] !== 0;
  }

  /** Sets the rows of a parsed packet. */
  locate(packet: Packet): void {
    const words = this.words;
    this.odd = 0;
    if (packet.family === 0) {
      this.protocol = words[this.protocols];
      this.sport = this.dport = this.src = this.dst = this.all;
      return;
    }
    let ports = packet.ports;
    let portBytes = 4;
    if ((packet.flags & PacketFlag.hasPorts) === 0) {
      // Rules do not match by ports then, but programs may, by the bytes where they would be.
      portBytes = this.hasPrograms ? bytesAt(packet, packet.l3 + headerBytes(packet)) : 0;
      ports = portBytes > 0 ? wordAt(packet, packet.l3 + headerBytes(packet), portBytes) : 0;
    }
    this.sport = this.sportRow(portBytes >= 2 ? ports >>> 16 : PortKey.none);
    this.dport = this.dportRow(portBytes >= 4 ? ports & 0xffff : PortKey.none);
    if (packet.family === 4) {
      this.protocol = words[this.protocols + ProtocolKey.ipv4 + packet.protocol];
      this.src = this.src4.length === 0 ? this.src4Rows : this.src4Row(packet.src0);
      this.dst = this.dst4.length === 0 ? this.dst4Rows : this.dst4Row(packet.dst0);
    } else {
      this.protocol = words[this.protocols + ProtocolKey.ipv6 + packet.protocol];
      this.src = this.src6.length === 0 ? this.src6Rows : this.src6Row(packet);
      this.dst = this.dst6.length === 0 ? this.dst6Rows : this.dst6Row(packet);
    }
    if (this.hasPrograms && (packet.vlanTags !== 0 || packet.family === 6)) this.locateOdd(packet);
  }

  /** The word at this position of what the second rows have in common, and of what programs over frames make of a tag. */
  oddWord(position: number): number {
    const words = this.words;
    const common =
      words[this.oddProtocol + position] &
      words[this.oddSport + position] &
      words[this.oddDport + position] &
      words[this.oddSrc + position] &
      words[this.oddDst + position];
    return this.odd === 1 ? common : common | words[words[this.protocols] + position];
  }

  /** Whether any record may match a packet that is plain: IPv4 without tag, options or fragment, with ports. Sets nothing. */
  touches4(protocol: number, src: number, dst: number, ports: number): boolean {
    return this.only4(protocol, src, dst, ports) !== (Touched.none as number);
  }

  /** The same for IPv6 without tag or extension headers; its header is at `at`. */
  touches6(view: DataView, at: number): boolean {
    return this.only6(view, at) !== (Touched.none as number);
  }

  /** Number of the record that a packet as for `touches4` may match, or a Touched. */
  only4(protocol: number, src: number, dst: number, ports: number): number {
    return this.meet(
      this.words[this.protocols + ProtocolKey.ipv4 + protocol],
      this.sportRow(ports >>> 16),
      this.dportRow(ports & 0xffff),
      this.src4.length === 0 ? this.src4Rows : this.src4Row(src),
      this.dst4.length === 0 ? this.dst4Rows : this.dst4Row(dst),
    );
  }

  /** The same of a packet as for `touches6`. */
  only6(view: DataView, at: number): number {
    const { src6, dst6, src6Rows, dst6Rows, rowWords } = this;
    const ports = view.getInt32(at + Wire.ipv6Bytes);
    let src = src6Rows;
    if (src6.length !== 0) {
      const found = lookupLpm6(
        src6,
        view.getInt32(at + 8),
        view.getInt32(at + 12),
        view.getInt32(at + 16),
        view.getInt32(at + 20),
      );
      src = (src6Rows + Math.imul(found + 1, rowWords)) | 0;
    }
    let dst = dst6Rows;
    if (dst6.length !== 0) {
      const found = lookupLpm6(
        dst6,
        view.getInt32(at + 24),
        view.getInt32(at + 28),
        view.getInt32(at + 32),
        view.getInt32(at + 36),
      );
      dst = (dst6Rows + Math.imul(found + 1, rowWords)) | 0;
    }
    const protocol = this.words[this.protocols + ProtocolKey.ipv6 + view.getUint8(at + 6)];
    return this.meet(protocol, this.sportRow(ports >>> 16), this.dportRow(ports & 0xffff), src, dst);
  }

  /** The record whose entries are in all of these rows, or a Touched. */
  private meet(r0: number, r1: number, r2: number, r3: number, r4: number): number {
    const { words, summaryWords } = this;
    let only: number = Touched.none;
    for (let s = 0; s < summaryWords; s++) {
      let summary = words[r0 + s] & words[r1 + s] & words[r2 + s] & words[r3 + s] & words[r4 + s];
      while (summary !== 0) {
        const word = ((s << 5) + (31 - Math.clz32(summary & -summary))) | 0;
        const w = (summaryWords + word) | 0;
        summary &= summary - 1;
        let bits = words[r0 + w] & words[r1 + w] & words[r2 + w] & words[r3 + w] & words[r4 + w];
        while (bits !== 0) {
          const record = words[(this.records + (word << 5) + (31 - Math.clz32(bits & -bits))) | 0];
          bits &= bits - 1;
          if (only >= 0 && record !== only) return Touched.several;
          only = record;
        }
      }
    }
    return only;
  }

  private sportRow(port: number): number {
    if (this.sourcePorts === 0) return this.sourcePortRows;
    return (this.sourcePortRows + Math.imul(this.halves[this.sourcePorts + port], this.rowWords)) | 0;
  }

  private dportRow(port: number): number {
    if (this.destinationPorts === 0) return this.destinationPortRows;
    return (this.destinationPortRows + Math.imul(this.halves[this.destinationPorts + port], this.rowWords)) | 0;
  }

  private src4Row(address: number): number {
    return (this.src4Rows + Math.imul(lookupLpm4(this.src4, address) + 1, this.rowWords)) | 0;
  }

  private dst4Row(address: number): number {
    return (this.dst4Rows + Math.imul(lookupLpm4(this.dst4, address) + 1, this.rowWords)) | 0;
  }

  private src6Row({ src0, src1, src2, src3 }: Packet): number {
    return (this.src6Rows + Math.imul(lookupLpm6(this.src6, src0, src1, src2, src3) + 1, this.rowWords)) | 0;
  }

  private dst6Row({ dst0, dst1, dst2, dst3 }: Packet): number {
    return (this.dst6Rows + Math.imul(lookupLpm6(this.dst6, dst0, dst1, dst2, dst3) + 1, this.rowWords)) | 0;
  }

  /** The second rows, of what a program sees in another way. */
  private locateOdd(packet: Packet): void {
    const at = (packet.l3 + Wire.ipv6Bytes) | 0;
    if (packet.family === 6 && packet.l4 !== at) {
      const portBytes = bytesAt(packet, at);
      const ports = portBytes > 0 ? wordAt(packet, at, portBytes) : 0;
      this.odd = packet.vlanTags === 0 ? 1 : 2;
      this.oddProtocol = this.words[this.protocols + ProtocolKey.ipv6 + packet.view.getUint8(packet.l3 + 6)];
      this.oddSport = this.sportRow(portBytes >= 2 ? ports >>> 16 : PortKey.none);
      this.oddDport = this.dportRow(portBytes >= 4 ? ports & 0xffff : PortKey.none);
      this.oddSrc = this.src;
      this.oddDst = this.dst;
    } else if (packet.vlanTags !== 0) {
      this.odd = 1;
      this.oddProtocol = this.words[this.protocols];
      this.oddSport = this.oddDport = this.oddSrc = this.oddDst = this.all;
    }
  }
}

/** Bytes of the IPv4 header with its options, or of the fixed IPv6 header. */
function headerBytes(packet: Packet): number {
  return packet.family === 4 ? (packet.view.getUint8(packet.l3) & 15) << 2 : Wire.ipv6Bytes;
}

/** How many of the four bytes at `at` the frame has. */
function bytesAt(packet: Packet, at: number): number {
  const left = (packet.dataEnd - at) | 0;
  return left > 4 ? 4 : left < 0 ? 0 : left;
}

/** The first `count` of four bytes, the others 0. */
function wordAt(packet: Packet, at: number, count: number): number {
  const view = packet.view;
  if (count === 4) return view.getInt32(at);
  return count >= 2 ? view.getUint16(at) << 16 : 0;
}

import { notEthernet } from './classic.js';
import { Block, BYTE_ORDER_MAGIC, LINKTYPE_ETHERNET, Option, padded, VERDICT_XDP, type Source } from './format.js';
import {
  PacketIndex,
  timestampNs,
  type CapturedPacket,
  type CaptureInterface,
  type FormatReader,
} from './packet_index.js';
import type { InterfaceStatistics } from './pcapng_options.js';

/** Type, length, and the length again at the end. */
const BLOCK_OVERHEAD = 12;
/** Where the options start within a block, from its type word; simple packet blocks have none. */
const SHB_BODY = 24;
const IDB_BODY = 16;
const EPB_BODY = 28;
const SPB_BODY = 12;
const ISB_BODY = 20;

const text = new TextDecoder();

/** What the options of a packet block say. */
type PacketFindings = {
  -readonly [Key in 'comment' | 'flags' | 'packetId' | 'queue' | 'verdict']?: CapturedPacket[Key];
};

/** Whether the file begins with a section header block. */
export function isPcapng(source: Source): boolean {
  return source.length >= 4 && source.view.getUint32(0, true) === Block.sectionHeader;
}

/** Tick length that applies unless an if_tsresol option says otherwise: one microsecond. */
const DEFAULT_TSRESOL = 6;

/**
 * pcapng: blocks, each with its length at both ends. A section header starts a section of its own byte order and its own
 * interface numbers. Blocks of unknown type are skipped, as the format wants it.
 */
export class PcapngReader implements FormatReader {
  readonly format = 'pcapng';
  readonly interfaces: CaptureInterface[] = [];
  readonly index = new PacketIndex();
  readonly statistics: InterfaceStatistics[] = [];
  #littleEndian = true;
  /** Number in `interfaces` of the section's interface 0. */
  #firstInterface = 0;

  constructor(readonly source: Source) {}

  scan(): void {
    const { source } = this;
    let position = 0;
    while (position < source.length) {
      const left = source.length - position;
      if (left < BLOCK_OVERHEAD) throw source.error(position, `the file ends within a block header`);
      // Reads the same in both byte orders, and decides the byte order of all that follows.
      const isSection = source.view.getUint32(position, true) === Block.sectionHeader;
      if (isSection) this.#startSection(position);
      const length = source.view.getUint32(position + 4, this.#littleEndian);
      this.#checkLength(position, length, left);
      if (isSection) this.#checkSection(position, length);
      else this.#block(position, length);
      position += length;
    }
  }

  packet(index: number): CapturedPacket {
    const { view, bytes } = this.source;
    const position = this.index.position(index);
    const interfaceId = this.index.interfaceId(index);
    const iface = this.interfaces[interfaceId]!;
    const little = iface.littleEndian;
    if (view.getUint32(position, little) === Block.simplePacket) {
      const originalLength = view.getUint32(position + 8, little);
      const start = position + SPB_BODY;
      const captured = simpleLength(originalLength, iface.snapLength, view.getUint32(position + 4, little));
      return { index, timestampNs: 0n, interfaceId, originalLength, data: bytes.subarray(start, start + captured) };
    }
    // Enhanced and obsolete packet blocks differ only in how the interface number is written, and in epb_flags' sense.
    const ticks =
      (BigInt(view.getUint32(position + 12, little)) << 32n) | BigInt(view.getUint32(position + 16, little));
    const captured = view.getUint32(position + 20, little);
    const start = position + EPB_BODY;
    const packet = {
      index,
      timestampNs: timestampNs(iface, ticks),
      interfaceId,
      originalLength: view.getUint32(position + 24, little),
      data: bytes.subarray(start, start + captured),
    };
    const options = start + padded(captured);
    const end = position + view.getUint32(position + 4, little) - 4;
    return options < end ? { ...packet, ...this.#packetOptions(options, end, little) } : packet;
  }

  #startSection(position: number): void {
    const magic = this.source.view.getUint32(position + 8, true);
    if (magic === BYTE_ORDER_MAGIC) this.#littleEndian = true;
    else if (swap32(magic) === BYTE_ORDER_MAGIC) this.#littleEndian = false;
    else throw this.source.error(position + 8, `0x${magic.toString(16)} is not pcapng's byte-order magic`);
    this.#firstInterface = this.interfaces.length;
  }

  #checkSection(position: number, length: number): void {
    if (length < SHB_BODY + 4) throw this.source.error(position, `a section header of ${length} bytes is too short`);
    const major = this.source.view.getUint16(position + 12, this.#littleEndian);
    const minor = this.source.view.getUint16(position + 14, this.#littleEndian);
    if (major !== 1)
      throw this.source.error(position + 12, `pcapng version ${major}.${minor} is not known, only 1.x is`);
  }

  /** Guards everything after it: a block is whole, of whole words, and its two lengths agree. */
  #checkLength(position: number, length: number, left: number): void {
    const { source } = this;
    if (length < BLOCK_OVERHEAD || length % 4 !== 0) {
      throw source.error(position + 4, `${length} is not a possible block length`);
    }
    if (length > left) throw source.error(position, `a block of ${length} bytes, and the file ends after ${left}`);
    const trailer = source.view.getUint32(position + length - 4, this.#littleEndian);
    if (trailer !== length) {
      throw source.error(
        position + length - 4,
        `the block's lengths disagree: ${length} before it, ${trailer} behind it`,
      );
    }
  }

  #block(position: number, length: number): void {
    const { source } = this;
    const { view } = source;
    const little = this.#littleEndian;
    switch (view.getUint32(position, little)) {
      case Block.interfaceDescription:
        this.#interface(position, length);
        return;
      case Block.enhancedPacket:
      case Block.packet: {
        if (length < EPB_BODY + 4) throw source.error(position, `a packet block of ${length} bytes is too short`);
        const obsolete = view.getUint32(position, little) === Block.packet;
        const number = obsolete ? view.getUint16(position + 8, little) : view.getUint32(position + 8, little);
        const captured = view.getUint32(position + 20, little);
        if (captured > length - EPB_BODY - 4) {
          throw source.error(position + 20, `a packet of ${captured} bytes in a block of ${length}`);
        }
        const interfaceId = this.#packetInterface(position, number);
        this.#eachOption(position + EPB_BODY + padded(captured), position + length - 4, little, nothing);
        this.index.add(position, interfaceId);
        return;
      }
      case Block.interfaceStatistics:
        this.#statistics(position, length);
        return;
      case Block.simplePacket: {
        if (length < SPB_BODY + 4) throw source.error(position, `a packet block of ${length} bytes is too short`);
        const interfaceId = this.#packetInterface(position, 0);
        const original = view.getUint32(position + 8, little);
        const snapLength = this.interfaces[interfaceId]!.snapLength;
        const promised = snapLength === 0 ? original : Math.min(original, snapLength);
        if (promised > length - SPB_BODY - 4) {
          throw source.error(position + 8, `a packet of ${promised} bytes in a block of ${length}`);
        }
        this.index.add(position, interfaceId);
        return;
      }
    }
  }

  /** Number in `interfaces` of the section's interface `number`, which a packet at `position` came in on. */
  #packetInterface(position: number, number: number): number {
    const count = this.interfaces.length - this.#firstInterface;
    if (number >= count) {
      throw this.source.error(position + 8, `a packet on interface ${number}, and the section has described ${count}`);
    }
    const iface = this.interfaces[this.#firstInterface + number]!;
    if (iface.linkType !== LINKTYPE_ETHERNET) throw notEthernet(this.source, iface.position + 8, iface.linkType);
    return iface.id;
  }

  #interface(position: number, length: number): void {
    const { source } = this;
    const { view } = source;
    const little = this.#littleEndian;
    if (length < IDB_BODY + 4) throw source.error(position, `an interface description of ${length} bytes is too short`);
    let name = '';
    let description = '';
    let resolution = DEFAULT_TSRESOL;
    let offsetSeconds = 0n;
    this.#eachOption(position + IDB_BODY, position + length - 4, little, (code, start, size) => {
      if (code === Option.ifName) name = this.#text(start, size);
      else if (code === Option.ifDescription) description = this.#text(start, size);
      else if (code === Option.ifTsResol && size === 1) resolution = view.getUint8(start);
      else if (code === Option.ifTsOffset && size === 8) offsetSeconds = view.getBigInt64(start, little);
      else if (code === Option.ifTsResol || code === Option.ifTsOffset) {
        throw source.error(start, `a timestamp option of ${size} bytes`);
      }
    });
    const exponent = BigInt(resolution & 0x7f);
    this.interfaces.push({
      id: this.interfaces.length,
      name,
      description,
      linkType: view.getUint16(position + 8, little),
      snapLength: view.getUint32(position + 12, little),
      littleEndian: little,
      position,
      // The high bit of if_tsresol chooses between ticks of 2^-n and 10^-n seconds.
      tickNumerator: 1_000_000_000n,
      tickDenominator: (resolution & 0x80) !== 0 ? 1n << exponent : 10n ** exponent,
      offsetNs: offsetSeconds * 1_000_000_000n,
    });
  }

  #statistics(position: number, length: number): void {
    const { view } = this.source;
    const little = this.#littleEndian;
    // They are only told, so a strange one is no reason to refuse the packets.
    const iface =
      length < ISB_BODY + 4 ? undefined : this.interfaces[this.#firstInterface + view.getUint32(position + 8, little)];
    if (iface === undefined) return;
    const found = { interfaceId: iface.id, startNs: 0n, endNs: 0n, received: 0, accepted: 0, lost: 0, delivered: 0 };
    this.#eachOption(position + ISB_BODY, position + length - 4, little, (code, at, size) => {
      if (size !== 8) return;
      const time = (): bigint =>
        timestampNs(iface, (BigInt(view.getUint32(at, little)) << 32n) | BigInt(view.getUint32(at + 4, little)));
      if (code === Option.isbStartTime) found.startNs = time();
      else if (code === Option.isbEndTime) found.endNs = time();
      else if (code === Option.isbIfRecv) found.received = Number(view.getBigUint64(at, little));
      else if (code === Option.isbFilterAccept) found.accepted = Number(view.getBigUint64(at, little));
      else if (code === Option.isbOsDrop) found.lost = Number(view.getBigUint64(at, little));
      else if (code === Option.isbUsrDeliv) found.delivered = Number(view.getBigUint64(at, little));
    });
    this.statistics.push(found);
  }

  #packetOptions(start: number, end: number, little: boolean): PacketFindings {
    const found: PacketFindings = {};
    const { view } = this.source;
    this.#eachOption(start, end, little, (code, at, size) => {
      if (code === Option.comment) {
        const comment = this.#text(at, size);
        found.comment = found.comment === undefined ? comment : `${found.comment}\n${comment}`;
      } else if (code === Option.epbFlags && size === 4) {
        found.flags = view.getUint32(at, little);
      } else if (code === Option.epbPacketId && size === 8) {
        found.packetId = view.getBigUint64(at, little);
      } else if (code === Option.epbQueue && size === 4) {
        found.queue = view.getUint32(at, little);
      } else if (code === Option.epbVerdict && size === 9 && view.getUint8(at) === VERDICT_XDP) {
        found.verdict = Number(view.getBigUint64(at + 1, little));
      }
    });
    return found;
  }

  /** Calls `visit` with each option's code, byte offset and size, up to the end of the block or of the options. */
  #eachOption(
    start: number,
    end: number,
    little: boolean,
    visit: (code: number, at: number, size: number) => void,
  ): void {
    const { view } = this.source;
    let position = start;
    // Both ends are multiples of four away from the block's start: there is room for a whole option header or none.
    while (position < end) {
      const code = view.getUint16(position, little);
      if (code === Option.end) return;
      const size = view.getUint16(position + 2, little);
      if (size > end - position - 4) {
        throw this.source.error(position, `option ${code} of ${size} bytes runs out of its block`);
      }
      visit(code, position + 4, size);
      position += 4 + padded(size);
    }
  }

  #text(start: number, size: number): string {
    const bytes = this.source.bytes.subarray(start, start + size);
    // Some writers count a terminating NUL in.
    const nul = bytes.indexOf(0);
    return text.decode(nul < 0 ? bytes : bytes.subarray(0, nul));
  }
}

function nothing(): void {}

/** A simple packet block has no captured length of its own: what the original and the snap length leave. */
function simpleLength(original: number, snapLength: number, blockLength: number): number {
  return Math.min(original, snapLength === 0 ? original : snapLength, blockLength - SPB_BODY - 4);
}

function swap32(word: number): number {
  return (((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

import { LINKTYPE_ETHERNET, PCAP_MAGIC_NS, PCAP_MAGIC_US, type Source } from './format.js';
import { PacketIndex, type CapturedPacket, type CaptureInterface, type FormatReader } from './packet_index.js';

const FILE_HEADER = 24;
const RECORD_HEADER = 16;

/** Whether the file begins with one of the four classic magics, and with which byte order and resolution. */
export function classicMagic(source: Source): { littleEndian: boolean; nanoseconds: boolean } | null {
  if (source.length < 4) return null;
  for (const littleEndian of [true, false]) {
    const magic = source.view.getUint32(0, littleEndian);
    if (magic === PCAP_MAGIC_US || magic === PCAP_MAGIC_NS) {
      return { littleEndian, nanoseconds: magic === PCAP_MAGIC_NS };
    }
  }
  return null;
}

/** Classic pcap: a 24-byte file header, then records of 16 bytes of header and the packet. */
export class ClassicReader implements FormatReader {
  readonly format = 'pcap';
  readonly interfaces: CaptureInterface[] = [];
  readonly index = new PacketIndex();
  readonly statistics = [];
  readonly #littleEndian: boolean;
  readonly #tickNs: bigint;

  constructor(
    readonly source: Source,
    magic: { littleEndian: boolean; nanoseconds: boolean },
  ) {
    this.#littleEndian = magic.littleEndian;
    this.#tickNs = magic.nanoseconds ? 1n : 1000n;
  }

  scan(): void {
    const { source } = this;
    const { view } = source;
    if (source.length < FILE_HEADER) {
      throw source.error(source.length, `the file ends within its ${FILE_HEADER}-byte header`);
    }
    const major = view.getUint16(4, this.#littleEndian);
    const minor = view.getUint16(6, this.#littleEndian);
    if (major !== 2) throw source.error(4, `pcap version ${major}.${minor} is not known, only 2.x is`);
    // The upper 16 bits say whether, and how long, a frame check sequence is; they are not part of the link type.
    const linkType = view.getUint32(20, this.#littleEndian) & 0xffff;
    if (linkType !== LINKTYPE_ETHERNET) throw notEthernet(source, 20, linkType);
    this.interfaces.push({
      id: 0,
      name: '',
      description: '',
      linkType,
      snapLength: view.getUint32(16, this.#littleEndian),
      littleEndian: this.#littleEndian,
      position: 0,
      tickNumerator: this.#tickNs,
      tickDenominator: 1n,
      offsetNs: 0n,
    });
    let position = FILE_HEADER;
    while (position < source.length) {
      const left = source.length - position;
      if (left < RECORD_HEADER) {
        throw source.error(position, `the file ends within the header of packet ${this.index.length + 1}`);
      }
      const captured = view.getUint32(position + 8, this.#littleEndian);
      if (captured > left - RECORD_HEADER) {
        throw source.error(
          position,
          `packet ${this.index.length + 1} says it has ${captured} bytes, and the file ends after ${left - RECORD_HEADER}`,
        );
      }
      this.index.add(position, 0);
      position += RECORD_HEADER + captured;
    }
  }

  packet(index: number): CapturedPacket {
    const { view, bytes } = this.source;
    const position = this.index.position(index);
    const seconds = view.getUint32(position, this.#littleEndian);
    const fraction = view.getUint32(position + 4, this.#littleEndian);
    const captured = view.getUint32(position + 8, this.#littleEndian);
    return {
      index,
      timestampNs: BigInt(seconds) * 1_000_000_000n + BigInt(fraction) * this.#tickNs,
      interfaceId: 0,
      originalLength: view.getUint32(position + 12, this.#littleEndian),
      data: bytes.subarray(position + RECORD_HEADER, position + RECORD_HEADER + captured),
    };
  }
}

/** The error for a capture of something other than Ethernet frames. */
export function notEthernet(source: Source, offset: number, linkType: number): Error {
  return source.error(
    offset,
    `link type ${linkType} is not Ethernet (1)`,
    'Capture on the Ethernet interface itself, for example: tcpdump -i eth0 -w file.pcap',
  );
}

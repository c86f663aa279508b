/**
 * Numbers of the two capture file formats.
 *
 * Classic pcap: draft-ietf-opsawg-pcap (as pcap-savefile(5)). pcapng: draft-ietf-opsawg-pcapng.
 */
import { SluiceError } from '../errors.js';

/** First word of a classic file as read in the writer's byte order: timestamps in microseconds or nanoseconds. */
export const PCAP_MAGIC_US = 0xa1b2c3d4;
export const PCAP_MAGIC_NS = 0xa1b23c4d;
/** Kuznetsov's variant with longer packet headers; not read, but named when it turns up. */
export const PCAP_MAGIC_MODIFIED = 0xa1b2cd34;

/** pcapng block types. */
export const enum Block {
  sectionHeader = 0x0a0d0d0a,
  interfaceDescription = 1,
  /** Obsolete Packet Block. */
  packet = 2,
  simplePacket = 3,
  interfaceStatistics = 5,
  enhancedPacket = 6,
}

/** Tells the byte order of a section. The block type above reads the same in both orders on purpose. */
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

/** pcapng option codes; their meaning depends on the block from 2 on. */
export const enum Option {
  end = 0,
  comment = 1,
  shbHardware = 2,
  shbOs = 3,
  shbUserAppl = 4,
  ifName = 2,
  ifDescription = 3,
  ifTsResol = 9,
  ifTsOffset = 14,
  epbFlags = 2,
  epbPacketId = 5,
  epbQueue = 6,
  epbVerdict = 7,
  isbStartTime = 2,
  isbEndTime = 3,
  isbIfRecv = 4,
  isbFilterAccept = 6,
  isbOsDrop = 7,
  isbUsrDeliv = 8,
}

/** First octet of epb_verdict, for which 8 octets of an enum xdp_action follow: Linux_eBPF_XDP. */
export const VERDICT_XDP = 2;

/** LINKTYPE_ETHERNET, the only link type that a port can play. */
export const LINKTYPE_ETHERNET = 1;

/** Where a reader is: the file's bytes and what to call it in errors. */
export class Source {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  constructor(
    bytes: Uint8Array,
    /** Path as the user gave it, or a word such as "(memory)". */
    readonly name: string,
  ) {
    // Never a Buffer, whose slices and comparisons differ: packets look the same wherever the file came from.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  /** A SLUICE_FORMAT error that names the file and the byte where the trouble is. */
  error(offset: number, what: string, remedy = ''): SluiceError {
    return new SluiceError('SLUICE_FORMAT', `${this.name}, byte ${offset}: ${what}`, remedy);
  }
}

/** Bytes that `length` takes when padded to a multiple of four. */
export function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

import { closeSync, openSync, writeSync } from 'node:fs';
import { SluiceError } from '../errors.js';
import { Block, BYTE_ORDER_MAGIC, LINKTYPE_ETHERNET, Option, padded } from './format.js';
import {
  encodeOptions,
  encodeText,
  packetOptions,
  statisticsOptions,
  type InterfaceStatistics,
  type PacketMetadata,
} from './pcapng_options.js';

export interface SectionOptions {
  /** Options of the section header. Only what is given is written, so that equal input makes equal bytes. */
  hardware?: string;
  os?: string;
  /** Default "sluice". */
  userAppl?: string;
}

export interface InterfaceOptions {
  name: string;
  description?: string;
  /** Bytes kept of a packet at most; 0 (default): no limit. Packets are written as they are given all the same. */
  snapLength?: number;
}

export interface PacketOptions extends PacketMetadata {
  /** What `addInterface` returned. */
  interfaceId: number;
  /** Nanoseconds since the epoch, 0 to 2^64 - 1. */
  timestampNs: bigint;
  data: Uint8Array;
  /** Bytes on the wire, when the packet was cut; default: the length of `data`. */
  originalLength?: number;
}

/** Writes reach the file in pieces of about this many bytes: large enough that the system call does not matter. */
const BUFFER_BYTES = 256 * 1024;
/** if_tsresol 9: timestamps count nanoseconds. */
const NANOSECONDS = 9;

/**
 * Writes pcapng (one section, little-endian, Ethernet, nanosecond timestamps) to a file descriptor or into memory.
 * The same calls always make the same bytes: nothing of the machine or the clock gets in.
 *
 * Errors of write(2) come through as Node throws them; wrong use throws SLUICE_STATE or RangeError.
 */
export class PcapngWriter {
  #buffer: Uint8Array;
  #view: DataView;
  #used = 0;
  #interfaces = 0;
  #packets = 0;
  #closed = false;
  readonly #fd: number;
  readonly #ownsFd: boolean;

  /**
   * @param target a file descriptor, which stays the caller's to close, or 'memory'
   * @param ownsFd close the descriptor in `close()`
   */
  constructor(target: number | 'memory', options: SectionOptions = {}, ownsFd = false) {
    this.#fd = target === 'memory' ? -1 : target;
    this.#ownsFd = ownsFd;
    this.#buffer = new Uint8Array(BUFFER_BYTES);
    this.#view = new DataView(this.#buffer.buffer);
    this.#section(options);
  }

  /** Creates or empties a file and writes to it; `close()` closes it. */
  static open(path: string, options: SectionOptions = {}): PcapngWriter {
    let fd: number;
    try {
      fd = openSync(path, 'w', 0o644);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new SluiceError('SLUICE_USAGE', `cannot write the capture ${path}: ${why}`, 'Check the path.', { cause });
    }
    return new PcapngWriter(fd, options, true);
  }

  /** Describes an interface; returns its number, counting from 0. May be called between packets. */
  addInterface(options: InterfaceOptions): number {
    const bytes = encodeOptions([
      [Option.ifName, encodeText(options.name)],
      ...(options.description === undefined ? [] : [[Option.ifDescription, encodeText(options.description)] as const]),
      [Option.ifTsResol, Uint8Array.of(NANOSECONDS)],
    ]);
    const length = 20 + bytes.length;
    const start = this.#begin(Block.interfaceDescription, length);
    this.#view.setUint16(start + 8, LINKTYPE_ETHERNET, true);
    this.#view.setUint16(start + 10, 0, true);
    this.#view.setUint32(start + 12, options.snapLength ?? 0, true);
    this.#buffer.set(bytes, start + 16);
    this.#end(start + 16 + bytes.length, length);
    return this.#interfaces++;
  }

  writePacket(packet: PacketOptions): void {
    const { interfaceId, timestampNs, data } = packet;
    if (!Number.isInteger(interfaceId) || interfaceId < 0 || interfaceId >= this.#interfaces) {
      throw new RangeError(`interface ${interfaceId} of a capture that has described ${this.#interfaces}`);
    }
    if (timestampNs < 0n || timestampNs > 0xffff_ffff_ffff_ffffn) {
      throw new RangeError(`timestamp ${timestampNs} ns does not fit 64 bits`);
    }
    const options = packetOptions(packet);
    const length = 32 + padded(data.length) + options.length;
    const start = this.#begin(Block.enhancedPacket, length);
    const view = this.#view;
    view.setUint32(start + 8, interfaceId, true);
    view.setUint32(start + 12, Number(timestampNs >> 32n), true);
    view.setUint32(start + 16, Number(timestampNs & 0xffff_ffffn), true);
    view.setUint32(start + 20, data.length, true);
    view.setUint32(start + 24, packet.originalLength ?? data.length, true);
    this.#buffer.set(data, start + 28);
    const at = this.#pad(start + 28 + data.length, data.length);
    this.#buffer.set(options, at);
    this.#end(at + options.length, length);
    this.#packets++;
  }

  /** What is known of an interface at the end. */
  writeStatistics(statistics: InterfaceStatistics): void {
    const options = statisticsOptions(statistics);
    const length = 24 + options.length;
    const start = this.#begin(Block.interfaceStatistics, length);
    this.#view.setUint32(start + 8, statistics.interfaceId, true);
    this.#view.setUint32(start + 12, Number(statistics.endNs >> 32n), true);
    this.#view.setUint32(start + 16, Number(statistics.endNs & 0xffff_ffffn), true);
    this.#buffer.set(options, start + 20);
    this.#end(start + 20 + options.length, length);
  }

  /** Number of packets written. */
  get packets(): number {
    return this.#packets;
  }

  /** What was written so far; only for a writer into memory. Valid until the next write. */
  bytes(): Uint8Array {
    if (this.#fd >= 0) throw new SluiceError('SLUICE_STATE', 'this capture goes to a file, not into memory');
    return this.#buffer.subarray(0, this.#used);
  }

  /** Takes out what was written into memory; it is the caller's. What comes goes on behind it. */
  take(): Uint8Array {
    const bytes = this.bytes().slice();
    this.#used = 0;
    return bytes;
  }

  /** Hands what is buffered to the file. */
  flush(): void {
    if (this.#fd < 0) return;
    let from = 0;
    try {
      while (from < this.#used) from += writeSync(this.#fd, this.#buffer, from, this.#used - from);
    } finally {
      // After an error the rest stays, so that a later flush goes on where this one stopped.
      this.#buffer.copyWithin(0, from, this.#used);
      this.#used -= from;
    }
  }

  /** Flushes; closes the file when the writer opened it. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.flush();
    } finally {
      if (this.#ownsFd) closeSync(this.#fd);
    }
  }

  #section(options: SectionOptions): void {
    const { hardware, os, userAppl = 'sluice' } = options;
    const bytes = encodeOptions([
      ...(hardware === undefined ? [] : [[Option.shbHardware, encodeText(hardware)] as const]),
      ...(os === undefined ? [] : [[Option.shbOs, encodeText(os)] as const]),
      [Option.shbUserAppl, encodeText(userAppl)],
    ]);
    const length = 28 + bytes.length;
    const start = this.#begin(Block.sectionHeader, length);
    this.#view.setUint32(start + 8, BYTE_ORDER_MAGIC, true);
    this.#view.setUint16(start + 12, 1, true);
    this.#view.setUint16(start + 14, 0, true);
    // Section length -1: not known, which is what a stream can say.
    this.#view.setInt32(start + 16, -1, true);
    this.#view.setInt32(start + 20, -1, true);
    this.#buffer.set(bytes, start + 24);
    this.#end(start + 24 + bytes.length, length);
  }

  /** Makes room for a block, writes its type and length, returns where it starts in the buffer. */
  #begin(type: Block, length: number): number {
    if (this.#closed) throw new SluiceError('SLUICE_STATE', 'the capture is closed');
    this.#reserve(length);
    const start = this.#used;
    this.#view.setUint32(start, type, true);
    this.#view.setUint32(start + 4, length, true);
    return start;
  }

  /** Closes the block with its length; nothing counts as written before this. */
  #end(at: number, length: number): void {
    this.#view.setUint32(at, length, true);
    this.#used = at + 4;
  }

  /** Zeroes the padding behind `length` bytes that end at `at`: the buffer holds remains of earlier blocks. */
  #pad(at: number, length: number): number {
    const end = at + padded(length) - length;
    this.#buffer.fill(0, at, end);
    return end;
  }

  #reserve(length: number): void {
    if (this.#used + length <= this.#buffer.length) return;
    this.flush();
    if (this.#used + length <= this.#buffer.length) return;
    const larger = new Uint8Array(Math.max(this.#buffer.length * 2, this.#used + length));
    larger.set(this.#buffer.subarray(0, this.#used));
    this.#buffer = larger;
    this.#view = new DataView(larger.buffer);
  }
}

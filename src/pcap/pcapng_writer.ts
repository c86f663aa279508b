import { closeSync, openSync, writeSync } from 'node:fs';
import { SluiceError } from '../errors.js';
import { Block, BYTE_ORDER_MAGIC, LINKTYPE_ETHERNET, Option, padded } from './format.js';

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

export interface PacketOptions {
  /** What `addInterface` returned. */
  interfaceId: number;
  /** Nanoseconds since the epoch, 0 to 2^64 - 1. */
  timestampNs: bigint;
  data: Uint8Array;
  /** Bytes on the wire, when the packet was cut; default: the length of `data`. */
  originalLength?: number;
  comment?: string;
  direction?: 'in' | 'out';
}

/** Writes reach the file in pieces of about this many bytes: large enough that the system call does not matter. */
const BUFFER_BYTES = 256 * 1024;
const MAX_OPTION_BYTES = 0xffff;
/** if_tsresol 9: timestamps count nanoseconds. */
const NANOSECONDS = 9;

const encoder = new TextEncoder();

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
    const name = encodeText(options.name);
    const description = encodeText(options.description);
    const length = 20 + optionSize(name) + optionSize(description) + 8 + 4;
    const start = this.#begin(Block.interfaceDescription, length);
    this.#view.setUint16(start + 8, LINKTYPE_ETHERNET, true);
    this.#view.setUint16(start + 10, 0, true);
    this.#view.setUint32(start + 12, options.snapLength ?? 0, true);
    let at = this.#option(start + 16, Option.ifName, name);
    at = this.#option(at, Option.ifDescription, description);
    at = this.#option(at, Option.ifTsResol, Uint8Array.of(NANOSECONDS));
    this.#end(this.#endOfOptions(at), length);
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
    const comment = encodeText(packet.comment);
    const flags = packet.direction === undefined ? 0 : 8;
    const options = optionSize(comment) + flags;
    const length = 32 + padded(data.length) + (options === 0 ? 0 : options + 4);
    const start = this.#begin(Block.enhancedPacket, length);
    const view = this.#view;
    view.setUint32(start + 8, interfaceId, true);
    view.setUint32(start + 12, Number(timestampNs >> 32n), true);
    view.setUint32(start + 16, Number(timestampNs & 0xffff_ffffn), true);
    view.setUint32(start + 20, data.length, true);
    view.setUint32(start + 24, packet.originalLength ?? data.length, true);
    this.#buffer.set(data, start + 28);
    let at = this.#pad(start + 28 + data.length, data.length);
    if (options !== 0) {
      at = this.#option(at, Option.comment, comment);
      if (flags !== 0) {
        view.setUint16(at, Option.epbFlags, true);
        view.setUint16(at + 2, 4, true);
        view.setUint32(at + 4, packet.direction === 'in' ? 1 : 2, true);
        at += 8;
      }
      at = this.#endOfOptions(at);
    }
    this.#end(at, length);
    this.#packets++;
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
    const hardware = encodeText(options.hardware);
    const os = encodeText(options.os);
    const userAppl = encodeText(options.userAppl ?? 'sluice');
    const length = 28 + optionSize(hardware) + optionSize(os) + optionSize(userAppl) + 4;
    const start = this.#begin(Block.sectionHeader, length);
    this.#view.setUint32(start + 8, BYTE_ORDER_MAGIC, true);
    this.#view.setUint16(start + 12, 1, true);
    this.#view.setUint16(start + 14, 0, true);
    // Section length -1: not known, which is what a stream can say.
    this.#view.setInt32(start + 16, -1, true);
    this.#view.setInt32(start + 20, -1, true);
    let at = this.#option(start + 24, Option.shbHardware, hardware);
    at = this.#option(at, Option.shbOs, os);
    at = this.#option(at, Option.shbUserAppl, userAppl);
    this.#end(this.#endOfOptions(at), length);
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

  #option(at: number, code: Option, value: Uint8Array | null): number {
    if (value === null) return at;
    this.#view.setUint16(at, code, true);
    this.#view.setUint16(at + 2, value.length, true);
    this.#buffer.set(value, at + 4);
    return this.#pad(at + 4 + value.length, value.length);
  }

  #endOfOptions(at: number): number {
    this.#view.setUint32(at, 0, true);
    return at + 4;
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

/** UTF-8 of an option's text, cut at a character's end to what the option's 16-bit length can say. */
function encodeText(text: string | undefined): Uint8Array | null {
  if (text === undefined) return null;
  const bytes = encoder.encode(text);
  if (bytes.length <= MAX_OPTION_BYTES) return bytes;
  let end = MAX_OPTION_BYTES;
  while ((bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

function optionSize(value: Uint8Array | null): number {
  return value === null ? 0 : 4 + padded(value.length);
}

import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { SluiceError } from '../errors.js';
import { ClassicReader, classicMagic } from './classic.js';
import { PCAP_MAGIC_MODIFIED, Source } from './format.js';
import type { CapturedPacket, CaptureInterface, FormatReader } from './packet_index.js';
import { isPcapng, PcapngReader } from './pcapng.js';
import type { InterfaceStatistics } from './pcapng_options.js';

export type { CapturedPacket, CaptureInterface } from './packet_index.js';

export interface ReadOptions {
  /**
   * true (default): a damaged file is refused as a whole. false: the whole packets before the damage can be had,
   * `damage` tells what is wrong, and iterating ends by throwing it.
   */
  strict?: boolean;
  /** What to call the file in errors; its path unless given. */
  name?: string;
}

/** A capture file in memory. Packets are views of it, made as they are asked for. */
export class Capture {
  readonly #reader: FormatReader;
  /** What stopped a lenient read, or null. */
  readonly damage: SluiceError | null;

  /** Use `readCapture`. */
  constructor(reader: FormatReader, damage: SluiceError | null) {
    this.#reader = reader;
    this.damage = damage;
  }

  /** What it is called in errors. */
  get name(): string {
    return this.#reader.source.name;
  }

  get format(): 'pcap' | 'pcapng' {
    return this.#reader.format;
  }

  get interfaces(): readonly CaptureInterface[] {
    return this.#reader.interfaces;
  }

  /** What the file says of its interfaces at the end. */
  get statistics(): readonly InterfaceStatistics[] {
    return this.#reader.statistics;
  }

  /** Number of whole packets. */
  get length(): number {
    return this.#reader.index.length;
  }

  /** The packet at a position; RangeError outside 0..length-1. */
  packet(index: number): CapturedPacket {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw new RangeError(`packet ${index} of a capture of ${this.length}`);
    }
    return this.#reader.packet(index);
  }

  /** All packets in file order. After the last whole one of a damaged file that was read leniently, throws `damage`. */
  get packets(): Iterable<CapturedPacket> {
    return this.#iterate();
  }

  [Symbol.iterator](): Iterator<CapturedPacket> {
    return this.#iterate();
  }

  *#iterate(): Generator<CapturedPacket> {
    for (let i = 0; i < this.length; i++) yield this.#reader.packet(i);
    if (this.damage) throw this.damage;
  }
}

/**
 * Reads a classic pcap or pcapng file, whichever it is, of Ethernet frames.
 *
 * Throws SLUICE_FORMAT naming file and byte offset for a file that is neither, of another link type, or damaged (see
 * `strict`), and SLUICE_USAGE for one that cannot be read.
 */
export function readCapture(input: string | Uint8Array, options: ReadOptions = {}): Capture {
  const name = options.name ?? (typeof input === 'string' ? input : '(memory)');
  const reader = readerFor(new Source(typeof input === 'string' ? readWhole(input) : input, name));
  try {
    reader.scan();
  } catch (error) {
    // Without an interface the header itself is bad: there is nothing before the damage.
    if (!(error instanceof SluiceError) || reader.interfaces.length === 0) throw error;
    if (options.strict !== false) throw remedied(error);
    return new Capture(reader, error);
  }
  return new Capture(reader, null);
}

/** The error, with what every command that reads captures offers against damage. */
function remedied(error: SluiceError): SluiceError {
  if (error.remedy !== '') return error;
  const remedy = 'The packets before the damage can be used: --no-strict.';
  return new SluiceError(error.code, error.message, remedy, { cause: error });
}

function readerFor(source: Source): FormatReader {
  if (isPcapng(source)) return new PcapngReader(source);
  const magic = classicMagic(source);
  if (magic) return new ClassicReader(source, magic);
  throw unknownFormat(source);
}

function unknownFormat(source: Source): SluiceError {
  if (source.length === 0) return source.error(0, 'the file is empty');
  const { bytes } = source;
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    return source.error(0, 'the file is compressed with gzip', 'Decompress it first: gunzip -k FILE');
  }
  if (bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd) {
    return source.error(0, 'the file is compressed with zstd', 'Decompress it first: zstd -d FILE');
  }
  const modified =
    source.length >= 4 &&
    (source.view.getUint32(0, true) === PCAP_MAGIC_MODIFIED || source.view.getUint32(0, false) === PCAP_MAGIC_MODIFIED);
  const what = modified
    ? 'the modified pcap format with longer packet headers is not read'
    : 'neither the magic of pcap nor that of pcapng';
  return source.error(0, what, 'Rewrite it as pcapng, for example: editcap -F pcapng OLD NEW');
}

/** Largest single read(2) that Node passes on. */
const READ_LIMIT = 0x4000_0000;

function readWhole(path: string): Uint8Array {
  try {
    const fd = openSync(path, 'r');
    try {
      const { size } = fstatSync(fd);
      // readFileSync also takes what has no size, such as a pipe, but stops at 2 GiB.
      return size < READ_LIMIT ? readFileSync(fd) : readLarge(fd, size);
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SluiceError('SLUICE_USAGE', `cannot read the capture ${path}: ${why}`, 'Check the path.', { cause });
  }
}

function readLarge(fd: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let filled = 0;
  while (filled < size) {
    const got = readSync(fd, bytes, filled, Math.min(READ_LIMIT, size - filled), filled);
    if (got === 0) break;
    filled += got;
  }
  return bytes.subarray(0, filled);
}

import { SluiceError } from '../../errors.js';
import type { FrameCounts } from '../../native.js';

export interface MemoryPoolOptions {
  frameCount: number;
  /** Bytes a chunk, a power of two. AF_XDP has 2048 and 4096; memory alone may also have less. */
  chunkSize: number;
  /** Memory to use, at least frameCount * chunkSize bytes; made here when absent. */
  memory?: ArrayBuffer;
}

/** A port that lives on a pool, as the pool and its sibling ports see it. */
export interface PoolMember {
  readonly name: string;
  readonly index: number;
  readonly counters: Float64Array;
  /** Adds the frames that it holds to `counts`. */
  hold(counts: FrameCounts): void;
  /** Takes a frame over for transmission, its packet being at `offset`; false, and nothing taken, when there is no room. */
  send(chunk: number, offset: number, length: number): boolean;
  /** Frees what it sent earlier, as a driver's completions do. */
  complete(): void;
}

/** Smallest chunk that holds a headroom worth the name and a packet. */
const MIN_CHUNK = 128;

/** Offsets have to stay small integers, as with AF_XDP's memory. */
const MAX_BYTES = 0x7fff_ffff;

/**
 * Packet memory without a kernel: chunks, a free list, and the ports that share them. It stands where a UMEM does for
 * AF_XDP ports. A chunk is named by the byte offset of its start.
 */
export class MemoryPool {
  readonly memory: ArrayBuffer;
  readonly frameCount: number;
  readonly chunkSize: number;
  /** By port number, holes where there is none. */
  readonly members: (PoolMember | undefined)[] = [];
  readonly #bytes: Uint8Array;
  /** Stack of free chunks: the one freed last is taken first, being the warmest in cache. */
  readonly #free: Int32Array;
  #freeCount: number;
  /** 1 for each chunk on the free list, so that giving one back twice is noticed at once. */
  readonly #isFree: Uint8Array;

  constructor(options: MemoryPoolOptions) {
    const { frameCount, chunkSize } = options;
    if (!Number.isInteger(frameCount) || frameCount < 1) {
      throw new RangeError(`frameCount ${frameCount}: a pool has at least one frame`);
    }
    if (!Number.isInteger(chunkSize) || chunkSize < MIN_CHUNK || (chunkSize & (chunkSize - 1)) !== 0) {
      throw new RangeError(`chunkSize ${chunkSize} is not a power of two of at least ${MIN_CHUNK}`);
    }
    const bytes = frameCount * chunkSize;
    if (bytes > MAX_BYTES) throw new RangeError(`${frameCount} frames of ${chunkSize} bytes are more than 2 GiB`);
    if (options.memory !== undefined && options.memory.byteLength < bytes) {
      throw new RangeError(`${options.memory.byteLength} bytes of memory for ${bytes} bytes of frames`);
    }
    this.memory = options.memory ?? new ArrayBuffer(bytes);
    this.frameCount = frameCount;
    this.chunkSize = chunkSize;
    this.#bytes = new Uint8Array(this.memory, 0, bytes);
    this.#free = new Int32Array(frameCount);
    this.#isFree = new Uint8Array(frameCount).fill(1);
    this.#freeCount = frameCount;
    // Lowest address on top.
    for (let i = 0; i < frameCount; i++) this.#free[i] = (frameCount - 1 - i) * chunkSize;
  }

  /** Takes a free chunk; -1 when there is none. */
  take(): number {
    if (this.#freeCount === 0) return -1;
    const chunk = this.#free[--this.#freeCount];
    this.#isFree[chunk / this.chunkSize] = 0;
    return chunk;
  }

  /** Gives a chunk back. SLUICE_STATE for one that is free already, or is none: a port has lost count of its frames. */
  give(chunk: number): void {
    const number = chunk / this.chunkSize;
    if (this.#isFree[number] !== 0) {
      throw new SluiceError('SLUICE_STATE', `frame ${number} of ${this.frameCount} was given back and is not in use`);
    }
    this.#isFree[number] = 1;
    this.#free[this.#freeCount++] = chunk;
  }

  /** Frames by owner. `free` comes from the pool, the rest from the ports' own books, so that the sum is a real check. */
  counts(): FrameCounts {
    const counts = { free: this.#freeCount, fill: 0, rx: 0, tx: 0, held: 0, total: this.frameCount };
    for (const member of this.members) member?.hold(counts);
    return counts;
  }

  /** The packet's bytes in the pool, not a copy: valid until its frame is used again. */
  bytes(offset: number, length: number): Uint8Array {
    return this.#bytes.subarray(offset, offset + length);
  }

  /** Copies a packet into memory. */
  write(offset: number, data: Uint8Array): void {
    this.#bytes.set(data, offset);
  }

  /** Adds a port under its number; SLUICE_STATE when the number is taken. */
  join(member: PoolMember): void {
    const there = this.members[member.index];
    if (there !== undefined) {
      throw new SluiceError('SLUICE_STATE', `port number ${member.index} of this pool is taken by ${there.name}`);
    }
    this.members[member.index] = member;
  }

  leave(member: PoolMember): void {
    if (this.members[member.index] === member) this.members[member.index] = undefined;
  }
}

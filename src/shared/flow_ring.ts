/**
 * What a worker and the main thread say to each other about flows in the kernel: a ring each way in shared memory. One writes, one reads; neither
 * waits. A record that finds no room is not written: an offer comes again, and a flow that nobody speaks of only looks idle for a little longer.
 */

/** Words of a record. */
export const enum FlowRecord {
  STRIDE = 16,
  STRIDE_SHIFT = 4,
  /** FlowSaying << 16 | family << 8 | protocol. */
  what = 0,
  src0 = 1,
  src1 = 2,
  src2 = 3,
  src3 = 4,
  dst0 = 5,
  dst1 = 6,
  dst2 = 7,
  dst3 = 8,
  /** Source << 16 | destination. */
  ports = 9,
  /** Of an offer: number and incarnation of the backend. */
  backend = 10,
  incarnation = 11,
  /** Of an offer: UDP source port outside << 16 | number of the port that the flow comes in by. */
  sportAndPort = 12,
  /** Of an offer: IPv6 flow label outside. */
  label = 13,
  /** Of `seen`: when, wrapping ms. */
  seenMs = 14,
  /** Of an offer: host bits of the last word of the source outside. */
  host = 15,
}

export const enum FlowSaying {
  /** From a worker: the rest of this flow may go this way. */
  offer = 1,
  /** From a worker: it ended, or may go elsewhere. */
  ended = 2,
  /** To a worker: a packet of it was seen. */
  seen = 3,
}

/** Words in front of the records: how many were written, found no room though the reader must know, and were read; all free-running. */
const enum Header {
  written = 0,
  lost = 1,
  read = 16,
  WORDS = 32,
}

export class FlowRing {
  /** A record at a time: `put` writes it, `take` fills it. */
  readonly record = new Int32Array(FlowRecord.STRIDE);
  private readonly words: Int32Array;
  private readonly mask: number;

  /** `memory`: of flowRingMemory(). */
  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
    this.mask = ((this.words.length - Header.WORDS) >> FlowRecord.STRIDE_SHIFT) - 1;
  }

  /** Writes `record`; false when there is no room. */
  put(): boolean {
    const { words, record } = this;
    const written = words[Header.written];
    if (((written - Atomics.load(words, Header.read)) | 0) > this.mask) return false;
    const at = Header.WORDS + ((written & this.mask) << FlowRecord.STRIDE_SHIFT);
    for (let i = 0; i < FlowRecord.STRIDE; i++) words[at + i] = record[i];
    Atomics.store(words, Header.written, (written + 1) | 0);
    return true;
  }

  /** Writes `record`; where there is no room, `lost` counts up. */
  putOrSay(): void {
    if (!this.put()) Atomics.add(this.words, Header.lost, 1);
  }

  /** Records of putOrSay() that found no room. */
  get lost(): number {
    return Atomics.load(this.words, Header.lost);
  }

  /** Reads the next one into `record`; false when there is none. */
  take(): boolean {
    const { words, record } = this;
    const read = words[Header.read];
    if (read === Atomics.load(words, Header.written)) return false;
    const at = Header.WORDS + ((read & this.mask) << FlowRecord.STRIDE_SHIFT);
    for (let i = 0; i < FlowRecord.STRIDE; i++) record[i] = words[at + i];
    Atomics.store(words, Header.read, (read + 1) | 0);
    return true;
  }
}

/** Memory of a ring with room for so many records, a power of two. */
export function flowRingMemory(records: number): SharedArrayBuffer {
  return new SharedArrayBuffer((Header.WORDS + records * FlowRecord.STRIDE) * Int32Array.BYTES_PER_ELEMENT);
}

/** The two rings of a worker. */
export interface FlowRings {
  fromWorker: SharedArrayBuffer;
  toWorker: SharedArrayBuffer;
}

/**
 * How a worker hands captured frames to the control plane: a ring of records in shared memory with one writer and one reader, neither of which ever waits
 * for the other. When the ring is full a frame is not captured and counts as lost.
 *
 * The worker publishes `head` once a burst; the reader gives `tail` back once a visit. A record lies in one piece: one that would reach over the end of
 * the ring starts at its beginning, behind a record of kind `skip` that fills the rest.
 */

/** Bytes of a worker's ring: some 1,300 whole frames of 1,500 bytes. */
export const CAPTURE_RING_BYTES = 2 << 20;

/** Captures that may run at a time. */
export const MAX_CAPTURES = 8;

/** Ports that have counters of their own; layout.ts has the same limit. */
const MAX_PORTS = 16;

/** Words of a record, before the frame's bytes. */
export const enum CaptureRecord {
  /** Words of the record, padding included. */
  words = 0,
  /** RecordKind. */
  kind = 1,
  /** Bit by capture number: who wants it. */
  captures = 2,
  verdict = 3,
  /** DropReason, 0 when it was not dropped. */
  reason = 4,
  /** Rule that matched last, −1: none. */
  rule = 5,
  /** Service, −1: none. */
  service = 6,
  /** Backend that it was sent to, or was to be; −1: none. */
  backend = 7,
  /** Port that the frame came in on (RecordKind.in) or leaves by (RecordKind.out). */
  port = 8,
  /** Bytes on the wire. */
  wireLength = 9,
  /** Bytes that follow. */
  length = 10,
  /** Number of the packet in its worker, wrapping: the same for what came in and what left. */
  packet = 11,
  /** Wall clock when its burst was taken: Unix time, uint32 seconds, and ns. */
  seconds = 12,
  nanoseconds = 13,
  /** Most bytes that its rule's sampler keeps. 0: no such limit. */
  sampled = 14,
  SIZE = 16,
}

export const enum RecordKind {
  skip = 0,
  in = 1,
  out = 2,
}

/** Counters by capture and port, float64. `seen` counts packets, the others frames. */
export const enum CaptureCounter {
  /** Packets that came in on the port while the capture ran. */
  seen = 0,
  /** Met all conditions. */
  accepted = 1,
  /** Met all conditions, and there was no room in the ring. */
  lost = 2,
  /** Met all conditions but the rate. */
  limited = 3,
  SIZE = 4,
}

const enum Header {
  /** Words written, free running. This and what follows are the worker's. */
  head = 0,
  /** The last command of the control plane that it has carried out. */
  version = 1,
  /** By capture number: serial of the capture that its counters are about. */
  serials = 2,
  /** Words read, free running, on a cache line of its own. The reader's. */
  tail = 16,
  /** Where the counters start, in words. */
  counters = 32,
}

const COUNTERS = MAX_CAPTURES * MAX_PORTS * CaptureCounter.SIZE;
const DATA = Header.counters + COUNTERS * 2;

/** Memory for a ring that takes `bytes` of records, a power of two. */
export function makeCaptureRing(bytes: number = CAPTURE_RING_BYTES): SharedArrayBuffer {
  return new SharedArrayBuffer(DATA * 4 + bytes);
}

/** What both ends know. */
class CaptureRing {
  readonly words: Int32Array;
  readonly counters: Float64Array;
  /** Words that records take together, a power of two. */
  protected readonly size: number;

  constructor(readonly memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
    this.counters = new Float64Array(memory, Header.counters * 4, COUNTERS);
    this.size = (this.words.length - DATA) | 0;
    if (this.size <= 0 || (this.size & (this.size - 1)) !== 0) throw new RangeError(`a ring of ${this.size} words`);
  }
}

/** Index of a counter in `counters`. */
export function captureCounter(capture: number, port: number, counter: CaptureCounter): number {
  return ((((capture << 4) + port) << 2) + counter) | 0;
}

/** The worker's end. */
export class CaptureRingWriter extends CaptureRing {
  private head: number;
  private tail: number;

  constructor(memory: SharedArrayBuffer) {
    super(memory);
    this.head = Atomics.load(this.words, Header.head);
    this.tail = Atomics.load(this.words, Header.tail);
  }

  /** Room for a record with `length` bytes of frame: index in `words` where it is to be written; −1: there is none. */
  reserve(length: number): number {
    // Even, so that there are two words for what skips the rest of the ring.
    const need = (CaptureRecord.SIZE + ((((length + 3) >> 2) + 1) & -2)) | 0;
    const position = this.head & (this.size - 1);
    const rest = (this.size - position) | 0;
    const skip = need <= rest ? 0 : rest;
    const total = (need + skip) | 0;
    if (total > ((this.size - ((this.head - this.tail) | 0)) | 0)) {
      this.tail = Atomics.load(this.words, Header.tail);
      if (total > ((this.size - ((this.head - this.tail) | 0)) | 0)) return -1;
    }
    const words = this.words;
    if (skip !== 0) {
      words[DATA + position + CaptureRecord.words] = skip;
      words[DATA + position + CaptureRecord.kind] = RecordKind.skip;
    }
    const at = (DATA + ((this.head + skip) & (this.size - 1))) | 0;
    words[at + CaptureRecord.words] = need;
    this.head = (this.head + total) | 0;
    return at;
  }

  /** Lets the reader see what was written. */
  publish(): void {
    Atomics.store(this.words, Header.head, this.head);
  }

  /** Counters of a capture from 0. */
  begin(capture: number, serial: number): void {
    const first = captureCounter(capture, 0, 0);
    this.counters.fill(0, first, first + MAX_PORTS * CaptureCounter.SIZE);
    Atomics.store(this.words, Header.serials + capture, serial);
  }

  /** Says that a command was carried out: what it ended has published its last record. */
  carriedOut(version: number): void {
    Atomics.store(this.words, Header.version, version);
  }
}

/** The control plane's end. */
export class CaptureRingReader extends CaptureRing {
  readonly bytes: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    super(memory);
    this.bytes = new Uint8Array(memory);
  }

  /**
   * Visits up to `most` records, oldest first, and gives their room back. `visit` gets the index in `words` of a record, whose bytes start at
   * `(at + CaptureRecord.SIZE) * 4` in `bytes`; both are valid during the call only. Returns how many it visited.
   */
  read(most: number, visit: (at: number) => void): number {
    const { words } = this;
    const head = Atomics.load(words, Header.head);
    let tail = Atomics.load(words, Header.tail);
    let visited = 0;
    try {
      while (tail !== head && visited < most) {
        const at = (DATA + (tail & (this.size - 1))) | 0;
        tail = (tail + words[at + CaptureRecord.words]) | 0;
        if (words[at + CaptureRecord.kind] === RecordKind.skip) continue;
        visited++;
        visit(at);
      }
    } finally {
      Atomics.store(words, Header.tail, tail);
    }
    return visited;
  }

  /** A counter of a capture; 0 before the worker knows of it. */
  count(capture: number, serial: number, port: number, counter: CaptureCounter): number {
    if (Atomics.load(this.words, Header.serials + capture) !== serial) return 0;
    return this.counters[captureCounter(capture, port, counter)];
  }

  /** Version of the last command that the worker has carried out. */
  get version(): number {
    return Atomics.load(this.words, Header.version);
  }
}

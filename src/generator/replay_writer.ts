import type { Replay } from './load.js';
import type { Writer } from './writer.js';

/** Bytes of a frame from which on a view of it is worth its making. */
const LONG = 256;

/** Writes the frames of a replay into packet memory, one after the other, and then again. */
export class ReplayWriter implements Writer {
  readonly written: Float64Array;
  private readonly bytes: Uint8Array;
  /** By length of a frame: its position among the sizes. */
  private readonly sizeOf: Int32Array;
  private next = 0;
  private begin = 0;

  constructor(
    private readonly replay: Replay,
    memory: ArrayBuffer,
  ) {
    this.bytes = new Uint8Array(memory);
    this.written = new Float64Array(replay.sizes.length);
    this.sizeOf = new Int32Array(Math.max(...replay.sizes.map(({ bytes }) => bytes)) + 1);
    replay.sizes.forEach(({ bytes }, i) => (this.sizeOf[bytes] = i));
  }

  write(offset: number): number {
    const { frames, ends } = this.replay;
    const end = ends[this.next];
    const length = end - this.begin;
    if (length > LONG) this.bytes.set(frames.subarray(this.begin, end), offset);
    else for (let i = 0; i < length; i++) this.bytes[offset + i] = frames[this.begin + i];
    this.begin = end;
    if (++this.next === ends.length) this.next = this.begin = 0;
    this.written[this.sizeOf[length]]++;
    return length;
  }

  /** Each frame is written whole anyway. */
  forget(): void {}
}

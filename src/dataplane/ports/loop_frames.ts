import type { Burst } from '../port.js';
import { Verdict } from '../verdict.js';

/** A frame shorter than an Ethernet header cannot be sent. */
export const MIN_FRAME = 14;

/** Words of a packet that the first loop writes; a smallest frame whole. */
export const FILL_WORDS = 16;

/** The frames of a loop port, as its loops see them. */
export interface LoopFrames {
  memory: ArrayBuffer;
  chunkSize: number;
  /** Bytes from the start of a chunk to the packet. */
  headroom: number;
  /** Byte offset of the packet in each of the port's chunks. */
  places: Int32Array;
  /** `stride` words for each packet: its length, then its first bytes in groups of four words, one at least. */
  records: Int32Array;
  stride: number;
  burst: Burst;
}

/**
 * Puts a whole burst in hand, from this word of `records` and this position in `places` on, with the first FILL_WORDS words of
 * each packet, or all that its record has. Returns the bytes of all. A packet's words are written together, while its cache lines are at hand.
 *
 * The loops here are closures over arrays that stay, as those of the short way, and have no loops within: V8 then knows where each array lies
 * and how long it is.
 */
export type Fill = (record: number, chunk: number) => number;

export function makeFill({ memory, places, records, stride, burst }: LoopFrames): Fill {
  const { offset, length, verdict } = burst;
  const memoryWords = new Int32Array(memory, 0, memory.byteLength >> 2);
  const slots = offset.length;
  const end = records.length;
  const chunks = places.length;
  return (record, chunk) => {
    let bytes = 0;
    for (let i = 0; i < slots; i++) {
      const start = places[chunk];
      const size = records[record];
      offset[i] = start;
      length[i] = size;
      verdict[i] = Verdict.Drop;
      bytes = (bytes + size) | 0;
      const to = start >> 2;
      memoryWords[to] = records[(record + 1) | 0];
      memoryWords[(to + 1) | 0] = records[(record + 2) | 0];
      memoryWords[(to + 2) | 0] = records[(record + 3) | 0];
      memoryWords[(to + 3) | 0] = records[(record + 4) | 0];
      if (stride > 5) {
        memoryWords[(to + 4) | 0] = records[(record + 5) | 0];
        memoryWords[(to + 5) | 0] = records[(record + 6) | 0];
        memoryWords[(to + 6) | 0] = records[(record + 7) | 0];
        memoryWords[(to + 7) | 0] = records[(record + 8) | 0];
      }
      if (stride > 9) {
        memoryWords[(to + 8) | 0] = records[(record + 9) | 0];
        memoryWords[(to + 9) | 0] = records[(record + 10) | 0];
        memoryWords[(to + 10) | 0] = records[(record + 11) | 0];
        memoryWords[(to + 11) | 0] = records[(record + 12) | 0];
      }
      if (stride > 13) {
        memoryWords[(to + 12) | 0] = records[(record + 13) | 0];
        memoryWords[(to + 13) | 0] = records[(record + 14) | 0];
        memoryWords[(to + 14) | 0] = records[(record + 15) | 0];
        memoryWords[(to + 15) | 0] = records[(record + 16) | 0];
      }
      record = (record + stride) | 0;
      if (record === end) record = 0;
      chunk = (chunk + 1) | 0;
      if (chunk === chunks) chunk = 0;
    }
    return bytes;
  };
}

/** Writes four more words of each packet, from this word of its record on, behind its length. */
export type FillOn = (record: number, chunk: number, word: number) => void;

export function makeFillOn({ memory, places, records, stride, burst }: LoopFrames): FillOn {
  const memoryWords = new Int32Array(memory, 0, memory.byteLength >> 2);
  const slots = burst.offset.length;
  const end = records.length;
  const chunks = places.length;
  return (record, chunk, word) => {
    for (let i = 0; i < slots; i++) {
      const to = ((places[chunk] >> 2) + word - 1) | 0;
      const from = (record + word) | 0;
      memoryWords[to] = records[from];
      memoryWords[(to + 1) | 0] = records[(from + 1) | 0];
      memoryWords[(to + 2) | 0] = records[(from + 2) | 0];
      memoryWords[(to + 3) | 0] = records[(from + 3) | 0];
      record = (record + stride) | 0;
      if (record === end) record = 0;
      chunk = (chunk + 1) | 0;
      if (chunk === chunks) chunk = 0;
    }
  };
}

/** What became of a burst. Others: not sent by its own port, and not dropped. */
export interface Settled {
  sent: number;
  sentBytes: number;
  dropped: number;
  others: number;
}

/** Counts the first `count` packets of the burst by their verdicts; the first of them is at this position in `places`. */
export type Count = (chunk: number, count: number) => Settled;

/** `index`: number of the port. The object that it returns is always the same. */
export function makeCount({ chunkSize, headroom, places, burst }: LoopFrames, index: number): Count {
  const { offset, length, verdict, target } = burst;
  const chunks = places.length;
  const settled: Settled = { sent: 0, sentBytes: 0, dropped: 0, others: 0 };
  return (chunk, count) => {
    let sent = 0;
    let sentBytes = 0;
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      const chunkStart = (places[chunk] - headroom) | 0;
      chunk = (chunk + 1) | 0;
      if (chunk === chunks) chunk = 0;
      const decision = verdict[i];
      if (decision === Verdict.Tx || (decision === Verdict.Redirect && target[i] === index)) {
        const bytes = length[i];
        const within = (offset[i] - chunkStart) | 0;
        if (within < 0 || bytes < MIN_FRAME || bytes > ((chunkSize - within) | 0)) continue;
        sent++;
        sentBytes = (sentBytes + bytes) | 0;
      } else if (decision < Verdict.Pass || decision > Verdict.Redirect) {
        dropped++;
      }
    }
    settled.sent = sent;
    settled.sentBytes = sentBytes;
    settled.dropped = dropped;
    settled.others = (count - sent - dropped) | 0;
    return settled;
  };
}

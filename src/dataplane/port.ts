import type { FrameCounts } from '../native.js';
import { PortCounter } from '../shared/layout.js';

/**
 * The packets in hand, as a structure of arrays that the port and the policy both see. A burst is valid until the next
 * `exchange()`. Its arrays never move, so hold them in locals.
 */
export interface Burst {
  /** [0] packets in hand, [1] monotonic ms (wrapping int32) when the burst was taken, [2] last socket-wide send errno, [3] packets resumed. */
  readonly header: Int32Array;
  /** Byte offset in the port's memory of each packet's first byte. */
  readonly offset: Int32Array;
  /** Bytes of each packet. */
  readonly length: Int32Array;
  /** What to do with each packet, a Verdict. The port has set all to Drop. */
  readonly verdict: Int32Array;
  /** For Redirect: number of the port to leave by. */
  readonly target: Int32Array;
}

export const enum BurstHeader {
  count = 0,
  nowMs = 1,
  sendErrno = 2,
  /** How many packets of the burst, its first, were held before and resumed: they were counted when they were received. */
  resumed = 3,
}

/**
 * Where packets come from and go to. Three kinds are interchangeable: AF_XDP (`ports/xsk.ts`), memory
 * (`ports/memory.ts`, for tests and benches) and capture files (`ports/pcap.ts`, for replay).
 *
 * Frames are conserved: each chunk of `memory` has one owner at any time, and `counts()` adds up.
 */
export interface Port {
  readonly name: string;
  /** Position among the ports of its worker: what Redirect names. */
  readonly index: number;
  readonly ifindex: number;
  readonly queue: number;
  /** Packet memory, shared by all ports of a worker. */
  readonly memory: ArrayBuffer;
  readonly chunkSize: number;
  readonly burst: Burst;
  /** Running totals by PortCounter. */
  readonly counters: Float64Array;
  /**
   * Settles the burst in hand by its verdicts, then takes the next. Returns its number of packets, 0 when there is
   * nothing now. Never blocks.
   */
  exchange(): number;
  /**
   * Takes a packet that was settled as Hold back into hand: it is among the first of this port's next burst, in the order of
   * the calls, at `offset`, of `length` bytes, which may be another place within its chunk. Held are also packets in hand whose
   * verdict is Hold. False, and nothing changed, when this port does not hold that frame.
   */
  resume(offset: number, length: number): boolean;
  /** Frees the held frame that `offset` lies in; it counts as dropped. False when this port does not hold that frame. */
  release(offset: number): boolean;
  counts(): FrameCounts;
  /** Copies the kernel's own statistics and the frame gauges into `counters`; cheap, but a system call: not per burst. */
  refreshCounters(): void;
  close(): void;
}

/** The part of `refreshCounters` that all ports share: the gauges of frames by owner. */
export function writeFrameGauges(counters: Float64Array, frames: FrameCounts): void {
  counters[PortCounter.framesFree] = frames.free;
  counters[PortCounter.framesFill] = frames.fill;
  counters[PortCounter.framesRx] = frames.rx;
  counters[PortCounter.framesTx] = frames.tx;
  counters[PortCounter.framesTotal] = frames.total;
  counters[PortCounter.framesHeld] = frames.held;
}

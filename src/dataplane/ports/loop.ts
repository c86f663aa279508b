import { SluiceError } from '../../errors.js';
import type { FrameCounts } from '../../native.js';
import { PortCounter } from '../../shared/layout.js';
import { BurstHeader, writeFrameGauges, type Burst, type Port } from '../port.js';
import { Verdict } from '../verdict.js';
import {
  makeCount,
  makeFill,
  makeFillOn,
  FILL_WORDS,
  MIN_FRAME,
  type Count,
  type Fill,
  type FillOn,
} from './loop_frames.js';
import type { MemoryPool, PoolMember } from './memory_pool.js';

export interface LoopPortOptions {
  /** Packets to receive, in this order, again and again. All are kept; at least one. */
  frames: readonly Uint8Array[];
  /**
   * Frames of the pool to use, at most as many as there are packets; default: as many as there are packets and free
   * frames. With fewer frames than packets, each packet is written whole when its turn comes.
   */
  chunks?: number;
  /**
   * Bytes at the start of each packet that the policy may overwrite, and that are therefore written anew each time it
   * is received; rounded up to a multiple of 16. Default 16, which covers the Ethernet header that encapsulation overwrites with
   * the end of the outer header; VLAN tags need 32, a policy that changes addresses or ports 48. Without effect when
   * packets are written whole.
   */
  restoreBytes?: number;
  index?: number;
  name?: string;
  burst?: number;
  headroom?: number;
  ifindex?: number;
  queue?: number;
  clock?: () => number;
}

/** Encapsulation in front of the packet leaves the IP header alone, and with it these bytes of an untagged frame. */
const DEFAULT_RESTORE = 16;

/**
 * A port for benches: "receives" a prepared set of packets again and again, without copying and without allocating. What is
 * sent, passed or dropped is only counted, and its frame is ready again at once.
 *
 * Encapsulation writes its header in front of the inner IP header, over the Ethernet header: a frame comes back with its
 * first 14 bytes spoilt and everything behind them as it was. So each reception writes the first `restoreBytes` bytes
 * again, from a template, as int32 words.
 *
 * `exchange()` is not free: 6 ns a packet that is sent, and 10-12 ns where 64-byte packets are written whole (Node 20, a shared
 * 2-core EPYC, best of 40). A bench measures `exchange()` alone and subtracts it.
 *
 * It holds no packet: Hold is settled as Drop, and nothing can be resumed.
 *
 * More flows than memory has frames: give as many packets and fewer `chunks`. Every reception then writes a whole packet, as a
 * device would.
 */
export class LoopPort implements Port, PoolMember {
  readonly name: string;
  readonly index: number;
  readonly ifindex: number;
  readonly queue: number;
  readonly memory: ArrayBuffer;
  readonly chunkSize: number;
  readonly burst: Burst;
  readonly counters = new Float64Array(PortCounter.SIZE);
  /** Set it to collect copies of what is sent or redirected, for verification: null, the default, costs nothing. */
  capture: Uint8Array[] | null = null;
  private readonly pool: MemoryPool;
  private readonly members: readonly (PoolMember | undefined)[];
  private readonly clock: () => number;
  private readonly fill: Fill;
  private readonly fillOn: FillOn;
  private readonly count: Count;
  private readonly headroom: number;
  /** Byte offset of the packet in each of its chunks. */
  private readonly places: Int32Array;
  /** `stride` words for each packet: its length, then its first bytes in groups of four words. */
  private readonly records: Int32Array;
  private readonly stride: number;
  private readonly slots: number;
  private nextRecord = 0;
  private nextChunk = 0;
  /** Position in `places` of the first packet in hand; the others follow. */
  private firstChunk = 0;
  private inHand = 0;
  private closed = false;

  constructor(pool: MemoryPool, options: LoopPortOptions) {
    const { frames, index = 0, burst = 64, headroom = 256, restoreBytes = DEFAULT_RESTORE } = options;
    if (frames.length === 0) throw new RangeError('a loop port needs at least one packet');
    if (headroom % 4 !== 0) throw new RangeError(`headroom ${headroom} is no multiple of 4`);
    const chunks = options.chunks ?? Math.min(frames.length, pool.counts().free);
    if (chunks < burst || chunks > frames.length) {
      throw new RangeError(`${chunks} frames for ${frames.length} packets in bursts of ${burst}`);
    }
    this.pool = pool;
    this.members = pool.members;
    this.index = index;
    this.name = options.name ?? `loop${index}`;
    this.ifindex = options.ifindex ?? index + 1;
    this.queue = options.queue ?? 0;
    this.memory = pool.memory;
    this.chunkSize = pool.chunkSize;
    this.clock = options.clock ?? (() => performance.now());
    this.slots = burst;
    this.burst = {
      header: new Int32Array(4),
      offset: new Int32Array(burst),
      length: new Int32Array(burst),
      verdict: new Int32Array(burst),
      target: new Int32Array(burst),
    };
    this.headroom = headroom;
    const free = pool.counts().free;
    if (chunks > free) throw new RangeError(`${chunks} frames asked for, and the pool has ${free}`);
    const longest = frames.reduce((most, frame) => Math.max(most, frame.length), 0);
    if (longest > pool.chunkSize - headroom) throw new RangeError(`a packet of ${longest} bytes does not fit a frame`);
    const restored = chunks < frames.length ? longest : restoreBytes;
    const template = Math.max(16, Math.ceil(restored / 16) * 16);
    if (restored < 0 || template > pool.chunkSize - headroom) {
      throw new RangeError(`${restored} bytes to restore do not fit a frame`);
    }
    this.places = new Int32Array(chunks);
    pool.join(this);
    for (let i = 0; i < chunks; i++) {
      this.places[i] = pool.take() + headroom;
      pool.write(this.places[i], frames[i]);
    }
    this.stride = 1 + template / 4;
    this.records = new Int32Array(frames.length * this.stride);
    const bytes = new Uint8Array(this.records.buffer);
    for (let i = 0; i < frames.length; i++) {
      this.records[i * this.stride] = frames[i].length;
      bytes.set(frames[i].subarray(0, template), (i * this.stride + 1) * 4);
    }
    const { memory, chunkSize, places, records, stride } = this;
    const loopFrames = { memory, chunkSize, headroom, places, records, stride, burst: this.burst };
    this.fill = makeFill(loopFrames);
    this.fillOn = makeFillOn(loopFrames);
    this.count = makeCount(loopFrames, index);
  }

  exchange(): number {
    if (this.closed) throw new SluiceError('SLUICE_STATE', `port ${this.name} is closed`);
    this.settle();
    this.receive();
    this.burst.header[BurstHeader.nowMs] = this.clock();
    return this.inHand;
  }

  private receive(): void {
    const { records, places, slots, stride, nextRecord, nextChunk } = this;
    this.firstChunk = nextChunk;
    const bytes = this.fill(nextRecord, nextChunk);
    for (let word = 1 + FILL_WORDS; word < stride; word += 4) this.fillOn(nextRecord, nextChunk, word);
    this.nextRecord = (nextRecord + slots * stride) % records.length;
    this.nextChunk = (nextChunk + slots) % places.length;
    this.inHand = slots;
    this.burst.header[BurstHeader.count] = slots;
    this.counters[PortCounter.rxPackets] += slots;
    this.counters[PortCounter.rxBytes] += bytes;
  }

  private settle(): void {
    const { counters, inHand, index } = this;
    const { length, verdict, target } = this.burst;
    if (this.capture !== null) this.collect(this.capture);
    const settled = this.count(this.firstChunk, inHand);
    counters[PortCounter.txPackets] += settled.sent;
    counters[PortCounter.txBytes] += settled.sentBytes;
    counters[PortCounter.completions] += settled.sent;
    counters[PortCounter.dropped] += settled.dropped;
    // What is neither sent by this port nor dropped.
    for (let i = 0; settled.others > 0 && i < inHand; i++) {
      const decision = verdict[i];
      if (decision < Verdict.Pass || decision > Verdict.Redirect) continue;
      const valid = this.inside(i);
      if (decision === Verdict.Pass) counters[valid ? PortCounter.passPackets : PortCounter.passLost]++;
      else if (!valid) counters[PortCounter.txInvalid]++;
      else if (decision !== Verdict.Tx && target[i] !== index) this.redirect(target[i], length[i]);
    }
    this.inHand = 0;
  }

  private redirect(target: number, bytes: number): void {
    const out = this.members[target];
    if (out === undefined) {
      this.counters[PortCounter.txInvalid]++;
      return;
    }
    out.counters[PortCounter.txPackets]++;
    out.counters[PortCounter.txBytes] += bytes;
    out.counters[PortCounter.completions]++;
  }

  private collect(into: Uint8Array[]): void {
    const { offset, length, verdict } = this.burst;
    for (let i = 0; i < this.inHand; i++) {
      const leaves = verdict[i] === Verdict.Tx || verdict[i] === Verdict.Redirect;
      if (leaves && this.inside(i)) into.push(this.pool.bytes(offset[i], length[i]).slice());
    }
  }

  /** As the test in `settle`. */
  private inside(slot: number): boolean {
    const chunk = (this.firstChunk + slot) % this.places.length;
    const within = this.burst.offset[slot] - this.places[chunk] + this.headroom;
    const bytes = this.burst.length[slot];
    return within >= 0 && bytes >= MIN_FRAME && bytes <= this.chunkSize - within;
  }

  /** Never: its frames come round again, so it holds none. */
  resume(): boolean {
    return false;
  }

  release(): boolean {
    return false;
  }

  counts(): FrameCounts {
    return this.pool.counts();
  }

  /** Prepared frames count as in the fill ring: ready to be received into. */
  hold(counts: FrameCounts): void {
    if (this.closed) return;
    counts.rx += this.inHand;
    counts.fill += this.places.length - this.inHand;
  }

  /** Sent and completed at once, so that it never runs full. */
  send(chunk: number, _offset: number, length: number): boolean {
    this.counters[PortCounter.txPackets]++;
    this.counters[PortCounter.txBytes] += length;
    this.counters[PortCounter.completions]++;
    this.pool.give(chunk);
    return true;
  }

  /** Nothing is ever under way. */
  complete(): void {}

  refreshCounters(): void {
    writeFrameGauges(this.counters, this.pool.counts());
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.inHand = 0;
    this.burst.header[BurstHeader.count] = 0;
    for (let i = 0; i < this.places.length; i++) this.pool.give(this.places[i] - this.headroom);
    this.pool.leave(this);
  }
}

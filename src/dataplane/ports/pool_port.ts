import { SluiceError } from '../../errors.js';
import type { FrameCounts } from '../../native.js';
import { MAX_PORTS, PortCounter } from '../../shared/layout.js';
import { BurstHeader, writeFrameGauges, type Burst, type Port } from '../port.js';
import { Verdict } from '../verdict.js';
import type { MemoryPool, PoolMember } from './memory_pool.js';

export interface PoolPortOptions {
  /** Port number, 0-15: what Redirect names. Default 0. */
  index?: number;
  /** Default "mem" and the index. */
  name?: string;
  /** Largest burst, 1-1024 packets; default 64. */
  burst?: number;
  /** Bytes kept free in front of a received packet; default 256, as XDP has them. */
  headroom?: number;
  /** Default: index + 1. */
  ifindex?: number;
  queue?: number;
  /** Frames that may wait for completion; default 2048. */
  txSize?: number;
  /** Whether there is a host to take passed packets; false counts them as lost. Default true. */
  hostPath?: boolean;
}

/** What became of a packet when it was settled. */
export type Fate =
  | 'sent'
  | 'passed'
  /** Passed, and nothing was there to take it, or its place was outside its chunk. */
  | 'passLost'
  | 'dropped'
  /** It stays with the policy. */
  | 'held'
  /** A place outside the chunk, a length below 14, or a target that is none. */
  | 'refused'
  /** No room to transmit. */
  | 'full';

/** A frame shorter than an Ethernet header cannot be sent. */
const MIN_FRAME = 14;
const MAX_BURST = 1024;

/**
 * A port on a memory pool: what the kernel and the addon do for an AF_XDP port, in TypeScript. Settling follows
 * native/xsk_burst.cc case by case; `test/support/port_contract.ts` holds the two together.
 *
 * A subclass says where packets come from (`receive`) and may look at each settled packet (`settled`).
 */
export abstract class PoolPort implements Port, PoolMember {
  readonly name: string;
  readonly index: number;
  readonly ifindex: number;
  readonly queue: number;
  readonly memory: ArrayBuffer;
  readonly chunkSize: number;
  readonly burst: Burst;
  readonly counters = new Float64Array(PortCounter.SIZE);
  readonly headroom: number;
  protected readonly pool: MemoryPool;
  /** Packets in hand. The burst's own count is the policy's to overwrite; this one is not. */
  protected inHand = 0;
  /** How many of them are settled; not 0 only within `exchange`, and after a subclass threw there. */
  #settledCount = 0;
  /** Chunk of each packet in hand, out of the policy's reach. */
  readonly #chunks: Int32Array;
  /** By chunk: the packets that the policy holds. */
  readonly #held = new Map<number, { offset: number; length: number }>();
  /** By chunk: packets of the burst in hand to resume as soon as they are held. */
  readonly #resumeAtSettle = new Map<number, { offset: number; length: number }>();
  /** Offset and length of each packet that was resumed and waits for the next burst, oldest first. */
  readonly #resumed: number[] = [];
  /** Chunks sent and not completed. */
  readonly #sending: number[] = [];
  readonly #txSize: number;
  readonly #hostPath: boolean;
  #closed = false;

  constructor(pool: MemoryPool, options: PoolPortOptions) {
    const { index = 0, burst = 64, headroom = 256 } = options;
    if (!Number.isInteger(index) || index < 0 || index >= MAX_PORTS) {
      throw new RangeError(`port number ${index} is not 0-${MAX_PORTS - 1}`);
    }
    if (!Number.isInteger(burst) || burst < 1 || burst > MAX_BURST) {
      throw new RangeError(`burst ${burst} is not 1-${MAX_BURST}`);
    }
    if (!Number.isInteger(headroom) || headroom < 0 || headroom > pool.chunkSize - MIN_FRAME) {
      throw new RangeError(`headroom ${headroom} leaves no room for a packet in ${pool.chunkSize} bytes`);
    }
    this.pool = pool;
    this.index = index;
    this.name = options.name ?? `mem${index}`;
    this.ifindex = options.ifindex ?? index + 1;
    this.queue = options.queue ?? 0;
    this.memory = pool.memory;
    this.chunkSize = pool.chunkSize;
    this.headroom = headroom;
    this.burst = {
      header: new Int32Array(4),
      offset: new Int32Array(burst),
      length: new Int32Array(burst),
      verdict: new Int32Array(burst),
      target: new Int32Array(burst),
    };
    this.#chunks = new Int32Array(burst);
    this.#txSize = options.txSize ?? 2048;
    this.#hostPath = options.hostPath ?? true;
    pool.join(this);
  }

  /** Fills the burst by calling `place`, and sets the burst's clock. */
  protected abstract receive(): void;

  /** Called once for each packet in hand, its slot still untouched; `out` is the port that it was or would have been sent by. */
  protected settled(_slot: number, _fate: Fate, _out: PoolMember | undefined): void {}

  /** Called for each held frame that the policy releases, its bytes as they were; the place is what the policy had set. */
  protected released(_chunk: number, _offset: number, _length: number): void {}

  /** Called for each packet that leaves by this port, wherever it came in. */
  protected transmitted(_offset: number, _length: number): void {}

  exchange(): number {
    if (this.#closed) throw new SluiceError('SLUICE_STATE', `port ${this.name} is closed`);
    // Of all ports, as a UMEM's completions are drained together; before settling, so that what this exchange sends is seen as
    // under way until the next one.
    for (const member of this.pool.members) member?.complete();
    // Counted before it is done: should `settled` throw, no frame is given back twice and none is lost.
    while (this.#settledCount < this.inHand) this.#settle(this.#settledCount++);
    this.#settledCount = 0;
    this.inHand = 0;
    this.#resumeAtSettle.clear();
    this.#takeResumed();
    this.burst.header[BurstHeader.resumed] = this.inHand;
    this.receive();
    this.burst.header[BurstHeader.count] = this.inHand;
    return this.inHand;
  }

  resume(offset: number, length: number): boolean {
    if (this.#closed) throw new SluiceError('SLUICE_STATE', `port ${this.name} is closed`);
    const chunk = offset & -this.chunkSize;
    if (length < 0 || offset + length > chunk + this.chunkSize) return false;
    if (this.#held.delete(chunk)) {
      this.#resumed.push(offset, length);
      return true;
    }
    if (this.#slotToHold(chunk) < 0) return false;
    this.#resumeAtSettle.set(chunk, { offset, length });
    return true;
  }

  release(offset: number): boolean {
    if (this.#closed) throw new SluiceError('SLUICE_STATE', `port ${this.name} is closed`);
    const chunk = offset & -this.chunkSize;
    const packet = this.#held.get(chunk);
    if (packet === undefined) {
      const slot = this.#slotToHold(chunk);
      if (slot >= 0) this.burst.verdict[slot] = Verdict.Drop;
      return slot >= 0;
    }
    this.#held.delete(chunk);
    this.counters[PortCounter.dropped]++;
    this.pool.give(chunk);
    this.released(chunk, packet.offset, packet.length);
    return true;
  }

  /** Slot of a packet in hand that is to be held and not to be resumed at once; −1 when this chunk has none. */
  #slotToHold(chunk: number): number {
    const slot = this.slotOf(chunk);
    return slot >= 0 && this.burst.verdict[slot] === Verdict.Hold && !this.#resumeAtSettle.has(chunk) ? slot : -1;
  }

  /** Whether packets wait for the next burst without any more being received. */
  protected get resumedWaiting(): boolean {
    return this.#resumed.length > 0;
  }

  #resumeSettled(chunk: number): void {
    const packet = this.#resumeAtSettle.get(chunk);
    if (packet === undefined) return;
    this.#resumeAtSettle.delete(chunk);
    this.resume(packet.offset, packet.length);
  }

  /** Most packets that a burst may have. */
  protected get burstLimit(): number {
    return this.#chunks.length;
  }

  /** Puts resumed packets at the start of the new burst. They were counted when they were received. */
  #takeResumed(): void {
    while (this.#resumed.length > 0 && this.inHand < this.burstLimit) {
      const [offset, length] = this.#resumed.splice(0, 2);
      this.#append(offset & -this.chunkSize, offset, length);
    }
  }

  counts(): FrameCounts {
    return this.pool.counts();
  }

  refreshCounters(): void {
    writeFrameGauges(this.counters, this.pool.counts());
  }

  /** Returns all frames, also those of the burst in hand, which is not settled. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (let slot = this.#settledCount; slot < this.inHand; slot++) this.pool.give(this.#chunks[slot]);
    for (const chunk of this.#held.keys()) this.pool.give(chunk);
    for (let i = 0; i < this.#resumed.length; i += 2) this.pool.give(this.#resumed[i] & -this.chunkSize);
    this.#held.clear();
    this.#resumed.length = 0;
    this.#settledCount = 0;
    this.inHand = 0;
    this.burst.header[BurstHeader.count] = 0;
    this.complete();
    this.pool.leave(this);
  }

  hold(counts: FrameCounts): void {
    counts.rx += this.inHand - this.#settledCount + (this.#resumed.length >> 1);
    counts.held += this.#held.size;
    counts.tx += this.#sending.length;
  }

  send(chunk: number, offset: number, length: number): boolean {
    if (this.#sending.length >= this.#txSize) {
      this.counters[PortCounter.txFull]++;
      return false;
    }
    this.#sending.push(chunk);
    this.counters[PortCounter.txPackets]++;
    this.counters[PortCounter.txBytes] += length;
    this.transmitted(offset, length);
    return true;
  }

  complete(): void {
    for (const chunk of this.#sending) this.pool.give(chunk);
    this.counters[PortCounter.completions] += this.#sending.length;
    this.#sending.length = 0;
  }

  /** Appends a packet to the burst. False when it has to wait: the burst is full or no frame is free. */
  protected place(data: Uint8Array): boolean {
    if (this.inHand === this.#chunks.length) return false;
    const chunk = this.pool.take();
    if (chunk < 0) {
      this.counters[PortCounter.kernelFillEmpty]++;
      return false;
    }
    const offset = chunk + this.headroom;
    this.pool.write(offset, data);
    this.#append(chunk, offset, data.length);
    this.counters[PortCounter.rxPackets]++;
    this.counters[PortCounter.rxBytes] += data.length;
    return true;
  }

  #append(chunk: number, offset: number, length: number): void {
    const slot = this.inHand;
    this.#chunks[slot] = chunk;
    this.burst.offset[slot] = offset;
    this.burst.length[slot] = length;
    this.burst.verdict[slot] = Verdict.Drop;
    this.burst.target[slot] = 0;
    this.inHand = slot + 1;
  }

  /** Chunk of the packet in hand in a slot. */
  protected chunkOf(slot: number): number {
    return this.#chunks[slot];
  }

  /** Slot of the packet in hand that was received in this chunk, or -1. */
  protected slotOf(chunk: number): number {
    const slot = this.#chunks.indexOf(chunk);
    return slot < this.inHand ? slot : -1;
  }

  /** Whether a packet of this many bytes fits a frame. One that does not is counted as the kernel does: rx_dropped. */
  protected fits(length: number): boolean {
    if (length <= this.chunkSize - this.headroom) return true;
    this.counters[PortCounter.kernelRxDropped]++;
    return false;
  }

  #settle(slot: number): void {
    const { verdict, target } = this.burst;
    switch (verdict[slot]) {
      case Verdict.Tx:
        this.#leave(slot, this);
        return;
      case Verdict.Redirect:
        this.#leave(slot, this.pool.members[target[slot]]);
        return;
      case Verdict.Pass:
        if (this.#hostPath && this.#sendable(slot)) this.#release(slot, PortCounter.passPackets, 'passed');
        else this.#release(slot, PortCounter.passLost, 'passLost');
        return;
      case Verdict.Hold:
        this.#held.set(this.#chunks[slot], { offset: this.burst.offset[slot], length: this.burst.length[slot] });
        this.settled(slot, 'held', undefined);
        this.#resumeSettled(this.#chunks[slot]);
        return;
      default:
        // Drop, Aborted, and every number that is no verdict.
        this.#release(slot, PortCounter.dropped, 'dropped');
    }
  }

  #leave(slot: number, out: PoolMember | undefined): void {
    const { offset, length } = this.burst;
    if (out === undefined || !this.#sendable(slot)) {
      this.#release(slot, PortCounter.txInvalid, 'refused', out);
    } else if (out.send(this.#chunks[slot], offset[slot], length[slot])) {
      this.settled(slot, 'sent', out);
    } else {
      this.pool.give(this.#chunks[slot]);
      this.settled(slot, 'full', out);
    }
  }

  /** Gives the frame back; its bytes stay as they are while `settled` looks at them. */
  #release(slot: number, counter: PortCounter, fate: Fate, out?: PoolMember): void {
    this.counters[counter]++;
    this.pool.give(this.#chunks[slot]);
    this.settled(slot, fate, out);
  }

  #sendable(slot: number): boolean {
    return this.burst.length[slot] >= MIN_FRAME && this.within(slot);
  }

  /** Whether offset and length, which a policy may have set to anything, lie within the packet's own chunk. */
  protected within(slot: number): boolean {
    return this.withinChunk(this.#chunks[slot], this.burst.offset[slot], this.burst.length[slot]);
  }

  protected withinChunk(chunk: number, start: number, length: number): boolean {
    return start >= chunk && length >= 0 && start + length <= chunk + this.chunkSize;
  }
}

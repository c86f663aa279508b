import type { Capture } from '../../pcap/capture.js';
import type { PcapngWriter } from '../../pcap/pcapng_writer.js';
import { BurstHeader } from '../port.js';
import { VERDICTS, Verdict } from '../verdict.js';
import type { MemoryPool, PoolMember } from './memory_pool.js';
import { PoolPort, type Fate, type PoolPortOptions } from './pool_port.js';

/** What may be written out. `drop` is everything that goes nowhere: dropped, aborted, refused, no room to send. */
export type PcapOutput = 'tx' | 'redirect' | 'pass' | 'drop';

export interface PcapPortOptions extends PoolPortOptions {
  /** One packet a burst, as the slowest traffic would come; default false. */
  lockstep?: boolean;
  /** Where packets are written; several ports may share one. It stays the caller's to close. */
  writer?: PcapngWriter;
  /** Which packets are written; default tx, redirect and pass. */
  outputs?: Iterable<PcapOutput>;
  /**
   * The time that is 0 on the port's clock, ns since the epoch; default that of the capture's first packet with a time.
   * Ports that play captures taken together get the same.
   */
  startNs?: bigint;
}

const NS_PER_MS = 1_000_000n;
const LAST_NS = 0xffff_ffff_ffff_ffffn;

/**
 * A capture file as a port. `exchange()` hands out its packets in file order, and writes those settled to a pcapng file, each with
 * a comment that starts with "verdict=". After the last packet it returns 0; `done` tells when that one is settled too.
 *
 * Time is the capture's: the burst's clock counts milliseconds of capture time, never goes back, and is the same for all packets of
 * a burst (a burst ends where the next millisecond begins). So aging and rate limits come out the same each run, at any speed
 * and in lockstep or not. Equal input makes an equal output file, byte for byte.
 */
export class PcapPort extends PoolPort {
  readonly capture: Capture;
  /** Text that follows the verdict in the comment of the packet in a slot; asked while its burst is being settled. */
  annotate: ((slot: number) => string) | null = null;
  /** Packets so far of which the capture does not have all bytes. */
  cut = 0;
  readonly #writer: PcapngWriter | undefined;
  readonly #interfaceId: number;
  readonly #outputs: ReadonlySet<PcapOutput>;
  readonly #limit: number;
  /** Position in the capture of the next packet to hand out. */
  #next = 0;
  /** By frame: position in the capture of the packet in it, and its time. Frames that are held keep theirs. */
  readonly #positions: Int32Array;
  readonly #times: bigint[];
  #startNs: bigint | undefined;
  #clockMs = 0n;
  #lastNs = 0n;

  constructor(pool: MemoryPool, capture: Capture, options: PcapPortOptions = {}) {
    super(pool, { ...options, name: options.name ?? `pcap${options.index ?? 0}` });
    this.capture = capture;
    this.#writer = options.writer;
    this.#interfaceId = options.writer?.addInterface({ name: this.name }) ?? -1;
    this.#outputs = new Set(options.outputs ?? ['tx', 'redirect', 'pass']);
    this.#limit = options.lockstep ? 1 : this.burst.offset.length;
    this.#positions = new Int32Array(pool.frameCount);
    this.#times = new Array<bigint>(pool.frameCount).fill(0n);
    this.#startNs = options.startNs;
  }

  /** Whether the last packet was handed out and settled. */
  get done(): boolean {
    return this.#next >= this.capture.length && this.inHand === 0 && !this.resumedWaiting;
  }

  /** Milliseconds of capture time up to the burst in hand; `header[nowMs]` is this, wrapped to int32. */
  get clockMs(): number {
    return Number(this.#clockMs);
  }

  /** Position in the capture of the packet in hand that was received in this chunk; -1 when there is none. */
  positionIn(chunk: number): number {
    return this.slotOf(chunk) < 0 ? -1 : this.#positions[chunk / this.chunkSize];
  }

  protected override get burstLimit(): number {
    return this.#limit;
  }

  protected override receive(): void {
    while (this.#next < this.capture.length && this.inHand < this.#limit) {
      const packet = this.capture.packet(this.#next);
      const timeNs = packet.timestampNs === 0n ? this.#lastNs : packet.timestampNs;
      const clockMs = this.#clockAt(timeNs);
      if (clockMs !== this.#clockMs && this.inHand > 0) break;
      if (this.fits(packet.data.length)) {
        const slot = this.inHand;
        // No frame free: it waits, as the clock does.
        if (!this.place(packet.data)) break;
        const frame = this.chunkOf(slot) / this.chunkSize;
        this.#positions[frame] = this.#next;
        this.#times[frame] = timeNs;
      }
      if (packet.originalLength > packet.data.length) this.cut++;
      this.#clockMs = clockMs;
      this.#lastNs = timeNs;
      this.#next++;
    }
    this.burst.header[BurstHeader.nowMs] = Number(BigInt.asIntN(32, this.#clockMs));
  }

  /** Milliseconds of capture time, never less than before. A packet without a time comes when the one before it came. */
  #clockAt(timeNs: bigint): bigint {
    if (timeNs === 0n) return this.#clockMs;
    this.#startNs ??= timeNs;
    const clockMs = (timeNs - this.#startNs) / NS_PER_MS;
    return clockMs > this.#clockMs ? clockMs : this.#clockMs;
  }

  protected override settled(slot: number, fate: Fate, out: PoolMember | undefined): void {
    const writer = this.#writer;
    if (writer === undefined) return;
    const verdict = this.burst.verdict[slot];
    const kind = outputOf(fate, verdict);
    if (fate === 'held' || !this.#outputs.has(kind)) return;
    const frame = this.chunkOf(slot) / this.chunkSize;
    const comment = this.#comment(slot, fate, verdict);
    if (kind === 'drop') {
      this.#writeLost(writer, frame, comment);
      return;
    }
    const sibling = out instanceof PcapPort && out.#writer === writer ? out : this;
    writer.writePacket({
      timestampNs: this.#timestamp(frame),
      comment,
      interfaceId: sibling.#interfaceId,
      data: this.pool.bytes(this.burst.offset[slot], this.burst.length[slot]),
      direction: kind === 'pass' ? 'in' : 'out',
    });
  }

  protected override released(chunk: number): void {
    if (this.#writer === undefined || !this.#outputs.has('drop')) return;
    this.#writeLost(this.#writer, chunk / this.chunkSize, `verdict=${VERDICTS[Verdict.Hold]} lost=released`);
  }

  /** A packet that went nowhere, as it came in: that is what one wants to see of it. */
  #writeLost(writer: PcapngWriter, frame: number, comment: string): void {
    const { data, originalLength } = this.capture.packet(this.#positions[frame]);
    const timestampNs = this.#timestamp(frame);
    writer.writePacket({
      timestampNs,
      comment,
      interfaceId: this.#interfaceId,
      data,
      originalLength,
      direction: 'in',
    });
  }

  #timestamp(frame: number): bigint {
    const time = this.#times[frame];
    return time < 0n ? 0n : time > LAST_NS ? LAST_NS : time;
  }

  #comment(slot: number, fate: Fate, verdict: number): string {
    const lost = fate === 'refused' || fate === 'full' || fate === 'passLost' ? ` lost=${LOST[fate]}` : '';
    const text = this.annotate?.(slot) ?? '';
    return `verdict=${VERDICTS[verdict] ?? verdict}${lost}${text === '' ? '' : ` ${text}`}`;
  }
}

/** Words for what kept a packet from where its verdict wanted it. */
const LOST = { refused: 'invalid', full: 'tx-full', passLost: 'no-host' } as const;

function outputOf(fate: Fate, verdict: number): PcapOutput {
  if (fate === 'passed') return 'pass';
  if (fate !== 'sent') return 'drop';
  return verdict === Verdict.Tx ? 'tx' : 'redirect';
}

import { PortCounter } from '../../shared/layout.js';
import {
  native,
  type FrameCounts,
  type NativeAddon,
  type Tap,
  type Umem,
  type XskOptions,
  type XskSocket,
} from '../../native.js';
import { writeFrameGauges, type Burst, type Port } from '../port.js';

/** A port that is one AF_XDP socket on one queue of an interface. Its frames live in the worker's UMEM. */
export class XskPort implements Port {
  readonly name: string;
  readonly index: number;
  readonly ifindex: number;
  readonly queue: number;
  readonly memory: ArrayBuffer;
  readonly chunkSize: number;
  readonly burst: Burst;
  readonly counters: Float64Array;
  readonly socket: XskSocket;
  private readonly umem: Umem;
  private readonly id: number;
  private readonly exchangeSocket: NativeAddon['exchangeSocket'];

  /** Opens and binds the socket. The XSKMAP entry and the XDP program are the caller's. */
  constructor(umem: Umem, options: XskOptions) {
    const addon = native();
    this.umem = umem;
    this.socket = new addon.XskSocket(umem, options);
    this.id = this.socket.id;
    this.exchangeSocket = addon.exchangeSocket;
    this.name = options.interface;
    this.index = options.index;
    this.ifindex = this.socket.ifindex;
    this.queue = this.socket.queue;
    this.memory = umem.buffer;
    this.chunkSize = umem.chunkSize;
    this.counters = this.socket.counters;
    // The socket is its own burst: same arrays, stable for its life.
    this.burst = this.socket;
  }

  exchange(): number {
    const { exchangeSocket } = this;
    return exchangeSocket(this.id);
  }

  resume(offset: number, length: number): boolean {
    return this.socket.resume(offset, length);
  }

  release(offset: number): boolean {
    return this.socket.release(offset);
  }

  /** Where passed packets go; null drops and counts them. */
  setTap(tap: Tap | null): void {
    this.socket.setTap(tap);
  }

  counts(): FrameCounts {
    return this.umem.counts();
  }

  refreshCounters(): void {
    const counters = this.counters;
    const kernel = this.socket.statistics();
    counters[PortCounter.kernelRxDropped] = kernel.rxDropped;
    counters[PortCounter.kernelRxInvalid] = kernel.rxInvalidDescs;
    counters[PortCounter.kernelTxInvalid] = kernel.txInvalidDescs;
    counters[PortCounter.kernelRxRingFull] = kernel.rxRingFull;
    counters[PortCounter.kernelFillEmpty] = kernel.rxFillRingEmptyDescs;
    counters[PortCounter.kernelTxEmpty] = kernel.txRingEmptyDescs;
    writeFrameGauges(counters, this.umem.counts());
  }

  close(): void {
    this.socket.close();
  }
}

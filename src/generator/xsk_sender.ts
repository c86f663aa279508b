import { native, type Umem, type XskSocket, type XskStatistics } from '../native.js';
import type { Load, Replay } from './load.js';
import { ReplayWriter } from './replay_writer.js';
import { FrameWriter, type Writer } from './writer.js';

export interface XskSenderOptions {
  queue: number;
  mode: 'auto' | 'zero-copy' | 'copy';
  /** Packets handed to the kernel at a time. */
  batch: number;
}

/** enum Verdict of the data plane: out of the socket that has the packet. */
const TX = 3;
const FRAMES = 4096;
const RING = 2048;
/** Nothing is redirected to the socket; what comes nevertheless is given back at once. */
const RX_RING = 64;
/** What a chunk of 2,048 bytes has for a frame behind its headroom. */
const SMALL_FRAME = 2048 - 256;
/** How long `close` goes on sending what is queued, ms. */
const DRAIN_MS = 200;

/** Sends a load from an AF_XDP socket on one queue of its interface, burst by burst, in the calling thread. No XDP program is needed. */
export class XskSender implements Disposable {
  private readonly umem: Umem;
  private readonly socket: XskSocket;
  private readonly writer: Writer;
  private queuedBytes = 0;

  /** @throws SluiceError, KernelError (EBUSY: the queue has a socket already) */
  constructor(load: Load | Replay, { queue, mode, batch }: XskSenderOptions) {
    const chunkSize = Math.max(...load.sizes.map(({ bytes }) => bytes)) > SMALL_FRAME ? 4096 : 2048;
    this.umem = new (native().Umem)({ frameCount: FRAMES, chunkSize });
    try {
      const memory = this.umem.buffer;
      this.writer = 'frames' in load ? new ReplayWriter(load, memory) : new FrameWriter(load, memory, chunkSize);
      this.socket = new (native().XskSocket)(this.umem, {
        interface: load.interface,
        queue,
        mode,
        index: 0,
        rxSize: RX_RING,
        fillSize: RX_RING,
        txSize: RING,
        completionSize: RING,
        burst: batch,
      });
    } catch (error) {
      this.umem.close();
      throw error;
    }
  }

  /** Queues up to `most` packets and has the kernel send what is queued; returns how many it queued, 0 when there is no room just now. */
  send(most: number): number {
    const { socket, writer } = this;
    const received = socket.exchange();
    for (let i = 0; i < received; i++) writer.forget(socket.offset[i]);
    const count = socket.compose(most);
    for (let i = received; i < received + count; i++) {
      const length = writer.write(socket.offset[i]);
      socket.length[i] = length;
      socket.verdict[i] = TX;
      this.queuedBytes += length;
    }
    return count;
  }

  /** Packets queued so far, by size. */
  get bySize(): Float64Array {
    return this.writer.written;
  }

  get packets(): number {
    return this.writer.written.reduce((sum, count) => sum + count, 0);
  }

  get bytes(): number {
    return this.queuedBytes;
  }

  get zeroCopy(): boolean {
    return this.socket.zeroCopy;
  }

  statistics(): XskStatistics {
    return this.socket.statistics();
  }

  /** Errno of what is wrong with the socket, 0 when it is well. */
  error(): number {
    return this.socket.error();
  }

  /** Hands over the last burst, waits a moment for it to be sent, and lets go of queue and memory. */
  close(): void {
    this.socket.exchange();
    this.socket.close(DRAIN_MS);
    this.umem.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

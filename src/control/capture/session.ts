import type { Socket } from 'node:net';
import { PcapngWriter } from '../../pcap/pcapng_writer.js';
import { CaptureCounter, CaptureRecord, RecordKind, type CaptureRingReader } from '../../shared/capture_ring.js';
import type { CaptureSpec } from '../../shared/capture_spec.js';
import { ControlStream, type CaptureStarted } from '../api/contract_capture.js';
import { VERSION } from '../version.js';
import type { Describer } from './describe.js';

/** Bytes that wait for a client at most; what comes then is lost for it. */
const PENDING_MOST = 4 << 20;

/** A client that has not read anything for this long while there is something to read is gone, ms. */
const STALLED_MS = 30_000;

/** How long the last bytes may take to be read, ms. */
const LINGER_MS = 5000;

/** A port that frames come from: an interface of the file. */
export interface CapturePort {
  queue: number;
  /** Port number. */
  index: number;
  name: string;
}

export interface SessionOptions {
  spec: CaptureSpec;
  ports: readonly CapturePort[];
  queues: number[];
  /** Frames after which it ends; 0: none. */
  count: number;
  /** Seconds after which it ends; 0: none. */
  duration: number;
  describer: Describer;
  /** Takes it off the workers, and calls `finish` once all that they captured was given to `take`. */
  onEnd: (session: CaptureSession) => void;
}

/** What was counted on one interface of the file. */
interface Tally {
  seen: number;
  accepted: number;
  /** In a worker's ring, and here. */
  lost: number;
  delivered: number;
}

/** One capture and its client: records of the rings become pcapng on the connection. */
export class CaptureSession extends ControlStream {
  readonly result: CaptureStarted;
  readonly spec: CaptureSpec;
  private readonly writer = new PcapngWriter('memory', { userAppl: `sluice ${VERSION}` });
  /** Interface of the file by queue and port number. */
  private readonly interfaces = new Map<number, number>();
  private readonly tallies: Tally[] = [];
  private readonly startNs = nowNs();
  private socket: Socket | null = null;
  private timer: NodeJS.Timeout | null = null;
  private ending = false;
  private taken = 0;
  private readAt = performance.now();
  private bytesRead = 0;
  private settle!: () => void;
  /** Resolves when the last byte is on its way. */
  private readonly finished = new Promise<void>((resolve) => (this.settle = resolve));

  constructor(private readonly options: SessionOptions) {
    super();
    this.spec = options.spec;
    this.result = { stream: 'pcapng', queues: options.queues };
    for (const { queue, index, name } of options.ports) {
      const description = `queue ${queue}`;
      this.interfaces.set(
        keyOf(queue, index),
        this.writer.addInterface({ name, description, snapLength: this.spec.snaplen }),
      );
      this.tallies.push({ seen: 0, accepted: 0, lost: 0, delivered: 0 });
    }
  }

  /** Sums over all interfaces, for the log. */
  get totals(): Tally {
    const sum = (key: keyof Tally): number => this.tallies.reduce((total, tally) => total + tally[key], 0);
    return { seen: sum('seen'), accepted: sum('accepted'), lost: sum('lost'), delivered: sum('delivered') };
  }

  async run(socket: Socket): Promise<void> {
    this.socket = socket;
    const end = (): void => void this.end();
    // Nothing that it says means anything but that it has enough; its end says the same.
    const hear = (): void => {
      while (socket.read() !== null) end();
    };
    socket.on('readable', hear).on('end', end).on('close', end);
    if (socket.destroyed) end();
    if (this.options.duration > 0) this.timer = setTimeout(end, this.options.duration * 1000);
    hear();
    this.flush();
    await this.finished;
    if (this.timer) clearTimeout(this.timer);
    await closed(socket);
  }

  async end(): Promise<void> {
    if (!this.ending) {
      this.ending = true;
      this.options.onEnd(this);
    }
    await this.finished;
  }

  /** A record of the ring of queue `queue` that has this capture's bit. */
  take(reader: CaptureRingReader, at: number, queue: number): void {
    const { count, describer } = this.options;
    if (count > 0 && this.taken >= count) return;
    const { words } = reader;
    const interfaceId = this.interfaces.get(keyOf(queue, words[at + CaptureRecord.port]));
    if (interfaceId === undefined) return;
    const tally = this.tallies[interfaceId];
    if (this.pending() > PENDING_MOST) {
      tally.lost++;
      return;
    }
    const start = (at + CaptureRecord.SIZE) << 2;
    this.writer.writePacket({
      interfaceId,
      timestampNs:
        BigInt(words[at + CaptureRecord.seconds] >>> 0) * 1_000_000_000n +
        BigInt(words[at + CaptureRecord.nanoseconds]),
      data: reader.bytes.subarray(start, start + this.kept(words, at)),
      originalLength: words[at + CaptureRecord.wireLength],
      direction: words[at + CaptureRecord.kind] === (RecordKind.in as number) ? 'in' : 'out',
      comment: describer.describe({
        verdict: words[at + CaptureRecord.verdict],
        reason: words[at + CaptureRecord.reason],
        rule: words[at + CaptureRecord.rule],
        service: words[at + CaptureRecord.service],
        backend: words[at + CaptureRecord.backend],
        queue,
      }),
      packetId: (BigInt(queue) << 32n) | BigInt(words[at + CaptureRecord.packet] >>> 0),
      queue,
      verdict: words[at + CaptureRecord.verdict],
    });
    tally.delivered++;
    if (++this.taken === count) void this.end();
  }

  /** Bytes of a record's frame that this capture is after: other captures may want more of it. */
  private kept(words: Int32Array, at: number): number {
    const length = Math.min(words[at + CaptureRecord.length], this.spec.snaplen);
    const sampled = words[at + CaptureRecord.sampled];
    return this.spec.rules !== null && sampled > 0 ? Math.min(length, sampled) : length;
  }

  /** Takes over what a worker has counted, when the capture or the worker has ended. */
  addCounts(reader: CaptureRingReader, queue: number): void {
    const { capture, serial } = this.spec;
    for (const port of this.options.ports) {
      if (port.queue !== queue) continue;
      const tally = this.tallies[this.interfaces.get(keyOf(queue, port.index))!];
      tally.seen += reader.count(capture, serial, port.index, CaptureCounter.seen);
      tally.accepted += reader.count(capture, serial, port.index, CaptureCounter.accepted);
      tally.lost += reader.count(capture, serial, port.index, CaptureCounter.lost);
    }
  }

  private pending(): number {
    return this.writer.bytes().length + (this.socket?.writableLength ?? 0);
  }

  /** Hands on what was written; notices a client that does not read. */
  flush(): void {
    const { socket } = this;
    if (socket === null || socket.destroyed) return;
    const { bytesWritten, writableLength } = socket;
    const read = bytesWritten - writableLength;
    if (read !== this.bytesRead || writableLength === 0) {
      this.bytesRead = read;
      this.readAt = performance.now();
    } else if (performance.now() - this.readAt > STALLED_MS) {
      socket.destroy();
      return;
    }
    if (this.writer.bytes().length > 0) socket.write(this.writer.take());
  }

  /** Writes the counters; nothing comes behind them. */
  finish(): void {
    const endNs = nowNs();
    this.tallies.forEach(({ seen, accepted, lost, delivered }, interfaceId) =>
      this.writer.writeStatistics({
        interfaceId,
        startNs: this.startNs,
        endNs,
        received: seen,
        accepted,
        lost,
        delivered,
      }),
    );
    this.flush();
    this.settle();
  }
}

function keyOf(queue: number, port: number): number {
  return queue * 16 + port;
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

/** Ends the connection; waits until it is closed, LINGER_MS at most. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) return resolve();
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.end(() => socket.destroy());
  });
}

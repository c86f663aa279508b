import { SluiceError } from '../../errors.js';
import {
  CAPTURE_RING_BYTES,
  CaptureRecord,
  CaptureRingReader,
  makeCaptureRing,
  MAX_CAPTURES,
} from '../../shared/capture_ring.js';
import type { CaptureCommand, CaptureSpec } from '../../shared/capture_spec.js';
import type { ControlStream } from '../api/contract_capture.js';
import type { Log } from '../log.js';
import { Describer, type NamesView } from './describe.js';
import { planCapture, type CaptureNames } from './request.js';
import { CaptureSession, type CapturePort } from './session.js';

/** How often the rings are read while a capture runs, ms. */
const READ_MS = 10;

/** Records that one visit takes from a ring, so that a flood does not keep the control plane from its other work. */
const RECORDS_A_VISIT = 2048;

/** So many visits see all that a full ring has, however short its records. */
const READS_A_RING = Math.ceil(CAPTURE_RING_BYTES / (CaptureRecord.SIZE * 4) / RECORDS_A_VISIT);

/** How long workers may take to end a capture before it ends without them, ms. They read commands between two bursts, or every 100 ms. */
const END_MS = 500;

/** A worker as captures know it. */
export interface CaptureWorker {
  readonly queue: number;
  /** False when there is no thread to take it. */
  post(command: CaptureCommand): boolean;
}

export interface CaptureHubOptions {
  workers: () => readonly CaptureWorker[];
  interfaces: () => CaptureNames['interfaces'];
  log: Log;
  /** A capture has begun, or ended for the workers. */
  onChange?: () => void;
}

/** The captures that run, and the rings in which the workers leave what these are after. Rings are there from the first capture on. */
export class CaptureHub {
  private readonly sessions: (CaptureSession | null)[] = new Array<null>(MAX_CAPTURES).fill(null);
  /** Those that the workers are told of. */
  private active: CaptureSession[] = [];
  /** By queue. */
  private readonly rings = new Map<number, CaptureRingReader>();
  private serial = 0;
  private version = 0;
  private timer: NodeJS.Timeout | null = null;

  constructor(private readonly options: CaptureHubOptions) {}

  /** Starts a capture. `view`: names as they are now. Throws as `planCapture`, and SLUICE_STATE when too many run. */
  open(params: Record<string, unknown>, view: () => NamesView): ControlStream {
    const { rules, services } = view();
    const interfaces = this.options.interfaces();
    const plan = planCapture(params, { rules, services, interfaces });
    const capture = this.sessions.indexOf(null);
    if (capture < 0) {
      throw new SluiceError('SLUICE_STATE', `${MAX_CAPTURES} captures run already`, 'End one of them.');
    }
    const ports: CapturePort[] = plan.queues.flatMap((queue) =>
      interfaces.filter(({ queues }) => queues.includes(queue)).map(({ name, index }) => ({ queue, index, name })),
    );
    const session = new CaptureSession({
      ...plan,
      spec: { ...plan.spec, capture, serial: ++this.serial },
      ports,
      describer: new Describer(view),
      onEnd: (ended) => void this.close(ended).catch((error: unknown) => this.failed(error)),
    });
    this.sessions[capture] = session;
    this.active.push(session);
    this.options.log.info('capture begins', { audit: true, capture: this.serial, ...params });
    // First: what the workers are to see has to reach them.
    this.options.onChange?.();
    this.command();
    this.timer ??= setInterval(() => this.drain(), READ_MS);
    return session;
  }

  /** Captures that run. */
  get specs(): CaptureSpec[] {
    return this.active.map(({ spec }) => spec);
  }

  /** A worker has started: it knows of no capture. */
  workerReady(queue: number): void {
    if (this.active.length > 0) this.commandOne(queue);
  }

  /** Its ring is what is left of it. */
  workerGone(queue: number): void {
    const reader = this.rings.get(queue);
    if (!reader) return;
    this.empty(reader, queue);
    for (const session of this.sessions) session?.addCounts(reader, queue);
    this.rings.delete(queue);
  }

  /** Ends all captures in order. */
  async stop(): Promise<void> {
    await Promise.all(this.sessions.flatMap((session) => session?.end() ?? []));
  }

  /** Tells every worker which captures run now. */
  private command(): void {
    this.version++;
    for (const { queue } of this.options.workers()) this.commandOne(queue);
  }

  private commandOne(queue: number): void {
    const worker = this.options.workers().find((each) => each.queue === queue);
    if (!worker) return;
    const reader = this.rings.get(queue) ?? new CaptureRingReader(makeCaptureRing());
    const captures = this.active.filter(({ result }) => result.queues.includes(queue)).map(({ spec }) => spec);
    // A worker that takes no command has no ring: it gets a new one when it is back.
    if (worker.post({ kind: 'capture', version: this.version, ring: reader.memory, captures })) {
      this.rings.set(queue, reader);
    }
  }

  /** Takes what is in the rings. */
  private drain(): void {
    let more = false;
    for (const [queue, reader] of this.rings) more = this.read(reader, queue) === RECORDS_A_VISIT || more;
    for (const session of this.sessions) session?.flush();
    if (more) setImmediate(() => this.drain());
  }

  /** Takes all that is in a ring now; what a worker goes on to write meanwhile may stay. */
  private empty(reader: CaptureRingReader, queue: number): void {
    for (let i = 0; i < READS_A_RING && this.read(reader, queue) > 0; i++);
  }

  private read(reader: CaptureRingReader, queue: number): number {
    return reader.read(RECORDS_A_VISIT, (at) => {
      const captures = reader.words[at + CaptureRecord.captures];
      for (const session of this.sessions) {
        if (session !== null && (captures & (1 << session.spec.capture)) !== 0) this.give(session, reader, at, queue);
      }
    });
  }

  /** A capture that goes wrong ends; the daemon and other captures do not. */
  private give(session: CaptureSession, reader: CaptureRingReader, at: number, queue: number): void {
    try {
      session.take(reader, at, queue);
    } catch (error) {
      this.failed(error);
      void session.end();
    }
  }

  private failed(error: unknown): void {
    this.options.log.limited('capture-failure', 1).error('a capture failed', { err: error });
  }

  /** Takes a capture off the workers, and ends it once they have said so: then nothing of it comes any more. */
  private async close(session: CaptureSession): Promise<void> {
    this.active = this.active.filter((each) => each !== session);
    this.command();
    const { version } = this;
    const deadline = performance.now() + END_MS;
    // Never at once: a capture that ends by its count does so while its ring is being read.
    do {
      await new Promise((resolve) => setTimeout(resolve, 2));
    } while (
      performance.now() < deadline &&
      [...this.rings.values()].some((ring) => ((ring.version - version) | 0) < 0)
    );
    for (const [queue, reader] of this.rings) {
      this.empty(reader, queue);
      session.addCounts(reader, queue);
    }
    this.sessions[session.spec.capture] = null;
    session.finish();
    this.options.onChange?.();
    this.options.log.info('capture ends', { audit: true, capture: session.spec.serial, ...session.totals });
    if (this.sessions.some((each) => each !== null)) return;
    if (this.timer) clearInterval(this.timer);
    this.timer = null;
    // What holds the rings now are the workers, until they are told of the next.
    this.rings.clear();
  }
}

/** Requests about captures. */
import type { Socket } from 'node:net';

/** What a capture takes; all conditions that are given must hold. Lists: any of them. */
export interface CaptureRequest {
  /** Of a rule that samples: packets that it has sampled; of others: packets that it matched. */
  rules?: string[];
  /** Names of VERDICTS, without "hold". */
  verdicts?: string[];
  /** Names of DROP_REASONS. */
  reasons?: string[];
  services?: string[];
  /** Interfaces and queues that packets come in on. */
  interfaces?: string[];
  queues?: number[];
  /** pcap-filter expression, over the frame as it came in. */
  expr?: string;
  /** The frame as it came in (default), as it leaves, or both. */
  point?: 'in' | 'out' | 'both';
  /** Ends after so many frames. */
  count?: number;
  /** Ends after so many seconds. */
  duration?: number;
  /** One packet in so many, by worker. */
  oneIn?: number;
  /** The first so many packets of each flow, by worker. */
  first?: number;
  /** Most packets a second and worker. */
  rate?: number;
  /** Most bytes of a frame. */
  snaplen?: number;
}

export interface CaptureStarted {
  /** What follows on the connection instead of further answers, until the capture ends. */
  stream: 'pcapng';
  /** Queues whose workers capture. */
  queues: number[];
}

export interface CaptureMethods {
  /** The connection then carries the capture. Whatever the client sends, its end included, ends it in order; so does the daemon's end. */
  capture: { params: CaptureRequest; result: CaptureStarted };
}

/** An answer that goes on as a stream of bytes. */
export abstract class ControlStream {
  /** The answer that comes before the bytes. */
  abstract readonly result: unknown;
  /** Writes to the client until the stream ends; then ends the connection. Never rejects. */
  abstract run(socket: Socket): Promise<void>;
  /** Ends it in order; resolves when that is done. */
  abstract end(): Promise<void>;
}

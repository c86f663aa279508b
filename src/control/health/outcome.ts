/** What a check came to. */
export type Outcome =
  | { result: 'ok' }
  /** The backend's fault, as far as can be told. */
  | { result: 'failed'; reason: string }
  /** This node's fault: it says nothing of the backend. `stalled`: the process stood still. */
  | { result: 'skipped'; reason: string; stalled?: true };

/** Where a check goes. */
export interface Endpoint {
  /** Text of an IP address. */
  host: string;
  family: 4 | 6;
  port: number;
  /** Port to bind to, when the tunnel finds the backend by it; else the kernel chooses. */
  localPort?: number;
}

/** A check under way. */
export interface RunningCheck {
  /** What has been reached so far, for the reason of a timeout: "no connection", "connected, but no answer". */
  readonly stage: string;
  /** Closes all that it has open, at once. `done` is not called any more. */
  cancel(): void;
}

export type Done = (outcome: Outcome) => void;

/** Errors of the node itself: out of descriptors, memory or ports. Judging backends by them would eject all at once. */
const LOCAL = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRINUSE', 'EADDRNOTAVAIL', 'EAGAIN']);

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EPIPE: 'connection closed while the request was sent',
  ETIMEDOUT: 'connection timed out',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network is unreachable',
  EACCES: 'forbidden by this host (firewall or route)',
  EPERM: 'forbidden by this host (firewall)',
};

/** An outcome from an error of a socket, TLS or the HTTP parser. */
export function outcomeOfError(error: unknown): Outcome {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (LOCAL.has(code)) return { result: 'skipped', reason: `this node: ${message}` };
  if (code in WORDS) return { result: 'failed', reason: WORDS[code] };
  return { result: 'failed', reason: message || code };
}

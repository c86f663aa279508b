/** The daemon's end of the control socket. See contract.ts for the protocol and socket_path.ts for who may connect. */
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { closeSync } from 'node:fs';
import { SluiceError } from '../../errors.js';
import type { Log } from '../log.js';
import { MAX_REQUEST_BYTES } from './contract.js';
import type { ControlTarget } from './contract.js';
import type { ControlStream } from './contract_capture.js';
import { answer, describeFailure } from './dispatch.js';
import { checkSocketPath, prepareDirectory, protectSocket, removeStaleSocket, takeLock } from './socket_path.js';

export interface ControlLimits {
  /** Connections at a time; further ones are told so and closed. Default 32. */
  maxConnections?: number;
  /** A connection that neither asks nor reads for this long is closed. Default 30,000 ms. */
  idleTimeoutMs?: number;
}

export class ControlServer {
  private readonly connections = new Set<Socket>();
  private readonly streams = new Set<ControlStream>();
  private closed = false;

  private constructor(
    private readonly target: ControlTarget,
    private readonly log: Log,
    private readonly limits: ControlLimits,
    private readonly server: Server,
    private readonly lock: number,
  ) {}

  /**
   * Makes the directory, takes the lock, removes a dead daemon's socket and listens. Throws SLUICE_STATE when another
   * sluice is there, SLUICE_PERMISSION when the place is not ours alone, SLUICE_CONFIG for a path that cannot be bound.
   */
  static async listen(
    socketPath: string,
    target: ControlTarget,
    log: Log,
    limits: ControlLimits = {},
  ): Promise<ControlServer> {
    checkSocketPath(socketPath);
    prepareDirectory(socketPath);
    const lock = takeLock(socketPath);
    try {
      await removeStaleSocket(socketPath);
      const server = createServer({ allowHalfOpen: true });
      const control = new ControlServer(target, log, limits, server, lock);
      server.on('connection', (socket) => control.accept(socket));
      await bind(server, socketPath);
      // Failures of accept(2), as EMFILE: Node goes on accepting by itself.
      server.on('error', (error) => log.limited('control-accept', 1).error('control socket', { err: error }));
      return control;
    } catch (error) {
      closeSync(lock);
      throw error;
    }
  }

  /** Stops listening, removes the socket, ends connections and lets go of the lock. Idempotent. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    const ended = new Promise<void>((resolve) => this.server.close(() => resolve()));
    await Promise.all([...this.streams].map((stream) => stream.end()));
    for (const socket of this.connections) socket.destroySoon();
    // A client that does not read would hold the daemon's exit.
    const patience = setTimeout(() => this.connections.forEach((socket) => socket.destroy()), 500);
    await ended;
    clearTimeout(patience);
    closeSync(this.lock);
  }

  private accept(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    const limit = this.limits.maxConnections ?? 32;
    if (this.connections.size >= limit) {
      const error = new SluiceError(
        'SLUICE_CONTROL',
        `the control socket serves ${limit} connections already`,
        'Try again.',
      );
      socket.end(`${JSON.stringify({ id: null, error: describeFailure(error) })}\n`);
      socket.setTimeout(1000, () => socket.destroy());
      return;
    }
    this.connections.add(socket);
    socket.on('close', () => this.connections.delete(socket));
    socket.on('timeout', () => socket.destroy());
    void this.serve(socket);
  }

  /** Answers with a stream, after which the connection is at its end. */
  private async stream(
    socket: Socket,
    stream: ControlStream,
    { id, result }: { id: unknown; result: unknown },
  ): Promise<void> {
    this.streams.add(stream);
    try {
      socket.setTimeout(0); // There may be nothing to tell for hours.
      await send(socket, { id, result });
      await stream.run(socket);
    } finally {
      await stream.end();
      this.streams.delete(stream);
    }
  }

  /** Answers a connection's lines one after another; nothing more is read while an answer is under way. */
  private async serve(socket: Socket): Promise<void> {
    const { target, log } = this;
    let pending: Buffer[] = [];
    let pendingBytes = 0;
    const idleMs = this.limits.idleTimeoutMs ?? 30_000;
    socket.setTimeout(idleMs);
    try {
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        let rest = chunk;
        for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
          if (pendingBytes + end > MAX_REQUEST_BYTES) break;
          const line = Buffer.concat([...pending, rest.subarray(0, end)]).toString('utf8');
          pending = [];
          pendingBytes = 0;
          rest = rest.subarray(end + 1);
          if (line.trim() === '') continue;
          socket.setTimeout(0); // A reload may take its time.
          const message = await answer(line, target, log);
          socket.setTimeout(idleMs);
          if ('stream' in message && message.stream) return await this.stream(socket, message.stream, message);
          await send(socket, message);
        }
        pending.push(rest);
        pendingBytes += rest.length;
        if (pendingBytes > MAX_REQUEST_BYTES) {
          const error = new SluiceError('SLUICE_CONTROL', `a request is longer than ${MAX_REQUEST_BYTES} bytes`);
          await send(socket, { id: null, error: describeFailure(error) });
          break;
        }
      }
      socket.end();
    } catch {
      // The client went away, or the connection was idle too long: nobody is left to be told.
      socket.destroy();
    }
  }
}

/** Writes one answer and waits until the client has taken it, so that a client that does not read costs one answer. */
function send(socket: Socket, message: object): Promise<void> {
  return new Promise((resolve, reject) => {
    if (socket.destroyed) return reject(new Error('closed'));
    const gone = (): void => reject(new Error('closed'));
    socket.once('close', gone);
    socket.write(`${JSON.stringify(message)}\n`, (error) => {
      socket.off('close', gone);
      // Node calls back without an error for a write that destroy() cut off.
      if (error || socket.destroyed) reject(error ?? new Error('closed'));
      else resolve();
    });
  });
}

/** bind(2) happens inside `listen`, before it returns: the umask is ours for just that long. */
function bind(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const remedy = 'Check control.socket in the config.';
      reject(
        new SluiceError('SLUICE_STATE', `cannot listen on ${socketPath}: ${error.message}`, remedy, { cause: error }),
      );
    });
    const umask = process.umask(0o077);
    try {
      server.listen({ path: socketPath, backlog: 16 }, () => {
        server.removeAllListeners('error');
        protectSocket(socketPath);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}

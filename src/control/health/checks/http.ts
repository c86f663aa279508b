import { request, type ClientRequest, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { isIP } from 'node:net';
import type { BodyMatch, HttpCheckConfig } from '../../../shared/health_config.js';
import { outcomeOfError, type Done, type Endpoint, type Outcome, type RunningCheck } from '../outcome.js';
import { drop, open } from './tcp.js';

/** What of a body is read and searched; the rest is left. */
export const MAX_BODY_BYTES = 64 * 1024;

/** One request on a connection of its own. Good when status and, where it is asked for, body are as configured. */
export function checkHttp(endpoint: Endpoint, config: HttpCheckConfig, done: Done): RunningCheck {
  return new HttpCheck(endpoint, config, done);
}

class HttpCheck implements RunningCheck {
  stage = 'no connection';
  private readonly socket: Socket;
  private request: ClientRequest | null = null;
  private ended = false;

  constructor(
    private readonly endpoint: Endpoint,
    private readonly config: HttpCheckConfig,
    private readonly done: Done,
  ) {
    this.socket = open(endpoint);
    this.socket.once('connect', () => (config.tls === null ? this.send(this.socket) : this.shakeHands(config.tls)));
    this.socket.on('error', (error) => this.end(outcomeOfError(error)));
  }

  cancel(): void {
    if (this.ended) return;
    this.ended = true;
    // The request would report the end of its socket as an error.
    this.request?.on('error', () => undefined);
    drop(this.socket);
    this.request?.destroy();
  }

  private end(outcome: Outcome): void {
    if (this.ended) return;
    this.cancel();
    this.done(outcome);
  }

  private shakeHands(tls: NonNullable<HttpCheckConfig['tls']>): void {
    this.stage = 'connected, but no TLS handshake';
    const servername = tls.serverName ?? hostOf(this.config.host);
    const secure = connectTls({
      socket: this.socket,
      rejectUnauthorized: tls.verify,
      // Server names are names, never addresses (RFC 6066 §3).
      servername: isIP(servername) === 0 ? servername : '',
      ALPNProtocols: ['http/1.1'],
    });
    secure.on('error', (error: NodeJS.ErrnoException) => {
      const refused = this.stage.endsWith('handshake') && !('syscall' in error);
      this.end(refused ? { result: 'failed', reason: `TLS: ${error.message}` } : outcomeOfError(error));
    });
    secure.once('secureConnect', () => this.send(secure));
  }

  private send(socket: Socket): void {
    this.stage = 'connected, but no answer';
    const { path, method, host } = this.config;
    const made = request({
      createConnection: () => socket,
      path,
      method,
      setHost: false,
      headers: {
        Host: host ?? authority(this.endpoint),
        'User-Agent': 'sluice-health',
        Accept: '*/*',
        Connection: 'close',
      },
    });
    this.request = made;
    made.on('error', (error) => this.end(outcomeOfError(error)));
    made.once('response', (response) => this.read(response));
    made.end();
  }

  private read(response: IncomingMessage): void {
    const status = response.statusCode ?? 0;
    if (!this.config.status.some(({ first, last }) => status >= first && status <= last)) {
      return this.end({ result: 'failed', reason: `status ${status}` });
    }
    const wanted = this.config.body;
    if (wanted === null) return this.end({ result: 'ok' });
    this.stage = `status ${status}, but no end of the body`;
    const chunks: Buffer[] = [];
    let length = 0;
    const judge = (): void => {
      const body = Buffer.concat(chunks).subarray(0, MAX_BODY_BYTES).toString('utf8');
      const seen = length >= MAX_BODY_BYTES ? `the first ${MAX_BODY_BYTES / 1024} KiB of the body` : 'the body';
      this.end(
        matches(body, wanted)
          ? { result: 'ok' }
          : { result: 'failed', reason: `${seen} does not match, status ${status}` },
      );
    };
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= MAX_BODY_BYTES) judge();
    });
    response.once('end', judge);
    response.on('error', (error) => this.end(outcomeOfError(error)));
  }
}

/** Compiled once a pattern: there are as many as services. */
const compiled = new Map<string, RegExp>();

function matches(body: string, wanted: BodyMatch): boolean {
  if (wanted.kind === 'text') return body.includes(wanted.text);
  const key = `${wanted.flags}/${wanted.source}`;
  let regex = compiled.get(key);
  if (regex === undefined) {
    // Configurations come and go; a daemon's memory must not grow with them.
    if (compiled.size >= 1024) compiled.clear();
    compiled.set(key, (regex = new RegExp(wanted.source, wanted.flags)));
  }
  return regex.test(body);
}

/** A host without its port and brackets. */
function hostOf(host: string | null): string {
  return (host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}

/** Host header of an address (RFC 9110 §7.2). */
function authority({ host, family, port }: Endpoint): string {
  return `${family === 6 ? `[${host}]` : host}:${port}`;
}

import { isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { BodyMatch, HttpCheckConfig } from '../../../shared/health_config.js';
import { outcomeOfError, type Done, type Endpoint, type Outcome, type RunningCheck } from '../outcome.js';
import { MAX_BODY_BYTES, ResponseReader } from './http_response.js';
import { drop, open } from './tcp.js';

/** One request on a connection of its own. Good when status and, where it is asked for, body are as configured. */
export function checkHttp(endpoint: Endpoint, config: HttpCheckConfig, done: Done): RunningCheck {
  return new HttpCheck(endpoint, config, done);
}

class HttpCheck implements RunningCheck {
  stage = 'no connection';
  private readonly socket: Socket;
  private secure: TLSSocket | null = null;
  private readonly response: ResponseReader;
  private over = false;

  constructor(
    private readonly endpoint: Endpoint,
    private readonly config: HttpCheckConfig,
    private readonly done: Done,
  ) {
    this.response = new ResponseReader(config.body !== null);
    this.socket = open(endpoint);
    this.socket.once('connect', () => (config.tls === null ? this.send(this.socket) : this.shakeHands(config.tls)));
    this.socket.on('error', (error) => this.end(outcomeOfError(error)));
  }

  cancel(): void {
    if (this.over) return;
    this.over = true;
    // TLS shuts the connection down without the plain socket's knowledge; see drop().
    if (this.secure?.writableEnded === true) this.socket.destroy();
    else drop(this.socket);
    this.secure?.destroy();
  }

  private end(outcome: Outcome): void {
    if (this.over) return;
    this.cancel();
    this.done(outcome);
  }

  private fail(reason: string): void {
    this.end({ result: 'failed', reason });
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
    this.secure = secure;
    let shaken = false;
    secure.on('error', (error: NodeJS.ErrnoException) => {
      if (shaken || 'syscall' in error) this.end(outcomeOfError(error));
      else this.fail(`TLS: ${tlsReason(error)}`);
    });
    secure.once('secureConnect', () => {
      shaken = true;
      this.send(secure);
    });
  }

  private send(socket: Socket): void {
    this.stage = 'connected, but no answer';
    socket.on('data', (bytes: Buffer) => this.read(bytes));
    socket.once('end', () => {
      const problem = this.response.end();
      if (problem === '') this.judge();
      else this.fail(problem);
    });
    const { path, method, host } = this.config;
    const lines = [
      `${method} ${path} HTTP/1.1`,
      `Host: ${host ?? authority(this.endpoint)}`,
      'User-Agent: sluice-health',
      'Accept: */*',
      'Connection: close',
    ];
    // A POST says that nothing follows; other methods have no content by themselves (RFC 9110 §8.6).
    if (method === 'POST') lines.push('Content-Length: 0');
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  }

  private read(bytes: Buffer): void {
    if (this.over) return;
    const { response } = this;
    const problem = response.push(bytes);
    if (problem !== '') return this.fail(problem);
    if (response.status === 0) return;
    // A wrong status needs no body.
    if (response.done || !this.statusIsGood()) this.judge();
    else this.stage = `status ${response.status}, but no end of the body`;
  }

  private statusIsGood(): boolean {
    const { status } = this.response;
    return this.config.status.some(({ first, last }) => status >= first && status <= last);
  }

  private judge(): void {
    const { status, cut } = this.response;
    const { body } = this.config;
    if (!this.statusIsGood()) return this.fail(`status ${status}`);
    if (body === null || matches(this.response.body().toString('utf8'), body)) return this.end({ result: 'ok' });
    const seen = cut ? `the first ${MAX_BODY_BYTES / 1024} KiB of the body do` : 'the body does';
    this.fail(`${seen} not match, status ${status}`);
  }
}

/** OpenSSL's own errors have thread, code, file and line around the reason. */
function tlsReason(error: Error & { reason?: string }): string {
  return error.reason ?? error.message;
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

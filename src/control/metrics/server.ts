/** /metrics, /healthz and /readyz over HTTP: read-only, for a scraper on this host or on a management network. */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { SluiceError } from '../../errors.js';
import type { RuntimeView } from '../api/view.js';
import type { Log } from '../log.js';
import { MetricsCollector } from './collector.js';

/** Scrapes under way at a time: an answer of a large configuration is tens of megabytes until it is read. */
const MAX_SCRAPES = 4;
const MAX_CONNECTIONS = 64;
/** Longest for a request's header, and longest that a connection may stay idle or not read, ms. */
const HEADER_TIMEOUT_MS = 5_000;
const IDLE_TIMEOUT_MS = 15_000;

const TEXT = 'text/plain; charset=utf-8';

/** What is served: the daemon's `MetricsCollector`, or another program's. */
export interface Scraped {
  readonly contentType: string;
  /** The text of /metrics, UTF-8. */
  render(): Promise<Buffer>;
  /** What /readyz complains about, each in one line; [] when ready. */
  missing(): string[];
}

interface Reply {
  status: number;
  body: string | Buffer;
  type?: string;
  headers?: Record<string, string>;
}

export class MetricsServer {
  private scrapes = 0;

  private constructor(
    private readonly server: Server,
    private readonly collector: Scraped,
    private readonly log: Log,
    private readonly host: string,
  ) {}

  /**
   * Listens on a host and port (0: any free one). Throws SLUICE_STATE when the port is taken, SLUICE_PERMISSION when it
   * may not be used, SLUICE_CONFIG when the host is no address of this machine.
   */
  static listen(listen: { host: string; port: number }, view: () => RuntimeView, log: Log): Promise<MetricsServer> {
    return MetricsServer.serve(listen, new MetricsCollector(view, log), log);
  }

  /** The same for what is not the daemon. */
  static async serve(listen: { host: string; port: number }, scraped: Scraped, log: Log): Promise<MetricsServer> {
    const server = createServer({
      headersTimeout: HEADER_TIMEOUT_MS,
      requestTimeout: HEADER_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      maxHeaderSize: 8192,
    });
    server.maxConnections = MAX_CONNECTIONS;
    server.timeout = IDLE_TIMEOUT_MS;
    const metrics = new MetricsServer(server, scraped, log, listen.host);
    server.on('request', (request, response) => void metrics.answer(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(error, listen)));
      server.listen({ host: listen.host, port: listen.port, backlog: 64 }, () => {
        server.removeAllListeners('error');
        resolve();
      });
    });
    server.on('error', (error) => log.limited('metrics-accept', 1).error('metrics listener', { err: error }));
    return metrics;
  }

  /** Where it listens; the port is the one in use. */
  get address(): { host: string; port: number } {
    const { address, port } = this.server.address() as AddressInfo;
    return { host: address, port };
  }

  /** Stops listening and ends all connections. Idempotent. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let reply: Reply;
    try {
      reply = await this.reply(request, response);
    } catch (error) {
      this.log.limited('metrics-failure', 1).error('metrics: a request failed', { url: request.url, err: error });
      reply = { status: 500, body: 'internal error; the log of sluice has the details\n' };
    }
    if (response.destroyed) return;
    const bytes = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body;
    response.writeHead(reply.status, {
      'Content-Type': reply.type ?? TEXT,
      'Content-Length': bytes.length,
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      ...reply.headers,
    });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  }

  private async reply(request: IncomingMessage, response: ServerResponse): Promise<Reply> {
    if (!this.hostAllowed(request)) {
      return { status: 403, body: 'this Host is not served here: use the address that metrics.listen names\n' };
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return { status: 405, body: 'only GET and HEAD\n', headers: { Allow: 'GET, HEAD', Connection: 'close' } };
    }
    if (Number(request.headers['content-length'] ?? 0) > 0 || request.headers['transfer-encoding'] !== undefined) {
      return { status: 413, body: 'no request has a body here\n', headers: { Connection: 'close' } };
    }
    switch ((request.url ?? '').split('?', 1)[0]) {
      case '/metrics':
        return this.scrape(response);
      case '/healthz':
        return { status: 200, body: 'ok\n' };
      case '/readyz': {
        const lines = this.collector.missing();
        if (lines.length === 0) return { status: 200, body: 'ready\n' };
        return { status: 503, body: `not ready\n${lines.join('\n')}\n` };
      }
      default:
        return { status: 404, body: 'there are /metrics, /healthz and /readyz\n' };
    }
  }

  private async scrape(response: ServerResponse): Promise<Reply> {
    if (this.scrapes >= MAX_SCRAPES) {
      return { status: 503, body: `${MAX_SCRAPES} scrapes are under way\n`, headers: { 'Retry-After': '1' } };
    }
    this.scrapes++;
    // Until the client has read it, not just until it is made: unread answers are what costs memory.
    response.once('close', () => this.scrapes--);
    return { status: 200, body: await this.collector.render(), type: this.collector.contentType };
  }

  /**
   * A page in a browser can have its own name resolve to our address (DNS rebinding) and then read what we say. Its
   * requests carry that name; so only names are served that nobody else can point here, and plain addresses of ours.
   */
  private hostAllowed(request: IncomingMessage): boolean {
    const header = request.headers.host;
    // HTTP/1.0 without a Host: no browser.
    if (header === undefined) return true;
    const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]*))(?::\d{1,5})?$/i.exec(header);
    if (match === null) return false;
    const name = (match[1] ?? match[2]).toLowerCase().replace(/\.$/, '');
    if (['localhost', '127.0.0.1', '::1', this.host.toLowerCase(), hostname().toLowerCase()].includes(name))
      return true;
    const local = request.socket.localAddress?.replace(/^::ffff:/, '');
    return isIP(name) !== 0 && name === local;
  }
}

function listenError(error: NodeJS.ErrnoException, { host, port }: { host: string; port: number }): SluiceError {
  const where = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  const cause = { cause: error };
  switch (error.code) {
    case 'EADDRINUSE':
      return new SluiceError(
        'SLUICE_STATE',
        `cannot serve metrics on ${where}: the port is taken`,
        `See by whom with: ss -ltnp 'sport = :${port}'. Or set another metrics.listen.`,
        cause,
      );
    case 'EACCES':
    case 'EPERM':
      return new SluiceError(
        'SLUICE_PERMISSION',
        `may not serve metrics on ${where}`,
        'Ports below 1024 need CAP_NET_BIND_SERVICE; set another metrics.listen.',
        cause,
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new SluiceError(
        'SLUICE_CONFIG',
        `cannot serve metrics on ${where}: that is no address of this machine`,
        'Set metrics.listen to one of those that "ip address" shows, or to 127.0.0.1.',
        cause,
      );
    default:
      return new SluiceError('SLUICE_STATE', `cannot serve metrics on ${where}: ${error.message}`, '', cause);
  }
}

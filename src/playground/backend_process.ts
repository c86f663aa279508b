/**
 * A backend host in one process: the XDP decapsulator on its interface, an HTTP server and an echo over UDP and TCP, all behind
 * the VIP.
 *
 * HTTP answers say who answered and whom: `{"backend":"b1","client":"10.77.0.1:40112","received":0}`. The echo answers
 * "b1 " and what it got (over TCP: each line), from the VIP, because its sockets are bound to the VIP or to none.
 */
import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server } from 'node:http';
import { createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { BackendAgent } from '../control/agent/agent.js';
import { Decapsulator, type DecapOptions, type DecapStats } from '../control/agent/decapsulator.js';
import { resolveSettings, type RawSettings } from '../control/agent/settings.js';
import { childOptions, emit, serve } from './child.js';
import { splitLines } from './process.js';

export interface BackendOptions {
  name: string;
  /** Local addresses that the UDP echo binds to: the VIPs. The TCP echo listens on all. */
  vips: string[];
  httpPort: number;
  echoPort: number;
  /** null: no decapsulation, for tests of the plain network. */
  decap: DecapOptions | null;
  /** In place of `decap`: a whole agent, as `sluice backend-agent` is. */
  agent?: RawSettings;
  /** Goes on when the parent is gone. */
  independent: boolean;
}

export interface BackendStats {
  type: 'stats';
  requests: number;
  connections: number;
  /** Datagrams and lines. */
  echoed: number;
  /** Connections that are open now, over HTTP and to the echo. */
  open: number;
  decap: DecapStats | null;
}

/** HTTP answer's body. */
export interface BackendAnswer {
  backend: string;
  /** "address:port" that the server saw. */
  client: string;
  /** Bytes of the request's body. */
  received: number;
}

const options = childOptions<BackendOptions>();
let requests = 0;
let connections = 0;
let echoed = 0;
let open = 0;

function track(server: Server | TcpServer): void {
  server.on('connection', (socket) => {
    connections++;
    open++;
    socket.once('close', () => open--);
  });
}

function httpServer(): Server {
  const server = createServer((request, response) => {
    let received = 0;
    request.on('data', (chunk: Buffer) => (received += chunk.length));
    request.on('end', () => {
      requests++;
      const { remoteAddress, remotePort } = request.socket;
      const answer: BackendAnswer = {
        backend: options.name,
        client: `${remoteAddress?.replace(/^::ffff:/, '')}:${remotePort}`,
        received,
      };
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(answer) + '\n');
    });
  });
  track(server);
  // A connection that ends in a test must have been broken by the network, never by this server's impatience.
  server.keepAliveTimeout = 600_000;
  server.requestTimeout = 0;
  server.headersTimeout = 600_000;
  return server;
}

function echo(vip: string): Promise<Socket> {
  const socket = createSocket(vip.includes(':') ? 'udp6' : 'udp4');
  const prefix = Buffer.from(`${options.name} `);
  socket.on('message', (message, from) => {
    echoed++;
    socket.send([prefix, message], from.port, from.address, () => undefined);
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(options.echoPort, vip, () => {
      // A datagram that cannot be answered (the client is gone) is no reason to end.
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

function lineEcho(): TcpServer {
  const server = createTcpServer((socket) => {
    // Its end is told by the client, who counts it.
    socket.on('error', () => undefined);
    socket.setNoDelay(true);
    splitLines(socket, (line) => {
      echoed++;
      socket.write(`${options.name} ${line}\n`);
    });
  });
  track(server);
  return server;
}

function listen(server: Server | TcpServer, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '::', 1024, resolve);
  });
}

const agent = options.agent
  ? await BackendAgent.start(resolveSettings(options.agent), (text, level) => {
      if (level === 'warning') process.stderr.write(`${text}\n`);
    })
  : null;
const decapsulator = options.decap ? new Decapsulator(options.decap) : null;
await listen(httpServer(), options.httpPort);
await listen(lineEcho(), options.echoPort);
await Promise.all(options.vips.map(echo));

serve(
  (request) => {
    if (request.op !== 'stats') return;
    const stats: BackendStats = {
      type: 'stats',
      requests,
      connections,
      echoed,
      open,
      decap: (agent ?? decapsulator)?.stats() ?? null,
    };
    emit(stats);
  },
  options.independent ? () => undefined : undefined,
  async () => agent?.close(),
);
emit({ type: 'ready' });

/**
 * A backend host in one process: the XDP decapsulator on its interface, an HTTP server and a UDP echo, both behind the VIP.
 *
 * HTTP answers say who answered and whom: `{"backend":"b1","client":"10.77.0.1:40112","received":0}`. The echo answers
 * "b1 " and what it got, from the VIP, because its socket is bound to the VIP.
 */
import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server } from 'node:http';
import { Decapsulator, type DecapOptions, type DecapStats } from '../control/agent/decapsulator.js';
import { childOptions, emit, serve } from './child.js';

export interface BackendOptions {
  name: string;
  /** Local addresses that the UDP echo binds to: the VIPs. */
  vips: string[];
  httpPort: number;
  echoPort: number;
  /** null: no decapsulation, for tests of the plain network. */
  decap: DecapOptions | null;
  /** Goes on when the parent is gone. */
  independent: boolean;
}

export interface BackendStats {
  type: 'stats';
  requests: number;
  connections: number;
  echoed: number;
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
  server.on('connection', () => connections++);
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

const decapsulator = options.decap ? new Decapsulator(options.decap) : null;
const server = httpServer();
await new Promise<void>((resolve, reject) => {
  server.once('error', reject);
  server.listen(options.httpPort, '::', 1024, resolve);
});
await Promise.all(options.vips.map(echo));

serve(
  (request) => {
    if (request.op !== 'stats') return;
    const stats: BackendStats = {
      type: 'stats',
      requests,
      connections,
      echoed,
      decap: decapsulator ? decapsulator.stats() : null,
    };
    emit(stats);
  },
  options.independent ? () => undefined : undefined,
);
emit({ type: 'ready' });

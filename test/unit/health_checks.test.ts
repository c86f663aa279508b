/** Each kind of check against a server that is well, wrong, silent, or hostile, on loopback. No socket outlives its check. */
import { execFileSync } from 'node:child_process';
import { createSocket, type Socket as Datagrams } from 'node:dgram';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { startCheck, runCheck } from '../../src/control/health/run_check.js';
import type { CheckConfig, HttpCheckConfig } from '../../src/shared/health_config.js';

const HTTP: HttpCheckConfig = {
  type: 'http',
  path: '/health',
  method: 'GET',
  host: null,
  status: [{ first: 200, last: 399 }],
  body: null,
  tls: null,
};

/** "ok", "failed: why" or "skipped: why". */
function check(
  config: CheckConfig,
  port: number,
  more: { timeoutMs?: number; host?: string; localPort?: number } = {},
) {
  const host = more.host ?? '127.0.0.1';
  const endpoint = { host, family: host.includes(':') ? (6 as const) : (4 as const), port, localPort: more.localPort };
  return new Promise<string>((resolve) => {
    runCheck(
      startCheck,
      endpoint,
      config,
      more.timeoutMs ?? 10_000,
      () => performance.now(),
      (outcome) => resolve(outcome.result === 'ok' ? 'ok' : `${outcome.result}: ${outcome.reason}`),
    );
  });
}

/** Listens until the test is over. */
async function listening(server: Server, host = '127.0.0.1'): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

const http = (answer: RequestListener) => listening(createHttpServer(answer));
const tcp = (serve: (socket: Socket) => void) => listening(createServer(serve));

async function udp(answer: (socket: Datagrams, message: Buffer, port: number) => void): Promise<number> {
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => answer(socket, message, from.port));
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  onTestFinished(() => void socket.close());
  return socket.address().port;
}

/** A port on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A certificate for www.example.com that nobody but we know. */
let pems: { key: Buffer; cert: Buffer };

beforeAll(() => {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-health-'));
  const files = ['-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  const subject = ['-subj', '/CN=www.example.com', '-addext', 'subjectAltName=DNS:www.example.com'];
  execFileSync('openssl', ['req', '-x509', ...curve, ...subject, ...files], { stdio: 'ignore' });
  const pem = (name: string) => readFileSync(join(directory, `${name}.pem`));
  pems = { key: pem('key'), cert: pem('cert') };
  rmSync(directory, { recursive: true });
});

afterEach(async () => {
  // Handles are closed in the next turn of the loop; servers of the test are closed by now or after it.
  await new Promise((resolve) => setTimeout(resolve, 20));
});

describe('tcp', () => {
  it('is good when the handshake is complete, and leaves by a reset', async () => {
    const ends: string[] = [];
    const port = await tcp((socket) =>
      socket.on('error', ({ message }) => ends.push(message)).on('end', () => ends.push('FIN')),
    );
    expect(await check({ type: 'tcp' }, port)).toBe('ok');
    await expect.poll(() => ends).toEqual(['read ECONNRESET']);
  });

  it('is good also when the reset after the handshake is what is heard of first', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const result = check({ type: 'tcp' }, (server.address() as AddressInfo).port);
    // The kernel has shaken hands by then, and resets what nobody has accepted.
    process.nextTick(() => server.close());
    expect(await result).toBe('ok');
  });

  it('says what is wrong: refused, silent, no way', async () => {
    expect(await check({ type: 'tcp' }, await closedPort())).toBe('failed: connection refused');
    // A blackhole on every machine: the local net has no such neighbour, and 240.0.0.0/4 no route at all.
    expect(await check({ type: 'tcp' }, 9, { host: '192.0.2.1', timeoutMs: 100 })).toMatch(
      /^failed: (no connection within 100 ms|no route to host|network is unreachable|connection refused)$/,
    );
  });

  it('blames this node for a port of its own that is taken', async () => {
    const taken = await tcp(() => undefined);
    const port = await tcp(() => undefined);
    expect(await check({ type: 'tcp' }, port, { localPort: taken })).toMatch(/^skipped: this node: .*EADDRINUSE/);
  });

  it('speaks IPv6', async () => {
    const port = await listening(createServer(), '::1');
    expect(await check({ type: 'tcp' }, port, { host: '::1' })).toBe('ok');
  });
});

describe('http', () => {
  it('sends what a server wants to see', async () => {
    let seen: unknown;
    const port = await http((request, response) => {
      const { method, url, headers } = request;
      seen = { method, url, ...headers };
      response.end();
    });
    expect(await check(HTTP, port)).toBe('ok');
    expect(seen).toEqual({
      method: 'GET',
      url: '/health',
      host: `127.0.0.1:${port}`,
      'user-agent': 'sluice-health',
      accept: '*/*',
      connection: 'close',
    });
    expect(await check({ ...HTTP, host: 'www.example.com', method: 'HEAD' }, port)).toBe('ok');
    expect(seen).toMatchObject({ method: 'HEAD', host: 'www.example.com' });
  });

  it.each([
    [200, [{ first: 200, last: 399 }], 'ok'],
    [302, [{ first: 200, last: 399 }], 'ok'],
    [404, [{ first: 200, last: 399 }], 'failed: status 404'],
    [503, [{ first: 200, last: 399 }], 'failed: status 503'],
    [
      401,
      [
        { first: 200, last: 200 },
        { first: 401, last: 401 },
      ],
      'ok',
    ],
  ])('judges status %i', async (status, wanted, expected) => {
    const port = await http((_, response) => response.writeHead(status).end('x'));
    expect(await check({ ...HTTP, status: wanted }, port)).toBe(expected);
  });

  const text = (wanted: string) => ({ ...HTTP, body: { kind: 'text' as const, text: wanted } });
  const regex = (source: string, flags = '') => ({ ...HTTP, body: { kind: 'regex' as const, source, flags } });

  it('looks for text or a pattern in the body, also of a chunked one in many pieces', async () => {
    const port = await http((_, response) => {
      response.write('all ');
      setTimeout(() => response.end('is wéll\nOK'), 5);
    });
    expect(await check(text('is wéll'), port)).toBe('ok');
    expect(await check(text('is ill'), port)).toBe('failed: the body does not match, status 200');
    expect(await check(regex('^ok$', 'im'), port)).toBe('ok');
    expect(await check(regex('^ok$'), port)).toBe('failed: the body does not match, status 200');
  });

  it('reads 64 KiB of a body that never ends, and no more', async () => {
    let written = 0;
    const port = await http((_, response) => {
      const more = (): void => {
        while (!response.destroyed && written < 50e6 && response.write(Buffer.alloc(16384, 'x'))) written += 16384;
      };
      response.on('drain', more);
      more();
    });
    expect(await check(text('y'), port)).toBe('failed: the first 64 KiB of the body do not match, status 200');
    expect(written).toBeLessThan(20e6);
  });

  it('says how far a silent server came', async () => {
    const silent = await tcp(() => undefined);
    expect(await check(HTTP, silent, { timeoutMs: 100 })).toBe('failed: connected, but no answer within 100 ms');
    const half = await http((_, response) => void response.write('x'));
    expect(await check(text('y'), half, { timeoutMs: 100 })).toBe(
      'failed: status 200, but no end of the body within 100 ms',
    );
  });

  it('is not taken in by what is not HTTP, or breaks off', async () => {
    const other = await tcp((socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n'));
    expect(await check(HTTP, other)).toBe('failed: not HTTP: "SSH-2.0-OpenSSH_9.2\\r\\n"');
    const closed = await tcp((socket) => socket.on('data', () => socket.end()));
    expect(await check(HTTP, closed)).toBe('failed: connection closed without an answer');
    const cut = await tcp((socket) =>
      socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc')),
    );
    expect(await check(text('abc'), cut)).toBe('failed: connection closed in the body');
    expect(await check(HTTP, cut)).toBe('ok');
    const huge = await tcp((socket) => socket.end(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`));
    expect(await check(HTTP, huge)).toBe('failed: a header of more than 16 KiB');
  });
});

describe('https', () => {
  const names: (string | false | null)[] = [];
  const serve = () => {
    names.length = 0;
    const server = createHttpsServer(pems, (_, response) => response.end('secret'));
    server.on('secureConnection', (socket) => names.push(socket.servername));
    server.on('tlsClientError', () => undefined);
    return listening(server);
  };
  const https = (verify: boolean, serverName: string | null, host: string | null = null): HttpCheckConfig => ({
    ...HTTP,
    type: 'https',
    host,
    body: { kind: 'text', text: 'secret' },
    tls: { verify, serverName },
  });

  it('asks by server name, and refuses a certificate that nobody vouches for', async () => {
    const port = await serve();
    expect(await check(https(false, 'www.example.com'), port)).toBe('ok');
    expect(await check(https(false, null, 'other.example:8443'), port)).toBe('ok');
    expect(await check(https(false, null), port)).toBe('ok');
    expect(names).toEqual(['www.example.com', 'other.example', false]);
    expect(await check(https(true, 'www.example.com'), port)).toBe('failed: TLS: self-signed certificate');
  });

  it('says so when the other end speaks no TLS, or nothing', async () => {
    const plain = await http((_, response) => response.end());
    expect(await check(https(false, null), plain)).toMatch(/^failed: (TLS: wrong version number|connection reset)$/);
    const silent = await tcp(() => undefined);
    expect(await check(https(false, null), silent, { timeoutMs: 100 })).toBe(
      'failed: connected, but no TLS handshake within 100 ms',
    );
  });
});

describe('udp', () => {
  const probe = (expected: string | null): CheckConfig => ({
    type: 'udp',
    request: Buffer.from('ping'),
    expect: expected === null ? null : Buffer.from(expected),
  });

  it('is good when the answer has what is expected in it', async () => {
    const port = await udp((socket, message, to) => socket.send(`re: ${message.toString()}`, to, '127.0.0.1'));
    expect(await check(probe(null), port)).toBe('ok');
    expect(await check(probe('ping'), port)).toBe('ok');
    expect(await check(probe('pong'), port)).toBe('failed: the answer of 8 bytes has not what is expected');
  });

  it('tells a closed port from a silent one', async () => {
    const closed = await udp(() => undefined);
    expect(await check(probe(null), closed, { timeoutMs: 100 })).toBe('failed: no answer within 100 ms');
    expect(await check(probe(null), await closedPort(), { timeoutMs: 100 })).toBe('failed: connection refused');
  });
});

describe('all of them', () => {
  const descriptors = () => readdirSync('/proc/self/fd').length;

  it('leave no socket behind, whatever came of it', async () => {
    // Reads, so that it sees the other end go.
    const silent = await tcp((socket) => socket.resume());
    const good = await http((_, response) => response.end('x'));
    const mute = await udp(() => undefined);
    // Servers that end the connection: before, while and after they answer, and behind TLS.
    const closed = await tcp((socket) => socket.on('data', () => socket.end()));
    const cut = await tcp((socket) => socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\n\r\nx')));
    const secure = await listening(createHttpsServer(pems, (_, response) => response.end('x')));
    const rude = await listening(createTlsServer(pems, (socket) => socket.end()));
    await new Promise((resolve) => setTimeout(resolve, 30));
    const before = descriptors();
    const tls = { verify: false, serverName: null };
    const runs: Promise<string>[] = [];
    const body = { kind: 'text' as const, text: 'x' };
    for (let i = 0; i < 20; i++) {
      runs.push(check({ type: 'tcp' }, good), check(HTTP, good), check(HTTP, silent, { timeoutMs: 50 }));
      runs.push(check({ ...HTTP, body }, good), check({ ...HTTP, body }, cut), check(HTTP, closed));
      runs.push(check({ ...HTTP, type: 'https', tls, body }, secure), check({ ...HTTP, type: 'https', tls }, rude));
      runs.push(check({ ...HTTP, type: 'https', tls }, silent, { timeoutMs: 50 }));
      runs.push(check({ ...HTTP, type: 'https', tls }, good));
      runs.push(check({ type: 'udp', request: new Uint8Array(1), expect: null }, mute, { timeoutMs: 50 }));
    }
    const results = await Promise.all(runs);
    expect(results.filter((result) => result === 'ok')).toHaveLength(100);
    await expect.poll(descriptors).toBe(before);
  });
});

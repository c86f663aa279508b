import { connect } from 'node:net';
import { request as httpRequest } from 'node:http';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLog } from '../../src/control/log.js';
import { MetricsServer } from '../../src/control/metrics/server.js';
import type { RuntimeView } from '../../src/control/api/view.js';
import { parseExposition } from '../support/exposition.js';
import { fakeBackend, fakeService, fakeView } from '../support/fake_view.js';

describe('the server', () => {
  let view: RuntimeView;
  let server: MetricsServer;
  let logged: string;
  const log = createLog({
    level: 'info',
    format: 'json',
    stream: new Writable({ write: (chunk, _, done) => ((logged += String(chunk)), done()) }),
  });

  beforeEach(async () => {
    logged = '';
    view = fakeView();
    server = await MetricsServer.listen({ host: '127.0.0.1', port: 0 }, () => view, log);
  });
  afterEach(() => server.close());

  interface Answer {
    status: number;
    headers: Record<string, string | string[] | undefined>;
    body: string;
  }

  function ask(path: string, options: { method?: string; host?: string; body?: string } = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          host: '127.0.0.1',
          port: server.address.port,
          path,
          method: options.method ?? 'GET',
          headers: {
            ...(options.host === undefined ? {} : { Host: options.host }),
            ...(options.body === undefined ? {} : { 'Content-Length': options.body.length }),
          },
        },
        (response) => {
          let body = '';
          response.on('data', (chunk) => (body += String(chunk)));
          response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
        },
      );
      request.on('error', reject);
      request.end(options.body);
    });
  }

  it('gives metrics with prom-client’s content type and a length', async () => {
    const { status, headers, body } = await ask('/metrics?x=1');
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(headers['content-length']).toBe(String(Buffer.byteLength(body)));
    expect(parseExposition(body).samples.get('sluice_log_lines_lost_total{cause="stalled"}')).toBe(0);
  });

  it('answers HEAD with the headers alone', async () => {
    const { status, headers, body } = await ask('/metrics', { method: 'HEAD' });
    expect([status, body]).toEqual([200, '']);
    expect(Number(headers['content-length'])).toBeGreaterThan(1000);
  });

  it('is healthy while it answers, and ready when all serve; else it names what is missing', async () => {
    expect(await ask('/healthz')).toMatchObject({ status: 200, body: 'ok\n' });
    expect(await ask('/readyz')).toMatchObject({ status: 200, body: 'ready\n' });
    view = fakeView({ workers: [{ ...view.workers[0], up: false, problem: 'queue 0 is busy' }] });
    expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'not ready\nworker 0 is down: queue 0 is busy\n' });
    expect((await ask('/healthz')).status).toBe(200);
  });

  it.each<[string, string, number]>([
    ['GET', '/', 404],
    ['GET', '/metrics/', 404],
    ['GET', '/../metrics', 404],
    ['POST', '/metrics', 405],
    ['DELETE', '/anything', 405],
    ['OPTIONS', '*', 405],
    ['PUT', '/healthz', 405],
  ])('answers %s %s with %i', async (method, path, status) => {
    const answer = await ask(path, { method });
    expect(answer.status).toBe(status);
    expect(answer.headers.allow).toBe(status === 405 ? 'GET, HEAD' : undefined);
  });

  it('takes no body', async () => {
    expect((await ask('/metrics', { method: 'GET', body: 'x'.repeat(100) })).status).toBe(413);
  });

  it.each<[string, number]>([
    ['127.0.0.1', 200],
    ['localhost:9100', 200],
    ['LOCALHOST.', 200],
    ['[::1]:9100', 200],
    ['evil.example', 403],
    ['evil.example:80', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example', 403],
    ['192.0.2.9', 403],
    [':80', 403],
    ['localhost:80:80', 403],
  ])('serves the Host %s with %i', async (host, status) => {
    expect((await ask('/healthz', { host })).status).toBe(status);
  });

  it('on a wildcard address serves plain addresses that are its own, and still no foreign name', async () => {
    await server.close();
    server = await MetricsServer.listen({ host: '0.0.0.0', port: 0 }, () => view, log);
    expect((await ask('/healthz', { host: `127.0.0.1:${server.address.port}` })).status).toBe(200);
    expect((await ask('/healthz', { host: '198.51.100.1' })).status).toBe(403);
    expect((await ask('/healthz', { host: 'evil.example' })).status).toBe(403);
  });

  it('tells a client nothing of a failure inside, logs it, and goes on', async () => {
    view = new Proxy(view, {
      get(target, key) {
        if (key === 'services') throw new Error('boom');
        return Reflect.get(target, key) as unknown;
      },
    });
    const { status, body } = await ask('/metrics');
    expect(status).toBe(500);
    expect(body).not.toContain('boom');
    expect(logged).toContain('boom');
    expect((await ask('/healthz')).status).toBe(200);
  });

  it('closes a connection whose header does not come to an end', async () => {
    const socket = connect(server.address.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n');
    const start = performance.now();
    let answer = '';
    socket.on('data', (chunk) => (answer += String(chunk)));
    await new Promise((resolve) => socket.on('close', resolve));
    expect(answer).toContain('408');
    expect(performance.now() - start).toBeLessThan(15_000);
  });

  it('makes only so many scrapes for clients that do not read, and is free again when they go', async () => {
    view = fakeView({
      services: Array.from({ length: 5000 }, (_, s) =>
        fakeService(s, `s${s}`, [fakeBackend(2 * s), fakeBackend(2 * s + 1)]),
      ),
    });
    const lazy = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const socket = connect(server.address.port, '127.0.0.1');
        socket.on('error', () => undefined);
        socket.pause();
        await new Promise((resolve) => socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n', resolve));
        return socket;
      }),
    );
    await expect.poll(async () => (await ask('/metrics')).status).toBe(503);
    lazy.forEach((socket) => socket.destroy());
    await expect.poll(async () => (await ask('/metrics')).status).toBe(200);
  });

  it('says which port is taken, and that a foreign address cannot be listened on', async () => {
    const taken = MetricsServer.listen({ host: '127.0.0.1', port: server.address.port }, () => view, log);
    await expect(taken).rejects.toMatchObject({
      code: 'SLUICE_STATE',
      message: `cannot serve metrics on 127.0.0.1:${server.address.port}: the port is taken`,
    });
    const foreign = MetricsServer.listen({ host: '192.0.2.77', port: 0 }, () => view, log);
    await expect(foreign).rejects.toMatchObject({ code: 'SLUICE_CONFIG' });
  });
});

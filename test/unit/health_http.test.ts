/** The reader of HTTP responses: the same whatever the pieces they come in, and a word for everything that is wrong. */
import { describe, expect, it } from 'vitest';
import { MAX_BODY_BYTES, ResponseReader } from '../../src/control/health/checks/http_response.js';

const crlf = (text: string) => text.replaceAll('\n', '\r\n');

/** "status body", or what is wrong; the connection is closed at the end. */
function read(text: string, piece: number, wantBody = true): string {
  const reader = new ResponseReader(wantBody);
  const bytes = Buffer.from(text, 'latin1');
  for (let at = 0; at < bytes.length; at += piece) {
    const problem = reader.push(bytes.subarray(at, at + piece));
    if (problem !== '') return problem;
  }
  return reader.end() || `${reader.status} ${reader.body().toString('latin1')}`;
}

describe('a response', () => {
  it.each([
    ['HTTP/1.1 200 OK\nContent-Length: 5\n\nhello', '200 hello'],
    ['HTTP/1.1 200 OK\nContent-Length: 5\n\nhello and what follows', '200 hello'],
    ['HTTP/1.0 200\n\nuntil the end', '200 until the end'],
    ['HTTP/1.1 204 No Content\n\n', '204 '],
    ['HTTP/1.1 200 OK\ncontent-length:0\n\n', '200 '],
    ['HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 503 Down\nContent-Length: 1\n\nx', '503 x'],
    [
      'HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n3;a=b\nabc\nA \n0123456789\n0\nTrailer: x\n\n',
      '200 abc0123456789',
    ],
    // Chunked wins over a length (RFC 9112 §6.3).
    ['HTTP/1.1 200 OK\nContent-Length: 99\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n', '200 x'],
    ['SSH-2.0-OpenSSH\n', 'not HTTP: "SSH-2.0-OpenSSH\\r\\n"'],
    ['HTTP/2.0 200 OK\n\n', expect.stringMatching(/^not HTTP: "HTTP\/2/)],
    ['HTTP/1.1 200OK\n\n', expect.stringMatching(/^not HTTP: "HTTP\/1.1 200OK/)],
    ['', 'connection closed without an answer'],
    ['HTTP/1.1 200 OK\nContent-', 'connection closed in the header'],
    ['HTTP/1.1 200 OK\nContent-Length: 5\n\nhell', 'connection closed in the body'],
    ['HTTP/1.1 200 OK\nContent-Length: -5\n\nhell', 'a content-length of "-5"'],
    ['HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nxyz\n', 'a chunk size that is none'],
    ['HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nabcd\n', 'a chunk of another length than it says'],
    [`HTTP/1.1 200 OK\nX: ${'x'.repeat(20_000)}\n\n`, 'a header of more than 16 KiB'],
    [`HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n${'1'.repeat(2000)}`, 'a chunk size without an end'],
  ])('%j', (text, expected) => {
    const whole = read(crlf(text), 1 << 20);
    expect(whole).toEqual(expected);
    // What is quoted of something wrong depends on how much of it has come.
    for (const piece of [1, 2, 3, 7, 64]) {
      const inPieces = read(crlf(text), piece);
      if (whole.startsWith('not HTTP')) expect(inPieces).toMatch(/^not HTTP/);
      else expect(inPieces).toBe(whole);
    }
    // Lines may end in LF alone.
    if (!whole.startsWith('not HTTP')) expect(read(text, 5)).toBe(whole);
  });

  it('is done after its head when nobody wants the body', () => {
    expect(read(crlf('HTTP/1.1 200 OK\nContent-Length: 500\n\n'), 9, false)).toBe('200 ');
  });

  it('has a body of 64 KiB at most, however it is sent', () => {
    for (const head of ['Content-Length: 999999\n\n', 'Transfer-Encoding: chunked\n\nfffff\n', '\n']) {
      const reader = new ResponseReader(true);
      reader.push(Buffer.from(crlf(`HTTP/1.1 200 OK\n${head}`)));
      for (let i = 0; i < 70 && !reader.done; i++) reader.push(Buffer.alloc(1000, 'x'));
      expect([reader.done, reader.cut, reader.body().length]).toEqual([true, true, MAX_BODY_BYTES]);
    }
  });

  it('never throws and never hangs, whatever the bytes', () => {
    let seed = 5;
    const random = (below: number) => (seed = (Math.imul(seed, 48271) >>> 0) % 0x7fffffff) % below;
    const valid = Buffer.from(crlf('HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n5\nabcde\n0\n\n'));
    for (let i = 0; i < 20_000; i++) {
      const bytes = Buffer.from(valid);
      for (let flips = random(5); flips > 0; flips--) bytes[random(bytes.length)] = random(256);
      const result = read(bytes.toString('latin1'), 1 + random(20));
      expect(result.length).toBeGreaterThan(0);
    }
  });
});

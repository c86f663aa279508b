/**
 * Reads one HTTP/1 response (RFC 9112) as far as a check needs it: status, and the beginning of the body.
 *
 * Not Node's own client: that one pools parsers and ends connections by its own rules, while a check has to break off at any
 * moment, in the middle of a response, with a reset, thousands of times a second.
 */

/** What of a body is read and searched; the rest is left. */
export const MAX_BODY_BYTES = 64 * 1024;
/** Status line and header fields; Node's and nginx's limits are of this size. */
const MAX_HEAD_BYTES = 16 * 1024;
const MAX_CHUNK_LINE_BYTES = 1024;

type State = 'head' | 'length' | 'chunk size' | 'chunk' | 'chunk end' | 'until close' | 'done';

export class ResponseReader {
  /** 0 until the head is complete. */
  status = 0;
  private state: State = 'head';
  /** Read, and not understood yet. */
  private pending: Buffer = Buffer.alloc(0);
  /** Bytes of the body, or of the chunk, that are still to come. */
  private left = 0;
  private readonly parts: Buffer[] = [];
  private bodyBytes = 0;

  /** @param wantBody false: it is done after the head */
  constructor(private readonly wantBody: boolean) {}

  get done(): boolean {
    return this.state === 'done';
  }

  /** At most MAX_BODY_BYTES of it. */
  body(): Buffer {
    return Buffer.concat(this.parts).subarray(0, MAX_BODY_BYTES);
  }

  /** Whether the body went on beyond what was read of it. */
  get cut(): boolean {
    return this.bodyBytes >= MAX_BODY_BYTES;
  }

  /** Takes what has come. Returns what is wrong with it, or ''. */
  push(bytes: Buffer): string {
    if (this.done) return '';
    this.pending = this.pending.length === 0 ? bytes : Buffer.concat([this.pending, bytes]);
    for (;;) {
      const before = this.state;
      const length = this.pending.length;
      const problem = this.step();
      if (problem !== '' || this.done) return problem;
      if (this.state === before && this.pending.length === length) return '';
    }
  }

  /** The other end has closed. Returns what is missing, or ''. */
  end(): string {
    if (this.state === 'until close') this.state = 'done';
    if (this.done) return '';
    if (this.state === 'head') {
      return this.pending.length === 0 ? 'connection closed without an answer' : 'connection closed in the header';
    }
    return 'connection closed in the body';
  }

  private step(): string {
    switch (this.state) {
      case 'head':
        return this.readHead();
      case 'length':
      case 'chunk':
      case 'until close':
        this.readData();
        return '';
      case 'chunk size':
        return this.readChunkSize();
      case 'chunk end':
        return this.readChunkEnd();
      case 'done':
        return '';
    }
  }

  private readHead(): string {
    // A lone LF ends a line, too (§2.2).
    const text = this.pending.toString('latin1', 0, MAX_HEAD_BYTES);
    const end = /\r?\n\r?\n/.exec(text);
    const first = /^HTTP\/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?(?:\r?\n|$)/.exec(text);
    if (first === null && (end !== null || /\n/.test(text) || !'HTTP/1.'.startsWith(text.slice(0, 7)))) {
      return `not HTTP: ${JSON.stringify(text.slice(0, 40))}`;
    }
    if (end === null) return text.length < MAX_HEAD_BYTES ? '' : `a header of more than ${MAX_HEAD_BYTES / 1024} KiB`;
    this.pending = this.pending.subarray(end.index + end[0].length);
    const status = Number(first![1]);
    // Interim responses come before the one that counts (RFC 9110 §15.2).
    if (status < 200 && status !== 101) return '';
    this.status = status;
    return this.readFraming(text.slice(0, end.index));
  }

  /** How the body ends (§6.3). */
  private readFraming(head: string): string {
    if (!this.wantBody || this.status === 204 || this.status === 304) this.state = 'done';
    else if (/^transfer-encoding:.*\bchunked[ \t]*$/im.test(head)) this.state = 'chunk size';
    else {
      const field = /^content-length:[ \t]*(.*?)[ \t]*\r?$/im.exec(head);
      if (field === null) this.state = 'until close';
      else {
        if (!/^\d{1,15}$/.test(field[1])) return `a content-length of ${JSON.stringify(field[1].slice(0, 40))}`;
        this.left = Number(field[1]);
        this.state = this.left === 0 ? 'done' : 'length';
      }
    }
    return '';
  }

  private readData(): void {
    const bounded = this.state !== 'until close';
    const data = bounded ? this.pending.subarray(0, this.left) : this.pending;
    this.pending = this.pending.subarray(data.length);
    this.left -= data.length;
    this.parts.push(data);
    this.bodyBytes += data.length;
    if (this.cut) this.state = 'done';
    else if (bounded && this.left === 0) this.state = this.state === 'chunk' ? 'chunk end' : 'done';
  }

  /** Size in hex, perhaps with extensions (§7.1). */
  private readChunkSize(): string {
    const end = this.pending.indexOf('\n');
    if (end < 0) return this.pending.length > MAX_CHUNK_LINE_BYTES ? 'a chunk size without an end' : '';
    const size = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?\r?$/i.exec(this.pending.toString('latin1', 0, end));
    if (size === null) return 'a chunk size that is none';
    this.pending = this.pending.subarray(end + 1);
    this.left = parseInt(size[1], 16);
    // Trailer fields may follow the last chunk, and say nothing of the body.
    this.state = this.left === 0 ? 'done' : 'chunk';
    return '';
  }

  private readChunkEnd(): string {
    if (this.pending.length === 0 || (this.pending.length === 1 && this.pending[0] === 0x0d)) return '';
    const bytes = this.pending[0] === 0x0d ? 2 : 1;
    if (this.pending[bytes - 1] !== 0x0a) return 'a chunk of another length than it says';
    this.pending = this.pending.subarray(bytes);
    this.state = 'chunk size';
    return '';
  }
}

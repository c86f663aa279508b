import type { Writable } from 'node:stream';

/** Lets lines through to a stream while its reader keeps up. For pino: an object with `write(line)`. */
export class CappedSink {
  /** Lines dropped since the start. */
  dropped = 0;
  private unreported = 0;
  private broken = false;

  /**
   * @param maxBufferedBytes lines are dropped while more than this waits in the stream
   * @param format makes another line of pino's JSON line; null: as it is
   * @param now Unix time in ms
   */
  constructor(
    private readonly stream: Writable,
    private readonly maxBufferedBytes: number,
    private readonly format: ((json: string) => string) | null,
    private readonly now: () => number,
  ) {
    // A reader that has gone (EPIPE) must not take the daemon with it.
    stream.on('error', () => {
      this.broken = true;
    });
    stream.on('drain', () => this.report());
  }

  write(json: string): void {
    if (this.broken || this.stream.destroyed || this.stream.writableLength > this.maxBufferedBytes) {
      this.dropped++;
      this.unreported++;
      return;
    }
    this.report();
    this.stream.write(this.format === null ? json : this.format(json));
  }

  /** Says how many lines are missing, once there is room to say it. */
  private report(): void {
    if (this.unreported === 0 || this.broken) return;
    const line = {
      level: 'warn',
      time: this.now(),
      lines: this.unreported,
      msg: 'log lines dropped: the reader stalled',
    };
    this.unreported = 0;
    const json = `${JSON.stringify(line)}\n`;
    this.stream.write(this.format === null ? json : this.format(json));
  }
}

/**
 * Node writes to a terminal with a blocking write(2): a terminal that takes nothing (Ctrl-S, a dead ssh session) would
 * stop the whole control plane. libuv has opened the terminal anew for this process, so nobody else's descriptor changes.
 * Node has no public call for it; where the handle is another, writes go on blocking.
 */
export function neverBlock(stream: Writable & { isTTY?: boolean }): void {
  const { _handle: handle } = stream as { _handle?: { setBlocking?: (blocking: boolean) => unknown } };
  if (stream.isTTY === true) handle?.setBlocking?.(false);
}

/** "12:34:56.789 WARN  message  key=value" from a line of pino's. A line that is no JSON comes back as it is. */
export function textLine(json: string): string {
  let line: Record<string, unknown>;
  try {
    line = JSON.parse(json) as Record<string, unknown>;
  } catch {
    return json;
  }
  const { level, time, msg, err, ...fields } = line;
  const clock = new Date(Number(time)).toISOString().slice(11, 23);
  const parts = [`${clock} ${String(level).toUpperCase().padEnd(5)} ${printable(String(msg ?? ''))}`];
  for (const [key, value] of Object.entries(fields)) parts.push(printable(`${key}=${fieldText(value)}`));
  return `${parts.join('  ')}\n${err === undefined ? '' : errorLines(err as Record<string, unknown>)}`;
}

function fieldText(value: unknown): string {
  if (typeof value === 'string') return /^[\w.:/@+-]+$/.test(value) ? value : JSON.stringify(value);
  return JSON.stringify(value);
}

function errorLines(error: Record<string, unknown>): string {
  const { message, code, remedy, stack } = error;
  const first = `${code === undefined ? '' : `${String(code)}: `}${String(message)}`;
  const lines = typeof stack === 'string' ? stack.split('\n') : [first];
  if (remedy) lines.push(String(remedy));
  return lines.map((line) => `             ${printable(line)}\n`).join('');
}

/** Control characters as escapes: a log line is one line, and moves no cursor. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

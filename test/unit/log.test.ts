import { spawn } from 'node:child_process';
import { Writable } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createLog } from '../../src/control/log.js';
import type { LogOptions } from '../../src/control/log.js';
import { textLine } from '../../src/control/log_sink.js';
import { SluiceError } from '../../src/errors.js';

const AT = Date.UTC(2024, 0, 2, 12, 34, 56, 789);

/** A stream that takes all at once, and what it took. */
function sink(): { stream: Writable; text: () => string; lines: () => Record<string, unknown>[] } {
  let text = '';
  const stream = new Writable({ write: (chunk, _, done) => ((text += String(chunk)), done()) });
  const lines = (): Record<string, unknown>[] =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { stream, text: () => text, lines };
}

function logTo(stream: Writable, options: Partial<LogOptions> = {}): ReturnType<typeof createLog> {
  return createLog({ level: 'info', format: 'json', stream, now: () => AT, ...options });
}

afterEach(() => {
  vi.useRealTimers();
});

describe('a line', () => {
  it('is one JSON object with level, time, message and fields', () => {
    const { stream, lines } = sink();
    logTo(stream).child({ queue: 3 }).warn('worker restarted', { restarts: 2 });
    expect(lines()).toEqual([{ level: 'warn', time: AT, msg: 'worker restarted', queue: 3, restarts: 2 }]);
  });

  it('below the level is not written; a silent log writes nothing', () => {
    const { stream, text } = sink();
    const log = logTo(stream);
    log.debug('x');
    log.trace('x');
    logTo(stream, { level: 'silent' }).error('x');
    expect(text()).toBe('');
  });

  it('is for people on a terminal, and JSON elsewhere, when the format is auto', () => {
    const terminal = sink();
    logTo(Object.assign(terminal.stream, { isTTY: true }), { format: 'auto' }).info('serving', { pid: 7, at: 'a b' });
    expect(terminal.text()).toBe('12:34:56.789 INFO  serving  pid=7  at="a b"\n');
    const pipe = sink();
    logTo(pipe.stream, { format: 'auto' }).info('serving');
    expect(pipe.lines()).toHaveLength(1);
  });

  it('tells our errors without a stack and surprises with one', () => {
    const { stream, lines } = sink();
    const log = logTo(stream);
    log.error('x', { err: new SluiceError('SLUICE_DEVICE', 'no veth9', 'Create it.') });
    log.error('x', { err: new TypeError('surprise') });
    expect(lines()[0].err).toEqual({ code: 'SLUICE_DEVICE', message: 'no veth9', remedy: 'Create it.' });
    expect((lines()[1].err as { stack: string }).stack).toContain('log.test.ts');
  });

  it('stays one line and moves no cursor, whatever is in it', () => {
    const line = textLine(JSON.stringify({ level: 'info', time: AT, msg: 'a\nb\u001b[2J', name: 'c\nd\u009b' }));
    expect(line).not.toMatch(/[\u001b\u009b]/);
    expect(line.trimEnd().split('\n')).toHaveLength(1);
    expect(textLine('not json\n')).toBe('not json\n');
  });
});

describe('the rate limit', () => {
  it('lets some lines of a key through each second and then says how many it held back', () => {
    vi.useFakeTimers();
    const { stream, lines } = sink();
    const log = logTo(stream);
    for (let i = 0; i < 1000; i++) log.limited('bad-frame', 3).warn('malformed frame');
    for (let i = 0; i < 10; i++) log.limited('other-thing', 2).warn('other');
    expect(lines()).toHaveLength(5);
    vi.advanceTimersByTime(1001);
    expect(lines().slice(5)).toEqual([
      { level: 'warn', time: AT, key: 'bad-frame', held: 997, msg: 'lines held back by the rate limit' },
      { level: 'warn', time: AT, key: 'other-thing', held: 8, msg: 'lines held back by the rate limit' },
    ]);
    log.limited('bad-frame', 3).warn('malformed frame');
    expect(lines()).toHaveLength(8);
    expect(log.lost()).toEqual({ stalled: 0, limited: 1005 });
    vi.advanceTimersByTime(10_000);
    expect(vi.getTimerCount()).toBe(0);
    expect(lines()).toHaveLength(8);
  });

  it('takes less than one a second', () => {
    vi.useFakeTimers();
    const { stream, lines } = sink();
    const log = logTo(stream);
    for (let second = 0; second < 10; second++) {
      log.limited('slow', 0.1).warn('again');
      vi.advanceTimersByTime(1000);
    }
    expect(lines().filter((line) => line.msg === 'again')).toHaveLength(1);
    log.limited('slow', 0.1).warn('again');
    expect(lines().map((line) => line.held ?? line.msg)).toEqual(['again', 9, 'again']);
  });

  it('reports the rest when the log is closed, and counts nothing that is below the level', () => {
    const { stream, lines } = sink();
    const log = logTo(stream);
    for (let i = 0; i < 5; i++) log.limited('k', 1).info('x');
    for (let i = 0; i < 5; i++) log.limited('k', 1).debug('x');
    log.close();
    expect(lines().at(-1)).toMatchObject({ key: 'k', held: 4 });
  });

  it('keeps its table small when a caller makes up keys', () => {
    vi.useFakeTimers();
    const { stream, lines } = sink();
    const log = logTo(stream);
    for (let i = 0; i < 2000; i++) log.limited(`key ${i}`, 1).warn('x');
    expect(lines().length).toBe(257);
  });
});

describe('a reader that stalls', () => {
  it('costs lines, not memory, and is told how many when it reads again', () => {
    let release: (() => void) | null = null;
    let text = '';
    const stream = new Writable({
      write(chunk, _, done) {
        text += String(chunk);
        release = done;
      },
    });
    const log = logTo(stream, { maxBufferedBytes: 10_000 });
    for (let i = 0; i < 100_000; i++) log.info('flood', { i });
    expect(stream.writableLength).toBeLessThan(10_200);
    const { stalled } = log.lost();
    expect(stalled).toBeGreaterThan(99_000);
    for (let i = 0; i < 1000 && stream.writableLength > 0; i++) release!();
    log.info('after');
    for (let i = 0; i < 10 && stream.writableLength > 0; i++) release!();
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.filter((line) => line.msg === 'flood')).toHaveLength(100_000 - stalled);
    expect(lines.find((line) => line.msg === 'log lines dropped: the reader stalled')).toMatchObject({
      lines: stalled,
    });
    expect(lines.at(-1)).toMatchObject({ msg: 'after' });
  });

  it('that is a real pipe never blocks the process nor fills its memory', async () => {
    // `sleep` never reads its stdin.
    const reader = spawn('sleep', ['60'], { stdio: ['pipe', 'ignore', 'ignore'] });
    const log = logTo(reader.stdin, { maxBufferedBytes: 1 << 18 });
    const before = process.memoryUsage().rss;
    const line = 'x'.repeat(100);
    for (let i = 0; i < 200_000; i++) {
      log.info(line);
      if (i % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(reader.stdin.writableLength).toBeLessThan((1 << 18) + 1024);
    expect(log.lost().stalled).toBeGreaterThan(190_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20);
    reader.kill('SIGKILL');
  });

  it('that is a terminal is written to without blocking (Ctrl-S would stop the daemon)', () => {
    const setBlocking = vi.fn();
    logTo(Object.assign(sink().stream, { isTTY: true, _handle: { setBlocking } }));
    expect(setBlocking.mock.calls).toEqual([[false]]);
    const pipe = vi.fn();
    logTo(Object.assign(sink().stream, { _handle: { setBlocking: pipe } }));
    expect(pipe).not.toHaveBeenCalled();
  });

  it('that has gone does not take the daemon with it', async () => {
    const reader = spawn('true', { stdio: ['pipe', 'ignore', 'ignore'] });
    const log = logTo(reader.stdin);
    await new Promise((resolve) => reader.on('exit', resolve));
    const written = (): number => {
      log.info('nobody reads this');
      return log.lost().stalled;
    };
    await expect.poll(written, { interval: 5 }).toBeGreaterThan(0);
  });
});

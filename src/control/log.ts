/**
 * The daemon's log: pino underneath, one JSON object a line, or one readable line on a terminal.
 *
 * Two floods are held off. Many lines about one thing (a malformed frame a microsecond): `limited` lets a few a second
 * through and says how many it kept back. Many lines that nobody reads (a stalled pipe, which Node would buffer without
 * bound): `CappedSink` drops lines above a limit and says how many.
 */
import type { Writable } from 'node:stream';
import { pino } from 'pino';
import { isKernelError, SluiceError } from '../errors.js';
import { CappedSink, neverBlock, textLine } from './log_sink.js';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';
type LineLevel = Exclude<LogLevel, 'silent'>;

/** Values to log beside the message. `err` takes an Error of any kind. */
export type LogFields = Record<string, unknown>;

/** One method a level: a message that is the same each time, and what is different in fields. */
export type LogLines = Record<LineLevel, (message: string, fields?: LogFields) => void>;

export interface Log extends LogLines {
  /** The same log with fields that every line carries. */
  child(fields: LogFields): Log;
  /**
   * The same log, but at most `perSecond` lines a second and key (0.1: one in ten seconds). Lines above that are counted,
   * and their number is logged once the time is over. Keys are few, and never made from packets.
   */
  limited(key: string, perSecond: number): LogLines;
  /** Lines below this level are left out from now on, also by children made before. */
  setLevel(level: LogLevel): void;
  /** Lines lost so far: `stalled` because the reader did not read, `limited` by `limited`. */
  lost(): { stalled: number; limited: number };
  /** Reports what `limited` still holds back. The stream stays open. */
  close(): void;
}

export interface LogOptions {
  level: LogLevel;
  /** 'auto': text on a terminal, JSON elsewhere. */
  format: 'auto' | 'json' | 'text';
  /** Default: stderr of the process. */
  stream?: Writable & { isTTY?: boolean };
  /** Most bytes that may wait for the reader before lines are dropped. Default 1 MiB. */
  maxBufferedBytes?: number;
  /** Unix time in milliseconds. For tests. */
  now?: () => number;
}

const DEFAULT_BUFFERED_BYTES = 1 << 20;
/** More keys than this share one budget, so that a caller's mistake cannot grow the table. */
const MAX_KEYS = 256;
const WINDOW_MS = 1000;

/** Opens the log. It owns no descriptor: `stream` is the caller's. */
export function createLog(options: LogOptions): Log {
  const stream = options.stream ?? process.stderr;
  const now = options.now ?? Date.now;
  const text = options.format === 'text' || (options.format === 'auto' && stream.isTTY === true);
  neverBlock(stream);
  const sink = new CappedSink(stream, options.maxBufferedBytes ?? DEFAULT_BUFFERED_BYTES, text ? textLine : null, now);
  const logger = pino(
    {
      level: options.level,
      base: undefined,
      timestamp: () => `,"time":${now()}`,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError },
    },
    sink,
  );
  const limits = new Limits((key, held) => logger.warn({ key, held }, 'lines held back by the rate limit'));
  return new PinoLog(logger, sink, limits, [logger]);
}

interface Window {
  /** Monotonic ms. */
  start: number;
  lengthMs: number;
  passed: number;
  held: number;
}

/** How many lines each key has had lately. */
class Limits {
  private readonly windows = new Map<string, Window>();
  private timer: NodeJS.Timeout | null = null;
  total = 0;

  constructor(private readonly report: (key: string, held: number) => void) {}

  /** Whether one more line of this key may pass; counts it either way. Below one a second: one line in 1/perSecond. */
  admit(key: string, perSecond: number): boolean {
    const name = this.windows.has(key) || this.windows.size < MAX_KEYS ? key : 'other';
    const now = performance.now();
    let window = this.windows.get(name);
    if (window === undefined) {
      window = { start: now, lengthMs: WINDOW_MS / Math.min(1, perSecond), passed: 0, held: 0 };
      this.windows.set(name, window);
    }
    if (now - window.start >= window.lengthMs) this.renew(name, window, now);
    if (window.passed < Math.max(1, Math.floor(perSecond))) {
      window.passed++;
      return true;
    }
    window.held++;
    this.total++;
    // Runs only while something is held back: an idle daemon has no timer.
    this.timer ??= setTimeout(() => this.tick(), WINDOW_MS).unref();
    return false;
  }

  /** Reports what is held back now, whether its time is over or not. */
  flush(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    for (const [key, window] of this.windows) this.renew(key, window, window.start);
  }

  private tick(): void {
    this.timer = null;
    const now = performance.now();
    let waiting = false;
    for (const [key, window] of this.windows) {
      if (now - window.start >= window.lengthMs) this.renew(key, window, now);
      else waiting ||= window.held > 0;
    }
    if (waiting) this.timer = setTimeout(() => this.tick(), WINDOW_MS).unref();
  }

  private renew(key: string, window: Window, start: number): void {
    if (window.held > 0) this.report(key, window.held);
    window.start = start;
    window.passed = 0;
    window.held = 0;
  }
}

class PinoLog implements Log {
  constructor(
    private readonly logger: pino.Logger,
    private readonly sink: CappedSink,
    private readonly limits: Limits,
    /** This log and every other of its family: pino's children have a level of their own. */
    private readonly family: pino.Logger[],
  ) {}

  trace(message: string, fields: LogFields = {}): void {
    this.logger.trace(fields, message);
  }

  debug(message: string, fields: LogFields = {}): void {
    this.logger.debug(fields, message);
  }

  info(message: string, fields: LogFields = {}): void {
    this.logger.info(fields, message);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.logger.warn(fields, message);
  }

  error(message: string, fields: LogFields = {}): void {
    this.logger.error(fields, message);
  }

  child(fields: LogFields): Log {
    const logger = this.logger.child(fields);
    this.family.push(logger);
    return new PinoLog(logger, this.sink, this.limits, this.family);
  }

  setLevel(level: LogLevel): void {
    for (const logger of this.family) logger.level = level;
  }

  limited(key: string, perSecond: number): LogLines {
    const line = (level: LineLevel) => (message: string, fields?: LogFields) => {
      if (!this.logger.isLevelEnabled(level)) return;
      if (this.limits.admit(key, perSecond)) this[level](message, fields);
    };
    return { trace: line('trace'), debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
  }

  lost(): { stalled: number; limited: number } {
    return { stalled: this.sink.dropped, limited: this.limits.total };
  }

  close(): void {
    this.limits.flush();
  }
}

/** What a log line keeps of an error: the stack only when the error is a surprise. */
function describeError(error: unknown): LogFields {
  if (error instanceof SluiceError) return { code: error.code, message: error.message, remedy: error.remedy };
  if (isKernelError(error)) {
    const { code, syscall, message, remedy } = error;
    return { code, syscall, message, remedy };
  }
  if (error instanceof Error) return { message: error.message, stack: error.stack };
  return { message: String(error) };
}

/** Items of a list that a line of the log has room for. */
const MOST_ITEMS = 50;

/** The first items and how many more there are: a line of megabytes is one that collectors cut or drop. */
export function abridged(items: readonly string[]): string[] {
  const more = items.length - MOST_ITEMS;
  return more > 0 ? [...items.slice(0, MOST_ITEMS), `and ${more} more`] : [...items];
}

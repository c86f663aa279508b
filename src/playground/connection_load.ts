/**
 * Connections from the client to the TCP echo: some are held for seconds, with a message every now and then, and others are opened
 * all the time for one message. Every message has to come back as it was, from the backend that answered the first, and every
 * connection has to end by a FIN in each direction. What does not is counted as broken, with the cause.
 */
import { connect, type Socket } from 'node:net';
import { childOptions, emit, serve } from './child.js';
import { ConnectionTally, type BreakCause, type ConnectionKind } from './connection_tally.js';
import { splitLines } from './process.js';

export interface ConnectionLoadOptions {
  host: string;
  port: number;
  /** Held connections at a time; one that ends is followed by the next. */
  held: number;
  /** Shortest and longest life of a held connection, ms. */
  lifeMs: [number, number];
  /** Between an answer and the next message of a held connection, ms. */
  intervalMs: number;
  shortPerSecond: number;
  /** Bytes of a message, about. */
  messageBytes: number;
  /** No answer for so long, and the connection is broken, ms. */
  timeoutMs: number;
  /** Ends by itself after this time, ms. */
  durationMs: number;
}

const options = childOptions<ConnectionLoadOptions>();
const tally = new ConnectionTally();
const filler = 'x'.repeat(options.messageBytes);
let stopping = false;

const CAUSES: Record<string, BreakCause> = {
  ECONNRESET: 'reset',
  EPIPE: 'reset',
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
};

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** One connection, from its SYN to its end. */
class Conversation {
  private readonly socket: Socket;
  private readonly begin = performance.now();
  private timer: NodeJS.Timeout | undefined;
  private backend = '';
  private sent = 0;
  /** What has to come back; undefined while nothing is owed. */
  private owed: string | undefined;
  private askedMs = 0;
  private state: 'open' | 'ending' | 'over' = 'open';
  private port = 0;

  /** `untilMs`: monotonic time after which it ends; a short one ends after one message. `onOver` hears of its end. */
  constructor(
    private readonly kind: ConnectionKind,
    private readonly untilMs: number,
    private readonly onOver: () => void,
  ) {
    tally.open(kind, this);
    this.await();
    this.socket = connect({ host: options.host, port: options.port, noDelay: true });
    this.socket.on('connect', () => {
      this.port = this.socket.localPort ?? 0;
      this.ask();
    });
    splitLines(this.socket, (line) => this.hear(line));
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      const code = error.code ?? error.message;
      this.break(CAUSES[code] ?? code);
    });
    // The backend ends a connection when its client has, and only then.
    this.socket.on('end', () => {
      if (this.state === 'open') this.break('closed');
    });
    this.socket.on('close', () => {
      if (this.state === 'over') return;
      this.over();
      tally.finish(this.kind, this);
    });
  }

  private ask(): void {
    if (this.state !== 'open') return;
    this.owed = `${++this.sent} ${filler}`;
    this.askedMs = performance.now();
    this.await();
    this.socket.write(`${this.owed}\n`);
  }

  private hear(line: string): void {
    if (this.state === 'over') return;
    const blank = line.indexOf(' ');
    const [name, message] = [line.slice(0, blank), line.slice(blank + 1)];
    if (message !== this.owed) return this.break('wrong answer');
    if (this.backend === '') tally.met(this.kind, (this.backend = name));
    else if (this.backend !== name) return this.break('other backend');
    this.owed = undefined;
    clearTimeout(this.timer);
    tally.answered++;
    tally.slowestMs = Math.max(tally.slowestMs, performance.now() - this.askedMs);
    if (this.kind === 'short') this.end();
    else
      setTimeout(() => (stopping || performance.now() >= this.untilMs ? this.end() : this.ask()), options.intervalMs);
  }

  private end(): void {
    if (this.state !== 'open') return;
    this.state = 'ending';
    this.await();
    this.socket.end();
  }

  /** Something has to happen within the time limit. */
  private await(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.break('timeout'), options.timeoutMs);
  }

  private break(cause: BreakCause): void {
    if (this.state === 'over') return;
    const age = Math.round(performance.now() - this.begin);
    tally.break(
      cause,
      this,
      `${this.kind} connection from port ${this.port} to ${this.backend || 'nobody yet'}, ${age} ms old, ` +
        `message ${this.sent}, ${this.state}`,
    );
    this.over();
    this.socket.destroy();
  }

  private over(): void {
    this.state = 'over';
    clearTimeout(this.timer);
    this.onOver();
  }
}

/** One held connection after the other. */
async function hold(delayMs: number): Promise<void> {
  await pause(delayMs);
  const [shortest, longest] = options.lifeMs;
  while (!stopping) {
    const untilMs = performance.now() + shortest + Math.random() * (longest - shortest);
    const failedBefore = tally.broken;
    await new Promise<void>((resolve) => new Conversation('held', untilMs, resolve));
    // When all break at once, the next ones must not be a flood.
    if (tally.broken > failedBefore) await pause(100);
  }
}

/** Opens short connections at the rate, some every few ms; time that was lost is not made up for. */
function visit(): () => void {
  let due = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    due += (Math.min(now - last, 50) * options.shortPerSecond) / 1000;
    last = now;
    for (; due >= 1 && !stopping; due--) new Conversation('short', 0, () => undefined);
  }, 5);
  return () => clearInterval(timer);
}

const progress = setInterval(() => emit(tally.progress()), 250);
const limit = setTimeout(() => (stopping = true), options.durationMs);
serve((request) => {
  if (request.op === 'stop') stopping = true;
  if (request.op === 'snapshot') emit(tally.result('snapshot'));
});

const stopVisits = visit();
// Not all at once: their messages would stay in step.
const [shortestLife] = options.lifeMs;
const spreadMs = Math.min(500, shortestLife) / Math.max(1, options.held);
await Promise.all(Array.from({ length: options.held }, (_, i) => hold(i * spreadMs)));
while (!stopping || tally.underWay > 0) await pause(20);
stopVisits();
clearInterval(progress);
clearTimeout(limit);
process.stdout.write(JSON.stringify(tally.result('result')) + '\n', () => process.exit(0));

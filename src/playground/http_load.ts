/**
 * HTTP traffic from the client: so many connections at a time, each asking, waiting, asking again. Counts what was
 * answered and by whom, and what was not and why.
 */
import { Agent, request, type ClientRequest, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { BackendAnswer } from './backend_process.js';
import { childOptions, emit, serve } from './child.js';
import { Tally } from './http_tally.js';

export interface HttpLoadOptions {
  host: string;
  port: number;
  /** 'short': a new connection for every request. 'keepalive': each connection is held and used again. */
  mode: 'short' | 'keepalive';
  /** Connections at a time. */
  connections: number;
  /** Stops after this many requests; 0: no limit. */
  requests: number;
  /** Stops after this time, ms; 0: no limit. */
  durationMs: number;
  /** Pause of each connection between an answer and its next request, ms. */
  intervalMs: number;
  /** An answer that takes longer is a failure, ms. */
  timeoutMs: number;
  /** Bytes of body to POST; 0: GET. */
  postBytes: number;
}

const options = childOptions<HttpLoadOptions>();
const tally = new Tally();
const body = Buffer.alloc(options.postBytes, 'x');
let started = 0;
let stopping = false;

/** One client of the many: a connection, or a chain of them, used by one request at a time. */
class Visitor {
  private readonly agent = new Agent({ keepAlive: options.mode === 'keepalive', maxSockets: 1 });
  private socket: Socket | undefined;
  private backend = '';

  async visit(): Promise<void> {
    while (!stopping && (options.requests === 0 || started < options.requests)) {
      started++;
      await this.ask();
      if (options.intervalMs > 0) await new Promise((resolve) => setTimeout(resolve, options.intervalMs));
    }
    this.agent.destroy();
  }

  private ask(): Promise<void> {
    return new Promise((resolve) => {
      const begin = performance.now();
      const post = options.postBytes > 0;
      const message = request({
        host: options.host,
        port: options.port,
        agent: this.agent,
        method: post ? 'POST' : 'GET',
        headers: post ? { 'content-length': options.postBytes } : {},
      });
      let over = false;
      const finish = (record: () => void) => {
        if (over) return;
        over = true;
        clearTimeout(timer);
        record();
        resolve();
      };
      const fail = (reason: string) => finish(() => this.lose(reason));
      // Not message.setTimeout(): its time starts only when the connection is there.
      const timer = setTimeout(
        () => message.destroy(Object.assign(new Error(), { code: 'timeout' })),
        options.timeoutMs,
      );
      message.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
      message.on('socket', (socket) => this.use(socket));
      message.on('response', (response) => {
        readAnswer(message, response, (answer) => finish(() => this.win(answer, performance.now() - begin)), fail);
      });
      message.end(post ? body : undefined);
    });
  }

  /** A held connection that is not the same as last time was closed while nobody asked: broken as well. */
  private use(socket: Socket): void {
    if (socket === this.socket) return;
    if (options.mode === 'keepalive' && this.socket !== undefined) tally.broken(this.backend);
    this.socket = socket;
    this.backend = '';
    tally.connections++;
  }

  private win(answer: BackendAnswer, ms: number): void {
    if (options.mode === 'keepalive' && this.backend !== answer.backend) {
      if (this.backend !== '') tally.misrouted++;
      tally.held(answer.backend);
    }
    this.backend = answer.backend;
    tally.answered(answer.backend, ms);
  }

  private lose(reason: string): void {
    tally.failed(reason);
    if (options.mode === 'keepalive') {
      tally.broken(this.backend);
      this.socket?.destroy();
    }
    this.socket = undefined;
    this.backend = '';
  }
}

function readAnswer(
  message: ClientRequest,
  response: IncomingMessage,
  onAnswer: (answer: BackendAnswer) => void,
  onFailure: (reason: string) => void,
): void {
  let text = '';
  response.setEncoding('utf8');
  response.on('data', (chunk: string) => (text += chunk));
  response.on('error', (error: NodeJS.ErrnoException) => onFailure(error.code ?? error.message));
  response.on('end', () => {
    try {
      const answer = JSON.parse(text) as BackendAnswer;
      if (answer.received !== options.postBytes) return onFailure('body lost on the way');
      onAnswer(answer);
    } catch {
      onFailure('answer is not what the backend sends');
      message.destroy();
    }
  });
}

const begin = performance.now();
const result = (type: string) => tally.result(type, performance.now() - begin);
const progress = setInterval(() => emit(tally.progress()), 500);
const limit = options.durationMs > 0 ? setTimeout(() => (stopping = true), options.durationMs) : undefined;

serve((request) => {
  if (request.op === 'stop') stopping = true;
  if (request.op === 'snapshot') emit(result('snapshot'));
});

await Promise.all(Array.from({ length: options.connections }, () => new Visitor().visit()));
clearInterval(progress);
clearTimeout(limit);
process.stdout.write(JSON.stringify(result('result')) + '\n', () => process.exit(0));

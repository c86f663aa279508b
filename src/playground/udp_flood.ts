/**
 * Sends an exact number of UDP datagrams at a steady rate from many source ports, and reports how many the kernel
 * accepted: the number that the receiving side's counters must add up to.
 */
import { createSocket, type Socket } from 'node:dgram';
import { childOptions, emit, serve } from './child.js';

export interface UdpFloodOptions {
  address: string;
  port: number;
  /** Datagrams to send; exactly so many, unless stopped. */
  packets: number;
  /** Datagrams a second, at most; 0: as fast as it goes. */
  ratePerSecond: number;
  /** Sockets, each a source port of its own. */
  sockets: number;
  payloadBytes: number;
}

export interface UdpFloodResult {
  type: 'result';
  /** Datagrams that the kernel accepted. */
  sent: number;
  /** Sends that the kernel refused and that were done again, by errno name. */
  retried: Record<string, number>;
  durationMs: number;
}

/**
 * Datagrams sent before the event loop runs again. A veth pair queues 256 frames; every send is handed over at once
 * on this CPU, so a burst of this size cannot overrun it even when the kernel defers the other side to ksoftirqd.
 */
const BURST = 32;
/** Packets that may be sent ahead of the rate: timers are late by a millisecond or three. */
const DEPTH = 128;

const options = childOptions<UdpFloodOptions>();
const payload = Buffer.alloc(options.payloadBytes, 'f');
const retried: Record<string, number> = {};
let sent = 0;
let underWay = 0;
let turn = 0;
let stopping = false;

function connectedSocket(): Promise<Socket> {
  const socket = createSocket({ type: options.address.includes(':') ? 'udp6' : 'udp4', sendBufferSize: 1 << 20 });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.connect(options.port, options.address, () => {
      socket.off('error', reject);
      // An ICMP error arrives here or with the next send, which then sent nothing and is done again.
      socket.on('error', () => undefined);
      socket.on('message', () => undefined);
      resolve(socket);
    });
  });
}

function onSent(error: Error | null): void {
  underWay--;
  if (!error) {
    sent++;
    return;
  }
  const code = (error as NodeJS.ErrnoException).code ?? error.message;
  retried[code] = (retried[code] ?? 0) + 1;
}

function sendSome(sockets: readonly Socket[], count: number): void {
  for (let i = 0; i < count; i++) {
    underWay++;
    sockets[turn++ % sockets.length].send(payload, onSent);
  }
}

/**
 * Sends at the rate and never above it for longer than DEPTH packets: time that was lost (this process did not get the
 * CPU) is not made up for, because then all of it would arrive at once where nobody had the CPU either.
 */
function flood(sockets: readonly Socket[], onEnd: () => void): void {
  const perMs = options.ratePerSecond > 0 ? options.ratePerSecond / 1000 : Infinity;
  let due = 0;
  let last = performance.now();
  const step = () => {
    const now = performance.now();
    due = Math.min(due + (now - last) * perMs, DEPTH);
    last = now;
    const left = options.packets - sent - underWay;
    if (!stopping && left > 0) {
      const count = Math.min(Math.floor(due), left, BURST);
      sendSome(sockets, count);
      due -= count;
    }
    if ((stopping || sent >= options.packets) && underWay === 0) return onEnd();
    if (due < 1 || left <= 0) setTimeout(step, 1);
    else setImmediate(step);
  };
  step();
}

const sockets: Socket[] = [];
for (let i = 0; i < options.sockets; i++) sockets.push(await connectedSocket());
const begin = performance.now();
const progress = setInterval(() => emit({ type: 'progress', sent }), 500);
serve((request) => {
  if (request.op === 'stop') stopping = true;
});
flood(sockets, () => {
  clearInterval(progress);
  for (const socket of sockets) socket.close();
  const result: UdpFloodResult = { type: 'result', sent, retried, durationMs: Math.round(performance.now() - begin) };
  process.stdout.write(JSON.stringify(result) + '\n', () => process.exit(0));
});

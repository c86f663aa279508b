import { connect, type Socket } from 'node:net';
import { outcomeOfError, type Done, type Endpoint, type Outcome, type RunningCheck } from '../outcome.js';

/** Opens a connection, or starts to: bound to the endpoint's local port, when it has one. */
export function open({ host, family, port, localPort }: Endpoint): Socket {
  return connect({ host, family, port, localPort, noDelay: true });
}

/**
 * Ends a connection with a reset: nobody waits in TIME_WAIT for it, here or there, and its port is free at once. Whatever
 * happens to the socket from now on is of no interest.
 */
export function drop(socket: Socket): void {
  socket.on('error', () => undefined);
  // libuv refuses to reset what is being shut down, and Node would then leave the descriptor open.
  if (socket.connecting || socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

/**
 * Whether the handshake was complete all the same. A server that resets what it accepts can be faster than the event loop, which then
 * hears of both at once; without a connection a reset is ECONNREFUSED (net/ipv4/tcp_input.c, tcp_reset).
 */
function wasConnected({ code, syscall }: NodeJS.ErrnoException): boolean {
  return syscall === 'connect' && (code === 'ECONNRESET' || code === 'EPIPE');
}

/** Good when the handshake is complete, whatever comes after. */
export function checkTcp(endpoint: Endpoint, done: Done): RunningCheck {
  const socket = open(endpoint);
  let over = false;
  const end = (outcome: Outcome | null): void => {
    if (over) return;
    over = true;
    drop(socket);
    if (outcome !== null) done(outcome);
  };
  socket.once('connect', () => end({ result: 'ok' }));
  socket.once('error', (error) => end(wasConnected(error) ? { result: 'ok' } : outcomeOfError(error)));
  return { stage: 'no connection', cancel: () => end(null) };
}

import { connect, type Socket } from 'node:net';
import { SluiceError } from '../../errors.js';
import { connectError, resultOf } from '../api/client.js';
import type { CaptureRequest } from '../api/contract_capture.js';

/** How long the daemon may take to begin, ms. */
const BEGIN_MS = 10_000;

/**
 * Starts a capture on a running daemon. What the socket gives is pcapng, whole blocks and counters at the end; to end the capture, end the socket and read
 * on until it ends. Throws as `callControl`.
 */
export function openCapture(socketPath: string, request: CaptureRequest): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    let answer = Buffer.alloc(0);
    const fail = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const slow = (): void =>
      fail(
        new SluiceError(
          'SLUICE_CONTROL',
          `sluice did not answer on ${socketPath} within ${BEGIN_MS} ms`,
          'It may be hung: look at its log.',
        ),
      );
    const timer = setTimeout(slow, BEGIN_MS);
    const ended = (): void =>
      fail(new SluiceError('SLUICE_CONTROL', 'the connection ended without an answer', 'Is sluice stopping?'));
    const failed = (error: Error): void => fail(connectError(error, socketPath));
    const hear = (chunk: Buffer): void => {
      answer = Buffer.concat([answer, chunk]);
      const end = answer.indexOf(10);
      if (end < 0) return;
      socket.off('data', hear).off('end', ended).off('error', failed).pause();
      try {
        resultOf(answer.subarray(0, end + 1).toString('utf8'));
      } catch (error) {
        return fail(error as Error);
      }
      clearTimeout(timer);
      if (answer.length > end + 1) socket.unshift(answer.subarray(end + 1));
      resolve(socket);
    };
    socket.on('connect', () => socket.write(`${JSON.stringify({ id: 1, method: 'capture', params: request })}\n`));
    socket.on('data', hear).on('end', ended).on('error', failed);
  });
}

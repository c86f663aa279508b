/** The client's end of the control socket. */
import { connect } from 'node:net';
import type { SluiceErrorCode } from '../../errors.js';
import { SluiceError } from '../../errors.js';
import { MAX_ANSWER_BYTES } from './contract.js';
import type { ControlError, ControlMethod, ControlMethods } from './contract.js';

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * Asks a running daemon one thing. Throws the daemon's SluiceError as it was there; SLUICE_CONTROL when nobody answers
 * within `timeoutMs`, SLUICE_PERMISSION when the socket is not ours to open.
 */
export function callControl<Method extends ControlMethod>(
  socketPath: string,
  method: Method,
  params: ControlMethods[Method]['params'],
  timeoutMs: number = DEFAULT_TIMEOUT_MS,
): Promise<ControlMethods[Method]['result']> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const socket = connect(socketPath);
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      settle();
    };
    const fail = (message: string, remedy: string): void =>
      finish(() => reject(new SluiceError('SLUICE_CONTROL', message, remedy)));
    const timer = setTimeout(
      () => fail(`sluice did not answer on ${socketPath} within ${timeoutMs} ms`, 'It may be hung: look at its log.'),
      timeoutMs,
    );
    socket.on('connect', () => socket.write(`${JSON.stringify({ id: 1, method, params })}\n`));
    socket.on('error', (error) => finish(() => reject(connectError(error, socketPath))));
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_ANSWER_BYTES) return fail(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`, '');
      chunks.push(chunk);
      if (!chunk.includes(10)) return;
      finish(() => {
        try {
          resolve(resultOf(Buffer.concat(chunks).toString('utf8')) as ControlMethods[Method]['result']);
        } catch (error) {
          reject(error as Error);
        }
      });
    });
    socket.on('end', () => fail(`the connection to ${socketPath} ended without an answer`, 'Is sluice stopping?'));
  });
}

export function resultOf(text: string): unknown {
  let answer: { result?: unknown; error?: ControlError };
  try {
    answer = JSON.parse(text.slice(0, text.indexOf('\n'))) as typeof answer;
  } catch (cause) {
    throw new SluiceError('SLUICE_CONTROL', 'the answer is not JSON', 'Is this the socket of a sluice?', { cause });
  }
  if (answer.error !== undefined) {
    const { code, message, remedy } = answer.error;
    throw new SluiceError(code as SluiceErrorCode, message, remedy);
  }
  return answer.result;
}

export function connectError(error: NodeJS.ErrnoException, socketPath: string): SluiceError {
  const cause = { cause: error };
  switch (error.code) {
    case 'ENOENT':
      return new SluiceError(
        'SLUICE_CONTROL',
        `there is no control socket ${socketPath}`,
        'Is sluice running? If its config sets control.socket, name it with --socket or SLUICE_SOCKET.',
        cause,
      );
    case 'ECONNREFUSED':
      return new SluiceError(
        'SLUICE_CONTROL',
        `nobody listens on ${socketPath}`,
        'sluice has ended without cleaning up; start it again.',
        cause,
      );
    case 'EACCES':
    case 'EPERM':
      return new SluiceError(
        'SLUICE_PERMISSION',
        `you may not open the control socket ${socketPath}`,
        'Run this as the user that sluice runs as (usually root).',
        cause,
      );
    default:
      return new SluiceError('SLUICE_CONTROL', `cannot talk to sluice on ${socketPath}: ${error.message}`, '', cause);
  }
}

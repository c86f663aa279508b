import { createSocket } from 'node:dgram';
import type { UdpCheckConfig } from '../../../shared/health_config.js';
import { outcomeOfError, type Done, type Endpoint, type Outcome, type RunningCheck } from '../outcome.js';

/** Good when an answer comes and has the expected bytes in it. */
export function checkUdp(endpoint: Endpoint, { request, expect }: UdpCheckConfig, done: Done): RunningCheck {
  return exchange(endpoint, request, done, (answer) => {
    if (expect === null || answer.indexOf(expect) >= 0) return { result: 'ok' };
    return { result: 'failed', reason: `the answer of ${answer.length} bytes has not what is expected` };
  });
}

/**
 * Sends one datagram on a connected socket, so that only the backend's answers and errors come back, and judges what comes.
 *
 * @param judge null: this is no answer to our request; wait on
 */
export function exchange(
  { host, family, port, localPort }: Endpoint,
  payload: Uint8Array,
  done: Done,
  judge: (answer: Buffer) => Outcome | null,
): RunningCheck {
  const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
  let open = true;
  const cancel = (): void => {
    if (!open) return;
    open = false;
    socket.close();
  };
  const end = (outcome: Outcome): void => {
    if (!open) return;
    cancel();
    done(outcome);
  };
  socket.on('error', (error) => end(outcomeOfError(error)));
  socket.on('message', (answer) => {
    const outcome = judge(answer);
    if (outcome !== null) end(outcome);
  });
  const connect = (): void => {
    socket.connect(port, host, (error?: Error) => {
      if (error) return end(outcomeOfError(error));
      if (open) socket.send(payload, (failure) => failure && end(outcomeOfError(failure)));
    });
  };
  if (localPort === undefined) connect();
  else socket.bind({ port: localPort, exclusive: true }, connect);
  return { stage: 'no answer', cancel };
}

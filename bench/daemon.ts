import { setTimeout as pause } from 'node:timers/promises';
import { callControl } from '../src/control/api/client.js';
import { isKernelError, SluiceError } from '../src/errors.js';
import type { ChildProgram } from '../src/playground/process.js';
import { ChildError } from './process.js';

/** Waits until a daemon that was started says by its control socket that it is ready. @throws ChildError with what it wrote, when it ends or takes longer */
export async function daemonReady(daemon: ChildProgram, socket: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (daemon.running && performance.now() < deadline) {
    try {
      if ((await callControl(socket, 'status', {}, timeoutMs)).ready) return;
    } catch (error) {
      if (!(error instanceof SluiceError) && !isKernelError(error)) throw error;
    }
    await pause(50);
  }
  throw new ChildError(`sluice did not start:\n${daemon.errorOutput}`);
}

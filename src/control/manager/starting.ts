import { SluiceError } from '../../errors.js';
import type { WorkerEvent, WorkerFault } from '../../shared/worker_protocol.js';

/** How long the first start of all workers may take. */
const START_MS = 45_000;

/** The first start: all workers open all their ports, or the first that does not says why and nothing starts. */
export class Starting {
  private readonly waiting: Set<number>;
  private readonly timer: NodeJS.Timeout;
  private resolve!: () => void;
  private reject!: (error: Error) => void;
  readonly done: Promise<void>;

  constructor(queues: Iterable<number>) {
    this.waiting = new Set(queues);
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // It may fail before anybody waits.
    this.done.catch(() => undefined);
    this.timer = setTimeout(() => {
      const names = [...this.waiting].join(', ');
      this.fail(
        new SluiceError(
          'SLUICE_STATE',
          `workers ${names} have not started within ${START_MS / 1000} s`,
          'A filter that never returns from create(), or a machine without a free CPU? See the log.',
        ),
      );
    }, START_MS);
    if (this.waiting.size === 0) this.settle();
  }

  /** Feed it every event of every worker. */
  hear(queue: number, event: WorkerEvent): void {
    if (event.kind === 'failed') this.fail(faultError(event.fault));
    if (event.kind !== 'ready') return;
    if (event.faults.length > 0) this.fail(faultError(event.faults[0].fault));
    else if (this.waiting.delete(queue) && this.waiting.size === 0) this.settle();
  }

  died(queue: number, problem: string): void {
    this.fail(new SluiceError('SLUICE_STATE', `worker ${queue} did not start: ${problem}`, 'See the log.'));
  }

  private settle(): void {
    clearTimeout(this.timer);
    this.resolve();
  }

  private fail(error: Error): void {
    clearTimeout(this.timer);
    this.reject(error);
  }
}

/** What the kernel answered a worker, as an error with the exit code that it deserves. */
function faultError({ message, code, remedy }: WorkerFault): SluiceError {
  if (code.startsWith('SLUICE_')) return new SluiceError(code as SluiceError['code'], message, remedy);
  // ENOBUFS: the limit of locked memory.
  const permission = code === 'EPERM' || code === 'EACCES' || code === 'ENOBUFS';
  return new SluiceError(permission ? 'SLUICE_PERMISSION' : 'SLUICE_DEVICE', message, remedy);
}

import type { WorkerEvent, WorkerFault } from '../../shared/worker_protocol.js';

/** Waits until every worker has said what it thinks of a generation. */
export class Adoption {
  private readonly waiting: Set<number>;
  private readonly refusals: { queue: number; fault: WorkerFault }[] = [];
  private readonly timer: NodeJS.Timeout;
  private finish!: (refusals: { queue: number; fault: WorkerFault }[]) => void;
  /** Resolves with the refusals, [] when all have adopted it. A worker that says nothing in time is taken for one that refused. */
  readonly done: Promise<{ queue: number; fault: WorkerFault }[]>;

  constructor(
    readonly generation: number,
    queues: Iterable<number>,
    timeoutMs: number,
  ) {
    this.waiting = new Set(queues);
    this.done = new Promise((resolve) => (this.finish = resolve));
    this.timer = setTimeout(() => {
      for (const queue of this.waiting) {
        const message = `worker ${queue} has not answered for ${timeoutMs} ms`;
        this.refusals.push({
          queue,
          fault: { message, code: 'SLUICE_STATE', remedy: 'See the log for what it is doing' },
        });
      }
      this.settle();
    }, timeoutMs);
    if (this.waiting.size === 0) this.settle();
  }

  /** Feed it every event of every worker. */
  hear(queue: number, event: WorkerEvent): void {
    if (event.kind !== 'adopted' && event.kind !== 'refused') return;
    if (event.generation !== this.generation || !this.waiting.delete(queue)) return;
    if (event.kind === 'refused') this.refusals.push({ queue, fault: event.fault });
    if (this.waiting.size === 0) this.settle();
  }

  /** The worker is gone before it said a word: perhaps of these very tables, so that counts as a refusal. */
  died(queue: number, problem: string): void {
    if (!this.waiting.delete(queue)) return;
    const message = `worker ${queue} ended while it adopted them: ${problem}`;
    this.refusals.push({ queue, fault: { message, code: 'SLUICE_STATE', remedy: 'See the log for why' } });
    if (this.waiting.size === 0) this.settle();
  }

  /** Everything stops: nobody needs the answers any more. */
  cancel(): void {
    this.settle();
  }

  private settle(): void {
    clearTimeout(this.timer);
    this.finish(this.refusals);
  }
}

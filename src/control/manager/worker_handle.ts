import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { ControlWord, type Tables } from '../../shared/layout.js';
import type { PortSpec, WorkerCommand, WorkerEvent, WorkerOptions } from '../../shared/worker_protocol.js';
import type { WorkerCounters } from '../counters.js';
import type { Log } from '../log.js';
import { errorText } from './text.js';

/** A worker that has not turned its loop for this long is taken for hung and is replaced. */
const HUNG_MS = 3000;
const HEARTBEAT_CHECK_MS = 500;

/** The same for one that has not opened its ports yet: importing a filter is part of it. */
const START_HUNG_MS = 30_000;

/** Pause before a crashed worker is started again: doubles up to the second value, back to the first after a quiet time. */
const FIRST_BACKOFF_MS = 50;
const LAST_BACKOFF_MS = 5000;
const QUIET_MS = 10_000;

/** How long an orderly stop may take before the thread is terminated. */
const STOP_MS = 4000;

const workerFile = new URL('../../dataplane/worker.js', import.meta.url);

export interface WorkerHandleOptions {
  queue: number;
  frames: WorkerOptions['frames'];
  flowSlots: number;
  counters: WorkerCounters;
  log: Log;
  /** Ports that a (re)started worker is to open. */
  ports: () => PortSpec[];
  tables: () => Tables;
  onEvent: (event: WorkerEvent) => void;
  /** The thread is gone; its sockets are closed. A new one follows by itself unless it was asked to stop. */
  onExit: (problem: string) => void;
}

/** One worker thread, kept alive: started, watched, started again after a crash, stopped in order. */
export class WorkerHandle {
  restarts = 0;
  /** Generation that it started with or has adopted since. */
  generation = 0;
  /** Why there is no thread that serves; '' when there is one. */
  private threadProblem = 'starting';
  /** Why a port is not open, by port number. */
  private readonly portProblems = new Map<number, string>();
  private worker: Worker | null = null;
  private commands: MessagePort | null = null;
  private control = newControlWords();
  private stopping = false;
  private ready = false;
  private backoffMs = FIRST_BACKOFF_MS;
  private startedAt = 0;
  private heartbeat = { value: 0, at: 0 };
  private lastCheckAt = 0;
  private watch: NodeJS.Timeout | null = null;
  private restart: NodeJS.Timeout | null = null;

  constructor(private readonly options: WorkerHandleOptions) {}

  get queue(): number {
    return this.options.queue;
  }

  /** Why it is not up; '' when it is. */
  get problem(): string {
    return this.threadProblem || [...this.portProblems.values()].join('; ');
  }

  get up(): boolean {
    return this.problem === '';
  }

  /** Up or not, there is a thread that has opened what it could and takes commands. */
  get running(): boolean {
    return this.ready && this.worker !== null;
  }

  /** Of its thread; changes with each life. null: none runs. */
  get thread(): object | null {
    return this.worker && this.control;
  }

  /** Heartbeat of that thread. */
  get beats(): number {
    return Atomics.load(this.control, ControlWord.heartbeat);
  }

  start(): void {
    const { queue, frames, flowSlots, counters } = this.options;
    const { port1, port2 } = new MessageChannel();
    this.control = newControlWords();
    const tables = this.options.tables();
    this.generation = tables.generation;
    const workerData: WorkerOptions = {
      worker: queue,
      frames,
      flowSlots,
      ports: this.options.ports(),
      tables,
      counters: counters.block,
      control: this.control.buffer,
      commands: port2,
    };
    this.commands = port1;
    this.startedAt = performance.now();
    this.heartbeat = { value: 0, at: this.startedAt };
    const worker = new Worker(workerFile, { workerData, transferList: [port2], name: `sluice-${queue}` });
    this.worker = worker;
    worker.on('message', (event: WorkerEvent) => this.handle(event));
    worker.on('error', (error) => {
      this.threadProblem = errorText(error);
      this.options.log.error('worker failed', { queue, err: error });
    });
    worker.on('exit', (code) => this.exited(worker, code));
    this.watch ??= setInterval(() => this.checkHeartbeat(), HEARTBEAT_CHECK_MS).unref();
  }

  private handle(event: WorkerEvent): void {
    switch (event.kind) {
      case 'ready':
        this.ready = true;
        this.threadProblem = '';
        this.portProblems.clear();
        for (const { port, fault } of event.faults) this.portProblems.set(port.index, fault.message);
        break;
      case 'failed':
        this.threadProblem = event.fault.message;
        this.options.log.error('worker cannot start', { queue: this.queue, ...event.fault });
        break;
      case 'opened':
        this.portProblems.delete(event.port.index);
        break;
      case 'open-failed':
        this.portProblems.set(event.port.index, event.fault.message);
        break;
      case 'lost':
        this.portProblems.set(event.index, `interface ${event.interface} is gone`);
        break;
      case 'closed':
        if (!this.portProblems.has(event.index)) this.portProblems.set(event.index, `port ${event.index} is closed`);
        break;
      case 'adopted':
        this.generation = event.generation;
        break;
      case 'refused':
      case 'aborted':
      case 'stopped':
        break;
    }
    this.options.onEvent(event);
  }

  private exited(worker: Worker, code: number): void {
    if (this.worker !== worker) return;
    this.worker = null;
    this.ready = false;
    this.commands?.close();
    this.commands = null;
    if (this.threadProblem === '') this.threadProblem = `its thread ended with code ${code}`;
    this.options.onExit(this.threadProblem);
    if (this.stopping) {
      this.threadProblem = 'stopped';
      return;
    }
    if (performance.now() - this.startedAt > QUIET_MS) this.backoffMs = FIRST_BACKOFF_MS;
    this.options.log.warn('worker is started again', {
      queue: this.queue,
      inMs: this.backoffMs,
      problem: this.problem,
    });
    this.restart = setTimeout(() => {
      this.restarts++;
      this.options.counters.renew();
      this.start();
    }, this.backoffMs);
    this.backoffMs = Math.min(this.backoffMs * 2, LAST_BACKOFF_MS);
  }

  private checkHeartbeat(): void {
    if (!this.worker || this.stopping) return;
    const now = performance.now();
    // Stopped, swapped out, a paused machine: whoever did not run himself cannot say of others that they did not.
    if (now - this.lastCheckAt > 2 * HEARTBEAT_CHECK_MS) this.heartbeat.at = now;
    this.lastCheckAt = now;
    const value = Atomics.load(this.control, ControlWord.heartbeat);
    if (value !== this.heartbeat.value) {
      this.heartbeat = { value, at: now };
    } else if (now - this.heartbeat.at > (value === 0 ? START_HUNG_MS : HUNG_MS)) {
      const seconds = Math.round((now - this.heartbeat.at) / 1000);
      this.threadProblem = `its loop has not turned for ${seconds} s`;
      this.options.log.error('worker hangs and is replaced', { queue: this.queue, seconds });
      this.heartbeat.at = now;
      void this.worker.terminate();
    }
  }

  /** Posts a command; the worker takes it between two bursts. False when there is no worker to take it. */
  post(command: WorkerCommand): boolean {
    if (!this.commands) return false;
    this.commands.postMessage(command);
    Atomics.add(this.control, ControlWord.posted, 1);
    Atomics.notify(this.control, ControlWord.posted);
    return true;
  }

  /** Lets the worker empty its rings and close; terminates it when that takes too long. */
  async stop(): Promise<void> {
    this.stopping = true;
    if (this.watch) clearInterval(this.watch);
    if (this.restart) clearTimeout(this.restart);
    const worker = this.worker;
    if (!worker) return;
    Atomics.store(this.control, ControlWord.stop, 1);
    Atomics.notify(this.control, ControlWord.posted);
    // Not events.once(): that rejects when the thread ends with an error.
    const exit = new Promise((resolve) => worker.once('exit', resolve));
    const timer = setTimeout(() => void worker.terminate(), STOP_MS);
    await exit;
    clearTimeout(timer);
  }
}

function newControlWords(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(ControlWord.SIZE * Int32Array.BYTES_PER_ELEMENT));
}

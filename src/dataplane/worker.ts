/**
 * Entry of a worker thread: one queue of each interface, one UMEM, one flow table, one block of counters.
 *
 * The loop is synchronous. It never waits for a message: the manager raises a word in shared memory, which the worker reads
 * once a burst, and only then looks into its message port. It leaves the loop for asynchronous work (importing a filter) and to stop.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { collectGarbage } from '../shared/collect_garbage.js';
import { ControlWord } from '../shared/layout.js';
import type { WorkerCommand, WorkerEvent, WorkerOptions } from '../shared/worker_protocol.js';
import { loadModules, missingModules } from './filter/build.js';
import { Engine, faultOf } from './engine.js';

/** Rounds in which no port had anything before the worker sleeps. A few keep it awake over the gaps of a busy link. */
const EMPTY_ROUNDS_BEFORE_SLEEP = 8;

/** Longest sleep, ms: bounds how late a command or a lost interface is noticed. */
const SLEEP_MS = 100;

/** Longest sleep while a module is being imported, ms: the event loop that imports it waits as long. */
const IMPORT_SLEEP_MS = 1;

/** Longest time to go on after a stop while packets still arrive, ms. */
const DRAIN_MS = 1000;

const options = workerData as WorkerOptions;
const control = new Int32Array(options.control);

function send(event: WorkerEvent): void {
  parentPort?.postMessage(event);
}

/** Runs until it has to stop ('stop') or has a command that needs asynchronous work. */
function loop(engine: Engine, spin: boolean): WorkerCommand | 'stop' {
  let empty = 0;
  for (;;) {
    if (Atomics.load(control, ControlWord.posted) !== control[ControlWord.taken]) {
      const pending = obey(engine);
      if (pending) return pending;
    }
    if (control[ControlWord.stop] !== 0) return 'stop';
    control[ControlWord.heartbeat] = (control[ControlWord.heartbeat] + 1) | 0;
    if (engine.pollAll() > 0) {
      empty = 0;
    } else if (engine.ports.length === 0) {
      Atomics.wait(control, ControlWord.posted, control[ControlWord.taken], SLEEP_MS);
      engine.housekeep(true);
    } else if (++empty >= EMPTY_ROUNDS_BEFORE_SLEEP) {
      engine.housekeep(true);
      if (!spin) engine.sleep(SLEEP_MS);
    }
  }
}

/** Takes all posted commands. Returns one that needs the event loop, with those behind it left for later. */
function obey(engine: Engine): WorkerCommand | null {
  for (;;) {
    const received = receiveMessageOnPort(options.commands) as { message: WorkerCommand } | undefined;
    if (!received) return null;
    control[ControlWord.taken] = (control[ControlWord.taken] + 1) | 0;
    const command = received.message;
    if (command.kind === 'tables' && missingModules(command.tables.filters).length > 0) return command;
    engine.obey(command);
  }
}

/** Null when it cannot be: the manager has been told why. */
async function start(): Promise<Engine | null> {
  try {
    await loadModules(options.tables.filters);
    return new Engine(options, send);
  } catch (error) {
    const fault = faultOf(error);
    // What the kernel refuses has its name; everything else comes from a filter.
    const kernel = error instanceof Error && 'syscall' in error;
    send({ kind: 'failed', fault: kernel ? fault : { ...fault, code: 'SLUICE_CONFIG' } });
    options.commands.close();
    return null;
  }
}

/** Packets go on while a filter is imported, which takes a second or more when it is TypeScript. Commands wait; so does stopping. */
async function pollUntil(engine: Engine, work: Promise<void>): Promise<void> {
  let done = false;
  const settle = (): void => void (done = true);
  work.then(settle, settle);
  while (!done) {
    control[ControlWord.heartbeat] = (control[ControlWord.heartbeat] + 1) | 0;
    if (engine.pollAll() === 0) {
      engine.housekeep(true);
      engine.sleep(IMPORT_SLEEP_MS);
    }
    await turn();
  }
  return work;
}

async function main(): Promise<void> {
  const engine = await start();
  if (!engine) return;
  // The loop below ends with the worker: what it allocates is a few numbers, but what was made so far would be in its first collection.
  await collectGarbage();
  engine.open();
  const spin = options.ports.some((port) => port.poll === 'busy');
  for (;;) {
    const command = loop(engine, spin);
    if (command === 'stop') break;
    if (command.kind === 'tables') {
      try {
        await pollUntil(engine, loadModules(command.tables.filters));
      } catch (error) {
        engine.refuse(command.tables.generation, error);
        continue;
      }
    }
    engine.obey(command);
  }
  engine.drain(DRAIN_MS);
  engine.close();
  options.commands.close();
}

await main();

/**
 * Reading the workers' counter blocks. A block is one Float64Array on shared memory (layout.ts, "Counters") that its
 * worker alone writes; this side only reads, at any time, without asking the worker.
 */
import {
  BackendCounter,
  ControlWord,
  Counter,
  CounterBlock,
  MAX_BACKENDS,
  MAX_PORTS,
  PortCounter,
  RuleCounter,
  ServiceCounter,
} from '../shared/layout.js';
import type { FrameCounts } from '../native.js';
import { DROP_REASONS } from '../dataplane/verdict.js';

export { DROP_REASONS };

/** Room that the layout keeps for drop reasons. */
const REASON_SLOTS = CounterBlock.ports - CounterBlock.reasons;

/** The two shared blocks of one worker, zeroed. */
export interface WorkerBlocks {
  /** Float64Array of CounterBlock.SIZE; the worker writes it. */
  counters: SharedArrayBuffer;
  /** Int32Array of ControlWord.SIZE, touched with Atomics only. */
  control: SharedArrayBuffer;
}

/** New blocks for a worker. About 4.3 MiB of address space; pages that no counter touches cost no memory. */
export function allocateWorkerBlocks(): WorkerBlocks {
  return {
    counters: new SharedArrayBuffer(CounterBlock.SIZE * Float64Array.BYTES_PER_ELEMENT),
    control: new SharedArrayBuffer(ControlWord.SIZE * Int32Array.BYTES_PER_ELEMENT),
  };
}

/**
 * The counters of the worker that serves one queue, over all its lives: a restarted worker starts a new block at zero,
 * and what its predecessors counted is kept here, so that no counter ever goes down. Gauges are the living worker's.
 */
export class WorkerCounters {
  /** What former blocks had counted; null while there was no restart, which saves 4.3 MiB. */
  private base: Float64Array | null = null;
  private current: Float64Array;

  constructor(
    readonly queue: number,
    block: SharedArrayBuffer = allocateWorkerBlocks().counters,
  ) {
    this.current = viewOf(block);
  }

  /** The block that the living worker writes to. */
  get block(): SharedArrayBuffer {
    return this.current.buffer as SharedArrayBuffer;
  }

  /**
   * Call when the worker has ended, before its successor starts: keeps what it counted and returns a new block for the
   * successor. The old block is never read again, so a late write of a dying worker harms nothing.
   */
  renew(block: SharedArrayBuffer = allocateWorkerBlocks().counters): SharedArrayBuffer {
    const base = (this.base ??= new Float64Array(CounterBlock.SIZE));
    const ended = this.current;
    for (let i = 0; i < CounterBlock.SIZE; i++) if (ended[i] !== 0) base[i] += ended[i];
    clearGauges(base);
    this.current = viewOf(block);
    return block;
  }

  private at(index: number): number {
    return this.base === null ? this.current[index] : this.current[index] + this.base[index];
  }

  total(counter: Counter): number {
    return this.at(CounterBlock.totals + counter);
  }

  /** Packets dropped for a DropReason. */
  reason(reason: number): number {
    return this.at(CounterBlock.reasons + reason);
  }

  port(port: number, counter: PortCounter): number {
    return this.at(CounterBlock.ports + port * PortCounter.SIZE + counter);
  }

  service(service: number, counter: ServiceCounter): number {
    return this.at(CounterBlock.services + service * ServiceCounter.SIZE + counter);
  }

  backend(backend: number, counter: BackendCounter): number {
    return this.at(CounterBlock.backends + backend * BackendCounter.SIZE + counter);
  }

  rule(rule: number, counter: RuleCounter): number {
    return this.at(CounterBlock.rules + rule * RuleCounter.SIZE + counter);
  }

  /** Packets dropped by the module filter at a position of the chain. */
  filter(position: number): number {
    return this.at(CounterBlock.filters + position);
  }

  /** Frames by owner in this worker's UMEM. Its ports share the UMEM, so the first port in use speaks for all. */
  frames(): FrameCounts {
    for (let port = 0; port < MAX_PORTS; port++) {
      const total = this.port(port, PortCounter.framesTotal);
      if (total === 0) continue;
      return {
        free: this.port(port, PortCounter.framesFree),
        fill: this.port(port, PortCounter.framesFill),
        rx: this.port(port, PortCounter.framesRx),
        tx: this.port(port, PortCounter.framesTx),
        held: this.port(port, PortCounter.framesHeld),
        total,
      };
    }
    return { free: 0, fill: 0, rx: 0, tx: 0, held: 0, total: 0 };
  }

  /**
   * Identities of the living worker's block that do not hold, in words; [] when all is well. The worker may be in the
   * middle of writing, so only what fails in three readings in a row is reported. Blocks of ended workers are not
   * judged: a worker that was killed may have died between two stores.
   */
  check(): string[] {
    let violated = this.checkOnce();
    for (let again = 0; again < 2 && violated.size > 0; again++) {
      const next = this.checkOnce();
      violated = new Map([...next].filter(([identity]) => violated.has(identity)));
    }
    return [...violated.values()];
  }

  private checkOnce(): Map<string, string> {
    const block = this.current;
    const violated = new Map<string, string>();
    const expect = (identity: string, left: number, right: number): void => {
      if (left !== right) violated.set(identity, `queue ${this.queue}: ${identity}: ${left} ≠ ${right}`);
    };
    const settled =
      block[Counter.drop] + block[Counter.pass] + block[Counter.tx] + block[Counter.redirect] + block[Counter.aborted];
    const heldNow = block[Counter.framesHeld];
    expect('rx = drop + pass + tx + redirect + aborted + held', block[Counter.rx], settled + heldNow);
    let reasons = 0;
    for (let reason = 0; reason < REASON_SLOTS; reason++) reasons += block[CounterBlock.reasons + reason];
    expect('sum of drop reasons = drop + aborted', reasons, block[Counter.drop] + block[Counter.aborted]);
    for (let port = 0; port < MAX_PORTS; port++) {
      const at = CounterBlock.ports + port * PortCounter.SIZE;
      const frames =
        block[at + PortCounter.framesFree] +
        block[at + PortCounter.framesFill] +
        block[at + PortCounter.framesRx] +
        block[at + PortCounter.framesTx] +
        block[at + PortCounter.framesHeld];
      expect(`port ${port}: frames free + fill + rx + tx + held = total`, frames, block[at + PortCounter.framesTotal]);
    }
    return violated;
  }
}

function viewOf(block: SharedArrayBuffer): Float64Array {
  const bytes = CounterBlock.SIZE * Float64Array.BYTES_PER_ELEMENT;
  if (block.byteLength < bytes) throw new RangeError(`a counter block has ${bytes} bytes, not ${block.byteLength}`);
  return new Float64Array(block, 0, CounterBlock.SIZE);
}

/** Zeroes what is a state and not a sum: an ended worker has no flows and no frames. */
function clearGauges(base: Float64Array): void {
  base[Counter.flows] = 0;
  base[Counter.generation] = 0;
  base[Counter.framesHeld] = 0;
  base[Counter.challengeActive] = 0;
  base[Counter.connections] = 0;
  base[Counter.tcpLearning] = 0;
  base[Counter.programsCompiled] = 0;
  base[Counter.programsInterpreted] = 0;
  for (let port = 0; port < MAX_PORTS; port++) {
    const at = CounterBlock.ports + port * PortCounter.SIZE;
    base.fill(0, at + PortCounter.framesFree, at + PortCounter.framesHeld + 1);
  }
  for (let backend = 0; backend < MAX_BACKENDS; backend++) {
    base[CounterBlock.backends + backend * BackendCounter.SIZE + BackendCounter.flows] = 0;
  }
}

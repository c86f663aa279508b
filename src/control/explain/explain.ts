/**
 * What the data path does with one packet, and why.
 *
 * Verdict and bytes are those of the path itself, run over the packet and those before it (replay_path.ts). The reasons come from the
 * same tables and functions, asked at the moment when the path comes to each stage.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Packet } from '../../dataplane/packet/packet.js';
import { DROP_REASONS, VERDICTS, Verdict } from '../../dataplane/verdict.js';
import type { Capture } from '../../pcap/capture.js';
import { CounterBlock } from '../../shared/layout.js';
import { ReplayPath, setUp, type ReplaySetup, type SetupOptions } from '../replay_path.js';
import { BalanceExplainer } from './balance.js';
import type { Explanation, Step } from './document.js';
import { encapsulationStep } from './encapsulation.js';
import { watchFilters } from './filters.js';
import { headersOf, hexOf } from './headers.js';
import type { ExplainInput } from './input.js';
import { TableNames } from './names.js';
import { observed } from './observe.js';
import { copyOf, explainParse } from './parse.js';

export interface ExplainOptions extends SetupOptions {
  input: ExplainInput;
  /** What a running daemon has that the file of its config does not. */
  live?: string[];
  signal?: AbortSignal;
}

/** What the path did, beside the document: for tests that hold the one against the other. */
export interface Explained {
  explanation: Explanation;
  /** Number of the backend: that the explanation came to (null: it does not say), and that the path has sent the packet to (-1: none). */
  expectedBackend: number | null;
  backend: number;
}

/** Bursts between two looks at the event loop. */
const TURN_BURSTS = 4096;

/** @throws SluiceError as `setUp` does; SLUICE_USAGE for a frame that is not in the capture. */
export async function explain(options: ExplainOptions): Promise<Explained> {
  const setup = await setUp(options);
  const run = new ExplainRun(setup, options.input.capture, options.input.position);
  for (let bursts = 0; !run.passed; bursts++) {
    if (bursts % TURN_BURSTS === 0) {
      options.signal?.throwIfAborted();
      if (bursts > 0) await turn();
    }
    run.next();
  }
  return run.explained(options);
}

class ExplainRun {
  private readonly replay: ReplayPath;
  private readonly names: TableNames;
  private readonly balance: BalanceExplainer;
  private readonly guePorts: ReadonlySet<number>;
  private steps: Step[] = [];
  private expectedBackend: number | null = -1;
  private backend = -1;
  private error: string | null = null;
  private before: Float64Array = new Float64Array(0);
  private verdict: Explanation['verdict'] | null = null;
  private output: Explanation['output'] = null;
  private counters: Explanation['counters'] = [];
  private clockMs = 0;
  /** Position of the frame that comes next. */
  private following = 0;
  passed = false;

  constructor(
    private readonly setup: ReplaySetup,
    private readonly capture: Capture,
    private readonly position: number,
  ) {
    const { config, tables, numbers } = setup;
    this.names = new TableNames(numbers, config.filters);
    this.replay = new ReplayPath(setup, capture, {
      lockstep: true,
      watch: {
        balancer: (balancer) =>
          observed(balancer, { balance: (call, args) => this.balanced(call, args as [Packet, number]) }),
        chain: (chain, block) =>
          watchFilters(chain, setup, block, {
            isTarget: (packet) => this.isTarget(packet),
            nowMs: () => this.replay.nowMs,
            step: (step) => this.steps.push(step),
          }),
        threw: (error) => {
          if (this.following > position) this.error = error instanceof Error ? error.message : String(error);
        },
      },
    });
    this.balance = new BalanceExplainer(setup, this.replay.balancer, this.names);
    const backendPorts = config.services.map(({ encapsulation }) => encapsulation.gue.port);
    this.guePorts = new Set([...tables.settings.decapsulate.guePorts, ...backendPorts]);
  }

  private isTarget(packet: Packet): boolean {
    return this.replay.input.positionIn(packet.dataHardStart) === this.position;
  }

  private balanced(call: (...args: unknown[]) => unknown, args: [Packet, number]): unknown {
    const [packet, nowMs] = args;
    if (!this.isTarget(packet)) return call(...args);
    const { steps, backend } = this.balance.explain(packet, nowMs);
    this.steps.push(...steps);
    this.expectedBackend = backend;
    const { sender } = this.replay.balancer;
    sender.backend = -1;
    const before = { bytes: packet.l3Length, family: packet.family };
    const verdict = call(...args);
    this.backend = sender.backend;
    if (this.backend >= 0) {
      this.steps.push(encapsulationStep(this.setup, this.replay.balancer, this.names, this.backend, before));
    }
    return verdict;
  }

  /** One burst: a frame, or frames that were held. */
  next(): void {
    const { replay, position } = this;
    const { input, path } = replay;
    if (this.comesNext()) this.arm();
    const count = path.pollOnce(input);
    if (count === 0) {
      // What is to be explained fits no frame, or the file ends.
      if (input.done) this.passed = true;
      return;
    }
    for (let slot = 0; slot < count; slot++) {
      const at = input.positionIn(input.burst.offset[slot] & -input.chunkSize);
      this.following = Math.max(this.following, at + 1);
      if (at === position) this.judged(slot);
    }
    replay.sweep();
  }

  /** Whether the next burst has the frame: it is next, or all before it are too long to be received. */
  private comesNext(): boolean {
    const { input } = this.replay;
    const room = input.chunkSize - input.headroom;
    for (let i = this.following; i < this.position; i++) {
      if (this.capture.packet(i).data.length <= room) return false;
    }
    return !this.passed;
  }

  private arm(): void {
    const { replay } = this;
    this.before = replay.block.slice();
    // Packets that go the short way meet the same tables, but none of the stages that are watched.
    replay.path.takesShortWay = false;
    const { data } = this.capture.packet(this.position);
    const { headroom, chunkSize } = replay.input;
    if (data.length > chunkSize - headroom) return;
    this.steps = explainParse(copyOf(data, headroom, chunkSize), replay.snapshot);
    this.following = this.position + 1;
  }

  private judged(slot: number): void {
    const { replay, setup } = this;
    const { burst } = replay.input;
    const verdict = burst.verdict[slot] as Verdict;
    this.clockMs = replay.input.clockMs;
    replay.tick();
    this.counters = this.names.changes(this.before, replay.block);
    const moved = (at: number): boolean => replay.block[at] !== this.before[at];
    const reason = DROP_REASONS.findIndex((_, i) => moved(CounterBlock.reasons + i));
    const leaves = verdict === Verdict.Tx ? setup.arrival : verdict === Verdict.Redirect ? burst.target[slot] : -1;
    const key = this.backend < 0 ? null : this.names.backendKey(this.backend);
    this.verdict = {
      verdict: VERDICTS[verdict] as Explanation['verdict']['verdict'],
      reason: reason < 0 ? null : DROP_REASONS[reason],
      interface: leaves < 0 ? null : setup.names[leaves],
      service: key === null ? this.serviceOfSteps() : key.slice(0, key.lastIndexOf('/')),
      backend: this.backend < 0 ? null : this.names.backend(this.backend),
      error: this.error,
    };
    if (verdict === Verdict.Tx || verdict === Verdict.Redirect || verdict === Verdict.Pass) {
      const bytes = replay.pool.bytes(burst.offset[slot], burst.length[slot]).slice();
      const changed = Buffer.compare(bytes, this.capture.packet(this.position).data) !== 0;
      this.output = { bytes: bytes.length, hex: hexOf(bytes), headers: headersOf(bytes, this.guePorts), changed };
    }
    this.passed = true;
  }

  private serviceOfSteps(): string | null {
    const found = this.steps.find(({ stage, detail }) => stage === 'service' && detail.service !== undefined);
    return found === undefined ? null : found.result;
  }

  explained({ input, live }: ExplainOptions): Explained {
    const { setup } = this;
    const packet = this.capture.packet(this.position);
    const tooLong = {
      verdict: 'lost',
      reason: null,
      interface: null,
      service: null,
      backend: null,
      error: null,
    } as const;
    if (this.verdict === null) {
      this.steps = [
        {
          stage: 'parse',
          result: 'lost',
          because: ['longer than a frame of the config: no device would have delivered it; set frames.size: 4096'],
          detail: {},
        },
      ];
    }
    const explanation: Explanation = {
      input: { text: input.text, file: input.file, frame: input.frame, before: this.position },
      config: { path: setup.config.path, live: live ?? [] },
      frame: {
        bytes: packet.data.length,
        wireBytes: packet.originalLength,
        port: { index: setup.arrival, name: setup.names[setup.arrival] },
        clockMs: this.clockMs,
        hex: hexOf(packet.data),
        headers: headersOf(packet.data, this.guePorts),
      },
      steps: this.steps,
      verdict: this.verdict ?? tooLong,
      output: this.output,
      counters: this.counters,
    };
    return { explanation, expectedBackend: this.expectedBackend, backend: this.backend };
  }
}

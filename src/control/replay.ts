/**
 * Runs a configuration's whole data path over a capture file, without root, network or addon: what would sluice have done to these
 * packets? The same code judges them as in a worker; only the port is another (dataplane/ports/pcap.ts).
 *
 * Deterministic: the clock is the capture's, hashes are keyed by the config and by constants, next hops that nobody gives are made
 * up from the backends' addresses. Equal config and capture make an equal report and an equal output file.
 */
import { realpathSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { SluiceError } from '../errors.js';
import type { PcapOutput } from '../dataplane/ports/pcap.js';
import { readCapture, type Capture } from '../pcap/capture.js';
import { PcapngWriter } from '../pcap/pcapng_writer.js';
import type { Config } from '../shared/config.js';
import { PortCounter } from '../shared/layout.js';
import { ReplayPath, setUp, type ReplaySetup } from './replay_path.js';
import { countersReport, PacketWords, type ReplayReport } from './replay_report.js';
import type { NextHop } from './routes.js';

export type { ReplayReport } from './replay_report.js';
export type { PcapOutput } from '../dataplane/ports/pcap.js';

export interface ReplayOptions {
  config: Config;
  /** Path or bytes of a pcap or pcapng file. */
  input: string | Uint8Array;
  /** Path of a pcapng file to write, or a writer, which stays the caller's to close. */
  output?: string | PcapngWriter;
  /** Which packets are written: default tx, redirect and pass. */
  outputs?: Iterable<PcapOutput>;
  /** The interface of the config that the packets came in on; default its first. */
  interface?: string;
  /** Ways to backends that are known, by address text; the others are made up on the packets' own interface, with MTU 1500. */
  nextHops?: ReadonlyMap<string, NextHop>;
  /**
   * false: bursts as the config has them, faster, and comments in the output name only the verdict. Default true: a packet at a time,
   * each commented with its reason, rule, filter, service and backend.
   */
  lockstep?: boolean;
  /** false: packets before the damage of a damaged capture are replayed, and the report tells of it. Default true: refused. */
  strict?: boolean;
  /** Ends the replay early, by throwing its reason. */
  signal?: AbortSignal;
}

/** Bursts between two looks at the event loop, so that an interrupt gets through. */
const TURN_BURSTS = 4096;

const MAX_ERRORS = 10;

/**
 * @throws SluiceError SLUICE_FORMAT for a capture that cannot be read, SLUICE_CONFIG for a config that cannot be carried out, SLUICE_USAGE
 * for files and interfaces that are not there. The output file is created only after all of these.
 */
export async function replay(options: ReplayOptions): Promise<ReplayReport> {
  const { config } = options;
  const capture = readCapture(options.input, { strict: options.strict ?? true });
  const setup = await setUp(options);
  const writer = openOutput(options);
  try {
    const run = new Run(setup, capture, options, writer);
    const words = (options.lockstep ?? true) && writer ? new PacketWords(config, setup.numbers, run.counters) : null;
    await run.toEnd(words, options.signal);
    return { ...run.report(), ...countersReport(config, setup.numbers, run.counters) };
  } finally {
    if (typeof options.output === 'string') writer?.close();
  }
}

/** Plays the capture to its end, and reports. */
class Run extends ReplayPath {
  private readonly errors: ReplayReport['errors'] = [];
  private readonly writtenBefore: number;

  constructor(
    setup: ReplaySetup,
    private readonly capture: Capture,
    options: ReplayOptions,
    private readonly writer: PcapngWriter | undefined,
  ) {
    super(setup, capture, { writer, outputs: options.outputs, lockstep: options.lockstep ?? true });
    this.writtenBefore = writer?.packets ?? 0;
  }

  async toEnd(words: PacketWords | null, signal: AbortSignal | undefined): Promise<void> {
    const { input, path } = this;
    let text = '';
    if (words) input.annotate = () => text;
    for (let bursts = 0; !input.done; bursts++) {
      if (bursts % TURN_BURSTS === 0) {
        signal?.throwIfAborted();
        if (bursts > 0) await turn();
      }
      const count = path.pollOnce(input);
      // The packet judged before was settled, and with it written, by this pollOnce.
      if (words) text = words.next();
      if (count > 0) this.sweep();
    }
    this.end();
  }

  protected override note(error: unknown, chunk: number): void {
    if (this.errors.length >= MAX_ERRORS) return;
    const message = error instanceof Error ? error.message : String(error);
    this.errors.push({ packet: this.input.positionIn(chunk) + 1, message });
  }

  /** All that is not in the data path's counters. */
  report() {
    const frames = this.pool.counts();
    const violations = this.counters.check();
    if (frames.free !== frames.total) {
      violations.push(`${frames.total - frames.free} of ${frames.total} frames did not come back`);
    }
    return {
      captured: this.capture.length,
      cut: this.input.cut,
      tooLong: this.input.counters[PortCounter.kernelRxDropped],
      written: (this.writer?.packets ?? 0) - this.writtenBefore,
      errors: this.errors,
      damage: this.capture.damage?.message ?? null,
      durationMs: this.input.clockMs,
      violations,
    };
  }
}

function openOutput({ input, output }: ReplayOptions): PcapngWriter | undefined {
  if (typeof output !== 'string') return output;
  if (typeof input === 'string' && sameFile(input, output)) {
    throw new SluiceError('SLUICE_USAGE', `${output} is the capture that is read`, 'Write to another file.');
  }
  return PcapngWriter.open(output);
}

function sameFile(a: string, b: string): boolean {
  try {
    return realpathSync(a) === realpathSync(b);
  } catch {
    // The output is not there yet.
    return false;
  }
}
